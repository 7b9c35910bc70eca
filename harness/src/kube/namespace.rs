// SPDX-License-Identifier: Apache-2.0
//! The namespace that a run puts its objects into, and what runs before it left behind.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Namespace as Object, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api as Objects, ResourceExt};

use super::watch::{Awaited, Which, until};
use super::{Api, Jobs, KubeError};

/// Label of everything that this program makes, and its value.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "nic2pod");
/// Label with the run's id.
const RUN: &str = "nic2pod.dev/run";

/// A namespace of our own.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// Run it was made by; empty if its label is gone.
    pub run: String,
}

impl Namespace {
    /// Labels of what belongs to a run.
    pub(super) fn labels(run: &str) -> BTreeMap<String, String> {
        let (key, value) = MANAGED_BY;
        [(key.to_owned(), value.to_owned()), (RUN.to_owned(), run.to_owned())].into()
    }

    /// Makes a namespace for a run, of pods without privilege. Its name and the run's id have to be DNS
    /// labels.
    ///
    /// # Errors
    /// The API server refuses, for example because there is one of that name.
    pub async fn create(api: &Api, name: &str, run: &str) -> Result<Self, KubeError> {
        Self::create_for(api, name, run, false).await
    }

    /// The same, where pods may be `privileged`.
    ///
    /// # Errors
    /// As [`Namespace::create`].
    pub async fn create_for(
        api: &Api,
        name: &str,
        run: &str,
        privileged: bool,
    ) -> Result<Self, KubeError> {
        let mut labels = Self::labels(run);
        // The cluster's default may be `restricted`, which asks for a seccomp profile; one would
        // slow every system call that is timed. Servers before 1.23 do not know the label.
        let level = if privileged { "privileged" } else { "baseline" };
        labels.insert("pod-security.kubernetes.io/enforce".to_owned(), level.to_owned());
        let mut object = Object::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.labels = Some(labels);
        let namespaces: Objects<Object> = Objects::all(api.client());
        let created = namespaces.create(&PostParams::default(), &object).await;
        created.map_err(KubeError::api("create", format!("namespace {name}")))?;
        Ok(Self { name: name.to_owned(), run: run.to_owned() })
    }

    /// The namespaces of this program that are in the cluster, whichever run made them.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn leftovers(api: &Api) -> Result<Vec<Self>, KubeError> {
        let namespaces: Objects<Object> = Objects::all(api.client());
        let (key, value) = MANAGED_BY;
        let ours = ListParams::default().labels(&format!("{key}={value}"));
        let listed = namespaces.list(&ours).await;
        let listed = listed.map_err(KubeError::api("list", "nic2pod's namespaces"))?;
        let of = |object: Object| Self {
            name: object.name_any(),
            run: object.labels().get(RUN).cloned().unwrap_or_default(),
        };
        Ok(listed.items.into_iter().map(of).collect())
    }

    /// Begins to delete it with all that is in it, and does not wait. One that is gone already is
    /// fine.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn delete(&self, api: &Api) -> Result<(), KubeError> {
        // A Job's controller would make another pod in place of one that is gone.
        Jobs::forget(api, &self.name).await?;
        // Then pods, without grace: the namespace would give each its own.
        let pods: Objects<Pod> = Objects::namespaced(api.client(), &self.name);
        let at_once = DeleteParams::default().grace_period(0);
        let subject = format!("the pods of namespace {}", self.name);
        let deleted = pods.delete_collection(&at_once, &ListParams::default()).await;
        gone_is_fine(deleted).map_err(KubeError::api("delete", subject))?;
        let namespaces: Objects<Object> = Objects::all(api.client());
        let deleted = namespaces.delete(&self.name, &DeleteParams::default()).await;
        let subject = format!("namespace {}", self.name);
        gone_is_fine(deleted).map_err(KubeError::api("delete", subject))
    }

    /// Deletes it and waits until it is gone.
    ///
    /// # Errors
    /// The API server refuses, or it is still there at the deadline.
    pub async fn down(self, api: &Api, deadline: Instant) -> Result<(), KubeError> {
        let begun = Instant::now();
        self.delete(api).await?;
        let namespaces: Objects<Object> = Objects::all(api.client());
        let which = Which { fields: Some(format!("metadata.name={}", self.name)), labels: None };
        let gone = |seen: &BTreeMap<String, Object>| Ok(seen.is_empty().then_some(()));
        let subject = format!("namespace {}", self.name);
        match until(&namespaces, &which, &subject, deadline.into(), gone).await? {
            Awaited::Done(()) => Ok(()),
            Awaited::Late(seen) => Err(KubeError::Late {
                subject: format!("{subject} gone"),
                waited: begun.elapsed(),
                found: remaining(&seen),
            }),
        }
    }
}

/// What the namespace controller says is left to do.
fn remaining(seen: &BTreeMap<String, Object>) -> String {
    let status = seen.values().find_map(|object| object.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let open = conditions.iter().filter(|condition| condition.status == "True");
    let said: Vec<_> = open.filter_map(|condition| condition.message.as_deref()).collect();
    if said.is_empty() { "it is still terminating".to_owned() } else { said.join("; ") }
}

/// What was to be deleted and is not there is deleted.
pub(super) fn gone_is_fine<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
