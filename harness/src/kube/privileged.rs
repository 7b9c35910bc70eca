// SPDX-License-Identifier: Apache-2.0
//! A program that runs with all rights on nodes that are said: a DaemonSet (apps/v1) of a run's
//! namespace, and its pods.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Container, Event, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, Pod, PodTemplateSpec, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ListParams, PostParams};
use kube::{Api as Objects, ResourceExt};

use super::pod::{CONTAINER, Standing, standing};
use super::watch::{Awaited, Which, until};
use super::{KubeError, Namespace, PodSpec, Pods, RunningPod};
use crate::Unavailable;

/// Label that tells the DaemonSet's pods from others of the run.
const PART: &str = "nic2pod.dev/part";
/// What a runtime says where an image lacks the program.
const NO_SUCH: &str = "no such file or directory";

/// A program on nodes. Of `pod`, the name is the DaemonSet's and `node` is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileged {
    /// The program.
    pub pod: PodSpec,
    /// Names of the nodes.
    pub nodes: Vec<String>,
}

impl Privileged {
    /// The object. Pods see the node's processes, and have a network of their own.
    fn object(&self, labels: BTreeMap<String, String>) -> DaemonSet {
        let mut labels = labels;
        labels.insert(PART.to_owned(), self.pod.name.clone());
        let mut spec = self.pod.object(labels.clone()).spec.expect("a pod that was just made");
        spec.node_name = None;
        spec.restart_policy = None;
        spec.host_pid = Some(true);
        spec.affinity = Some(affinity(&self.nodes));
        let rights = SecurityContext {
            privileged: Some(true),
            run_as_user: Some(0),
            ..SecurityContext::default()
        };
        let with_rights =
            |container| Container { security_context: Some(rights.clone()), ..container };
        spec.containers = spec.containers.into_iter().map(with_rights).collect();
        let mut template = PodTemplateSpec { spec: Some(spec), ..PodTemplateSpec::default() };
        template.metadata.get_or_insert_default().labels = Some(labels.clone());
        let selector =
            LabelSelector { match_labels: Some(labels.clone()), match_expressions: None };
        let mut set = DaemonSet {
            spec: DaemonSetSpec { selector, template, ..DaemonSetSpec::default() },
            ..DaemonSet::default()
        };
        set.metadata.name = Some(self.pod.name.clone());
        set.metadata.labels = Some(labels);
        set
    }
}

/// Nodes by name. A field's requirement has one value only
/// (`pkg/apis/core/validation`, `ValidateNodeFieldSelectorRequirement`), and terms are alternatives.
fn affinity(nodes: &[String]) -> Affinity {
    let term = |node: &String| NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.clone()]),
        }]),
        match_expressions: None,
    };
    let terms = NodeSelector { node_selector_terms: nodes.iter().map(term).collect() };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(terms),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

impl Pods {
    /// Makes a DaemonSet and does not wait for its pods.
    ///
    /// # Errors
    /// [`Unavailable`] where the API server does not allow it.
    pub async fn create_privileged(&self, wanted: &Privileged) -> Result<(), KubeError> {
        self.await_service_account().await?;
        let sets: Objects<DaemonSet> = Objects::namespaced(self.api.client(), &self.namespace.name);
        let object = wanted.object(Namespace::labels(&self.namespace.run));
        match sets.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(not_allowed(status.message.clone()).into())
            }
            created => {
                let subject = format!("DaemonSet {}", wanted.pod.name);
                created.map(drop).map_err(KubeError::api("create", subject))
            }
        }
    }

    /// Waits until the program is ready on each of its nodes; returns its pods in the nodes' order.
    ///
    /// # Errors
    /// [`Unavailable`] where the cluster does not let such pods run, or the image lacks the program; one
    /// can never run, or not all are ready at the deadline.
    pub async fn await_privileged(
        &self,
        wanted: &Privileged,
        deadline: Instant,
    ) -> Result<Vec<RunningPod>, KubeError> {
        let begun = Instant::now();
        let name = &wanted.pod.name;
        let which = Which { labels: Some(format!("{PART}={name}")), fields: None };
        let subject = format!("the pods of DaemonSet {name}");
        let look = |seen: &BTreeMap<String, Pod>| {
            let mut ready: BTreeMap<String, RunningPod> = BTreeMap::new();
            for pod in seen.values() {
                if lacks_program(pod, &wanted.pod.command) {
                    return Err(KubeError::Unavailable(no_program(wanted)));
                }
                match standing(pod) {
                    Standing::Ready(pod) => drop(ready.insert(pod.node.clone(), pod)),
                    Standing::Over(found) => {
                        let subject = format!("pod {} ready", pod.name_any());
                        return Err(KubeError::Never { subject, found });
                    }
                    Standing::Waiting(_) => {}
                }
            }
            let all: Option<Vec<_>> = wanted.nodes.iter().map(|node| ready.remove(node)).collect();
            Ok(all)
        };
        match until(&self.objects, &which, &subject, deadline.into(), look).await? {
            Awaited::Done(ready) => Ok(ready),
            Awaited::Late(seen) => {
                let waiting = seen.values().filter_map(|pod| match standing(pod) {
                    Standing::Waiting(why) => Some(format!("{}: {why}", pod.name_any())),
                    _ => None,
                });
                let count = format!("{} pods for {} nodes", seen.len(), wanted.nodes.len());
                let found: Vec<_> = std::iter::once(count).chain(waiting).collect();
                Err(KubeError::Late {
                    subject: format!("{subject} ready"),
                    waited: begun.elapsed(),
                    found: found.join("; "),
                })
            }
        }
    }

    /// Whether the cluster lets pods of a DaemonSet be: what is not allowed shows in the DaemonSet's
    /// events only, because it is the controller that makes pods.
    ///
    /// # Errors
    /// [`Unavailable`] with the cluster's word.
    pub async fn privileged_are_let_be(&self, wanted: &Privileged) -> Result<(), KubeError> {
        let events: Objects<Event> = Objects::namespaced(self.api.client(), &self.namespace.name);
        let of_set =
            format!("involvedObject.kind=DaemonSet,involvedObject.name={}", wanted.pod.name);
        let listed = events.list(&ListParams::default().fields(&of_set).limit(50)).await;
        let subject = format!("the events of {}", self.namespace.name);
        let listed = listed.map_err(KubeError::api("list", subject))?;
        match listed.items.iter().find_map(forbidden) {
            Some(said) => Err(not_allowed(said).into()),
            None => Ok(()),
        }
    }
}

