// SPDX-License-Identifier: Apache-2.0
//! Programs that run on every node (DaemonSets of apps/v1), awaited.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api as Objects, ResourceExt};

use super::pod::ended;
use super::watch::{Awaited, Which, until};
use super::{Api, KubeError};

/// A DaemonSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Api {
    /// The DaemonSets of a namespace.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn daemons(&self, namespace: &str) -> Result<Vec<Daemon>, KubeError> {
        let sets: Objects<DaemonSet> = Objects::namespaced(self.client(), namespace);
        let subject = format!("the DaemonSets of namespace {namespace}");
        let listed =
            sets.list(&Default::default()).await.map_err(KubeError::api("list", subject))?;
        let of = |set: DaemonSet| Daemon { namespace: namespace.to_owned(), name: set.name_any() };
        Ok(listed.items.into_iter().map(of).collect())
    }

    /// Waits until each of them is ready on every node that it is for.
    ///
    /// # Errors
    /// One is not at the deadline: what its pods wait for.
    pub async fn await_daemons(
        &self,
        daemons: &[Daemon],
        deadline: Instant,
    ) -> Result<(), KubeError> {
        for daemon in daemons {
            self.await_daemon(daemon, deadline).await?;
        }
        Ok(())
    }

    async fn await_daemon(&self, daemon: &Daemon, deadline: Instant) -> Result<(), KubeError> {
        let begun = Instant::now();
        let Daemon { namespace, name } = daemon;
        let sets: Objects<DaemonSet> = Objects::namespaced(self.client(), namespace);
        let which = Which { fields: Some(format!("metadata.name={name}")), labels: None };
        let subject = format!("DaemonSet {namespace}/{name}");
        let look = |seen: &BTreeMap<String, DaemonSet>| {
            Ok(seen.get(name).filter(|set| counts(set).is_ready()).map(|_| ()))
        };
        match until(&sets, &which, &subject, deadline.into(), look).await? {
            Awaited::Done(()) => Ok(()),
            Awaited::Late(seen) => {
                let Counts { wanted, ready, .. } = seen.get(name).map(counts).unwrap_or_default();
                let why = self.waiting(daemon).await?;
                let found = format!("{ready} of {wanted} pods are; {why}");
                let subject = format!("{subject} ready");
                Err(KubeError::Late { subject, waited: begun.elapsed(), found })
            }
        }
    }

    /// What the pods of a DaemonSet wait for.
    async fn waiting(&self, Daemon { namespace, name }: &Daemon) -> Result<String, KubeError> {
        let pods: Objects<Pod> = Objects::namespaced(self.client(), namespace);
        let subject = format!("the pods of DaemonSet {namespace}/{name}");
        let listed =
            pods.list(&Default::default()).await.map_err(KubeError::api("list", subject))?;
        let ours = |pod: &&Pod| {
            let mut owners = pod.owner_references().iter();
            owners.any(|owner| owner.kind == "DaemonSet" && owner.name == *name)
        };
        let said: Vec<_> = listed
            .iter()
            .filter(ours)
            .filter_map(|pod| Some(format!("{}: {}", pod.name_any(), obstacle(pod)?)))
            .collect();
        Ok(if said.is_empty() { "none of its pods says why".to_owned() } else { said.join("; ") })
    }
}

/// How far a DaemonSet is.
#[derive(Debug, Default)]
struct Counts {
    /// Whether the controller has looked at it as it is.
    seen: bool,
    wanted: i32,
    ready: i32,
}

impl Counts {
    /// One for other nodes than there are (Windows) is ready with none.
    fn is_ready(&self) -> bool {
        self.seen && self.ready >= self.wanted
    }
}

fn counts(set: &DaemonSet) -> Counts {
    let Some(status) = &set.status else { return Counts::default() };
    Counts {
        seen: status.observed_generation >= set.metadata.generation,
        wanted: status.desired_number_scheduled,
        ready: status.number_ready,
    }
}

/// What keeps a pod from being ready, its init containers first; `None` for one that is.
fn obstacle(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let of = |containers: &Option<Vec<ContainerStatus>>| {
        containers.as_deref().unwrap_or_default().iter().find_map(stuck)
    };
    let ready = status.conditions.as_deref().unwrap_or_default().iter();
    let mut not_ready = ready.filter(|is| is.type_ == "Ready" && is.status != "True");
    of(&status.init_container_statuses).or_else(|| of(&status.container_statuses)).or_else(|| {
        let condition = not_ready.next()?;
        condition.message.clone().or_else(|| condition.reason.clone())
    })
}

fn stuck(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let words = [&waiting.reason, &waiting.message];
        // An init container that has had no turn yet waits for those before it.
        let words: Vec<_> = words.into_iter().flatten().cloned().collect();
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let last = last.map(|last| format!("; it ended with {} before", last.exit_code));
        let own = words.first().is_some_and(|word| word != "PodInitializing");
        return own.then(|| {
            let words = words.join(": ");
            format!("container {} waits: {words}{}", container.name, last.unwrap_or_default())
        });
    }
    let failed = state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0);
    failed
        .then(|| ended(container))
        .flatten()
        .map(|how| format!("container {}: {how}", container.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> Pod {
        serde_saphyr::from_str(&format!("{{metadata: {{name: p}}, status: {status}}}")).unwrap()
    }

    #[test]
    fn a_pod_says_what_it_waits_for_its_init_containers_first() {
        let pulled = pod("{initContainerStatuses: [{name: i, image: x, imageID: '', ready: false,
              restartCount: 0, state: {waiting: {reason: ImagePullBackOff, message: no route}}}],
              containerStatuses: [{name: c, image: x, imageID: '', ready: false, restartCount: 0,
              state: {waiting: {reason: PodInitializing}}}]}");
        let said = obstacle(&pulled).unwrap();
        assert_eq!(said, "container i waits: ImagePullBackOff: no route");
        let ended = pod("{containerStatuses: [{name: c, image: x, imageID: '', ready: false,
              restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}},
              lastState: {terminated: {exitCode: 2}}}]}");
        let said = obstacle(&ended).unwrap();
        assert_eq!(said, "container c waits: CrashLoopBackOff; it ended with 2 before");
        let slow = pod("{conditions: [{type: Ready, status: 'False', message: 'not ready: [c]'}]}");
        assert_eq!(obstacle(&slow).unwrap(), "not ready: [c]");
        assert_eq!(obstacle(&pod("{conditions: [{type: Ready, status: 'True'}]}")), None);
    }

    #[test]
    fn one_that_nobody_has_looked_at_is_not_ready_and_one_for_no_node_is() {
        let set = |status: &str| -> DaemonSet {
            let head = "{metadata: {name: d, generation: 2}, status: ";
            serde_saphyr::from_str(&format!("{head}{status}}}")).unwrap()
        };
        let counted = |generation, wanted, ready| {
            set(&format!(
                "{{observedGeneration: {generation}, desiredNumberScheduled: {wanted}, \
                  numberReady: {ready}, currentNumberScheduled: 0, numberMisscheduled: 0}}"
            ))
        };
        assert!(!counts(&counted(1, 2, 2)).is_ready());
        assert!(!counts(&counted(2, 2, 1)).is_ready());
        assert!(counts(&counted(2, 2, 2)).is_ready());
        assert!(counts(&counted(2, 0, 0)).is_ready());
    }
}
