// SPDX-License-Identifier: Apache-2.0
//! Jobs of one pod each, on a node that is said, which nobody replaces: `backoffLimit: 0` and
//! `restartPolicy: Never` leave a failed one failed.

use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::Api as Objects;
use kube::api::{DeleteParams, ListParams, PostParams};

use super::namespace::gone_is_fine;
use super::{Api, KubeError, Namespace, PodSpec, Pods, RunningPod};

/// Requests under way at once.
const IN_FLIGHT: usize = 16;

/// The Jobs of a namespace.
#[derive(Clone)]
pub struct Jobs {
    namespace: Namespace,
    objects: Objects<Job>,
    pods: Pods,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Jobs {
    /// Those of `namespace`.
    pub fn new(api: &Api, namespace: &Namespace) -> Self {
        let objects = Objects::namespaced(api.client(), &namespace.name);
        Self { namespace: namespace.clone(), objects, pods: Pods::new(api, namespace) }
    }

    /// Makes a Job for each pod, of the pod's name, and waits until all pods run and are ready. Their own
    /// names are the controller's.
    ///
    /// # Errors
    /// The API server refuses one, or a pod ended or can never run, or not all are ready at the deadline;
    /// others may have been made.
    pub async fn start(
        &self,
        specs: &[PodSpec],
        deadline: Instant,
    ) -> Result<Vec<RunningPod>, KubeError> {
        self.pods.await_service_account().await?;
        let made = stream::iter(specs).map(|spec| self.create(spec)).buffer_unordered(IN_FLIGHT);
        made.try_for_each(|()| async { Ok(()) }).await?;
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        self.pods.await_ready_of_jobs(&names, deadline).await
    }

    async fn create(&self, spec: &PodSpec) -> Result<(), KubeError> {
        let job = object(spec, &self.namespace);
        let created = self.objects.create(&PostParams::default(), &job).await;
        created.map(drop).map_err(KubeError::api("create", format!("Job {}", spec.name)))
    }

    /// Deletes Jobs by name, and their pods at once; waits until the pods are gone, and with them their
    /// addresses.
    ///
    /// # Errors
    /// The API server refuses, or some pods are still there at the deadline.
    pub async fn delete(&self, jobs: &[(&str, &str)], deadline: Instant) -> Result<(), KubeError> {
        for (job, _) in jobs {
            // The Job first: its controller would make another pod in place of one that is gone.
            let deleted = self.objects.delete(job, &DeleteParams::background()).await;
            gone_is_fine(deleted).map_err(KubeError::api("delete", format!("Job {job}")))?;
        }
        let pods: Vec<&str> = jobs.iter().map(|(_, pod)| *pod).collect();
        self.pods.delete(&pods, deadline).await
    }

    /// Deletes all Jobs of a namespace and leaves their pods to who deletes these.
    pub(super) async fn forget(api: &Api, namespace: &str) -> Result<(), KubeError> {
        let jobs: Objects<Job> = Objects::namespaced(api.client(), namespace);
        let all = ListParams::default();
        let deleted = jobs.delete_collection(&DeleteParams::background(), &all).await;
        let subject = format!("the Jobs of namespace {namespace}");
        gone_is_fine(deleted).map_err(KubeError::api("delete", subject))
    }
}

fn object(spec: &PodSpec, namespace: &Namespace) -> Job {
    let labels = Namespace::labels(&namespace.run);
    let pod = spec.object(labels.clone());
    let mut template = PodTemplateSpec { spec: pod.spec, ..PodTemplateSpec::default() };
    template.metadata.get_or_insert_default().labels = Some(labels.clone());
    let one = JobSpec {
        completions: Some(1),
        parallelism: Some(1),
        backoff_limit: Some(0),
        template,
        ..JobSpec::default()
    };
    let mut job = Job { spec: Some(one), ..Job::default() };
    job.metadata.name = Some(spec.name.clone());
    job.metadata.labels = Some(labels);
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::PullPolicy;

    #[test]
    fn a_job_is_one_pod_on_its_node_that_nobody_replaces() {
        let spec = PodSpec {
            name: "worker-0".to_owned(),
            node: "a-worker".to_owned(),
            image: "nic2pod/agents:1".to_owned(),
            pull: PullPolicy::Never,
            command: vec!["/load".to_owned()],
            args: Vec::new(),
            secret_env: Vec::new(),
            env: Vec::new(),
            ready_port: Some(8081),
        };
        let namespace = Namespace { name: "nic2pod-r".to_owned(), run: "r".to_owned() };
        insta::assert_json_snapshot!(object(&spec, &namespace));
    }
}