/// What an event says of a pod that may not be, if it does.
fn forbidden(event: &Event) -> Option<String> {
    let message = event.message.as_ref()?;
    let refused = event.reason.as_deref() == Some("FailedCreate") && message.contains("forbidden");
    refused.then(|| message.clone())
}

fn not_allowed(said: String) -> Unavailable {
    Unavailable::new(
        "a cluster that lets a namespace have privileged pods, for --probes",
        said,
        "a right to make them, or without --probes",
    )
}

fn no_program(wanted: &Privileged) -> Unavailable {
    let PodSpec { image, command, .. } = &wanted.pod;
    Unavailable::new(
        format!("an image with {}, for --probes", command.join(" ")),
        format!("{image} without it"),
        "cargo xtask lab image --probes FILE, push it to a registry, and --image REF",
    )
}

/// Whether a pod's container could not be started because there is no such program in its image. A
/// DaemonSet's pods are tried again and again, so that this is what they wait for.
fn lacks_program(pod: &Pod, command: &[String]) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    let ours = containers.unwrap_or_default().iter().filter(|status| status.name == CONTAINER);
    let says = |message: &Option<String>| {
        let program = command.first().map(String::as_str).unwrap_or_default();
        let missing = |said: &String| said.contains(program) && said.contains(NO_SUCH);
        message.as_ref().is_some_and(missing)
    };
    ours.flat_map(|status| [&status.state, &status.last_state]).flatten().any(|state| {
        let waiting = state.waiting.as_ref().is_some_and(|waiting| says(&waiting.message));
        waiting || state.terminated.as_ref().is_some_and(|ended| says(&ended.message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::PullPolicy;

    fn wanted() -> Privileged {
        Privileged {
            pod: PodSpec {
                name: "probe".to_owned(),
                node: String::new(),
                image: "nic2pod/agents:1".to_owned(),
                pull: PullPolicy::Never,
                command: vec!["/probe".to_owned()],
                args: vec!["agent".to_owned(), "probe".to_owned(), "0.0.0.0:8082".to_owned()],
                env: vec![("NIC2POD_TOKEN".to_owned(), "word".to_owned())],
                secret_env: Vec::new(),
                ready_port: Some(8082),
            },
            nodes: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn the_object_has_all_rights_on_the_nodes_that_are_said_and_listens_on_none() {
        let labels = BTreeMap::from([("app".to_owned(), "nic2pod".to_owned())]);
        insta::assert_json_snapshot!(wanted().object(labels));
    }

    #[test]
    fn an_image_without_the_program_is_known_by_the_runtimes_word() {
        let pod = |state: &str| -> Pod {
            let status = format!(
                "{{containerStatuses: [{{name: main, image: i, imageID: '', ready: false, \
                  restartCount: 1, state: {{waiting: {{reason: CrashLoopBackOff}}}}, lastState: {state}}}]}}"
            );
            serde_saphyr::from_str(&format!("{{metadata: {{name: p}}, status: {status}}}")).unwrap()
        };
        let command = wanted().pod.command;
        let missing = "{terminated: {exitCode: 128, reason: StartError, message: 'exec: \"/probe\": \
                       stat /probe: no such file or directory: unknown'}}";
        assert!(lacks_program(&pod(missing), &command));
        assert!(!lacks_program(&pod(&missing.replace("/probe", "/other")), &command));
        assert!(!lacks_program(&pod("{terminated: {exitCode: 1, reason: Error}}"), &command));
        assert!(no_program(&wanted()).found.contains("nic2pod/agents:1 without it"));
    }

    #[test]
    fn pods_that_may_not_be_are_known_by_the_controllers_word() {
        let event = |reason: &str, message: &str| Event {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            ..Event::default()
        };
        let said = "Error creating: pods \"probe-x\" is forbidden: violates PodSecurity \"baseline:latest\"";
        assert_eq!(forbidden(&event("FailedCreate", said)).as_deref(), Some(said));
        assert_eq!(forbidden(&event("FailedCreate", "Error creating: timeout")), None);
        assert_eq!(forbidden(&event("SuccessfulCreate", said)), None);
    }
}
