// SPDX-License-Identifier: Apache-2.0
//! The cluster's own DNS server.

use k8s_openapi::api::core::v1::Pod;
use kube::Api as Objects;
use kube::api::ListParams;

use super::pod::{Standing, standing};
use super::{Api, KubeError, RunningPod};

/// Where it runs.
const NAMESPACE: &str = "kube-system";
/// What its pods have been labelled with since kube-dns, CoreDNS's predecessor (kubeadm's manifests).
const LABEL: &str = "k8s-app=kube-dns";

impl Api {
    /// The pods on a node that serve the cluster's names and are ready.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn dns_pods(&self, node: &str) -> Result<Vec<RunningPod>, KubeError> {
        let pods: Objects<Pod> = Objects::namespaced(self.client(), NAMESPACE);
        let there = ListParams::default().labels(LABEL).fields(&format!("spec.nodeName={node}"));
        let subject = format!("the DNS server's pods on node {node}");
        let listed = pods.list(&there).await.map_err(KubeError::api("list", subject))?;
        let ready = listed.items.iter().filter_map(|pod| match standing(pod) {
            Standing::Ready(pod) => Some(pod),
            Standing::Waiting(_) | Standing::Over(_) => None,
        });
        Ok(ready.collect())
    }
}
