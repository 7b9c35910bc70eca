// SPDX-License-Identifier: Apache-2.0
//! The nodes of a cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use k8s_openapi::api::core::v1::Node as Object;
use kube::Api as Objects;
use kube::ResourceExt;

use super::watch::{Awaited, Which, until};
use super::{Api, KubeError};

/// A node as the API server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Its `InternalIP` of version 4: where its NodePorts are.
    pub address: Option<IpAddr>,
    /// Addresses of its pods, where the controller manager or the CNI has set them.
    pub pod_cidr: Option<String>,
    /// Whether its kubelet says that it can run pods.
    pub ready: bool,
    /// What the kubelet says where it is not ready.
    pub because: Option<String>,
    /// Whether pods without a toleration may run on it: no taint forbids them, and it is not
    /// cordoned.
    pub schedulable: bool,
    /// Whether it is labelled as one of the control plane.
    pub control_plane: bool,
    /// `linux/amd64`.
    pub platform: String,
    /// Kernel: `6.1.0-21-amd64`.
    pub kernel: String,
    /// Kubelet's version: `v1.20.2`.
    pub kubelet: String,
    /// kube-proxy's version as the kubelet states it; empty since Kubernetes 1.33.
    pub kube_proxy: String,
}

impl Node {
    fn of(object: &Object) -> Self {
        let status = object.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let address = addresses
            .iter()
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse::<Ipv4Addr>().ok())
            .map(IpAddr::V4);
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        let spec = object.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let forbids = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
        let info = status.and_then(|status| status.node_info.as_ref());
        let text = |read: fn(&k8s_openapi::api::core::v1::NodeSystemInfo) -> &String| {
            info.map(|info| read(info).clone()).unwrap_or_default()
        };
        let is_ready = ready.is_some_and(|condition| condition.status == "True");
        Self {
            name: object.name_any(),
            address,
            pod_cidr: spec.and_then(|spec| spec.pod_cidr.clone()),
            ready: is_ready,
            because: ready.filter(|_| !is_ready).and_then(|condition| condition.message.clone()),
            schedulable: !cordoned && !taints.iter().any(|taint| forbids(&taint.effect)),
            control_plane: object.labels().keys().any(|label| {
                // The second is the name it had until Kubernetes 1.24.
                label == "node-role.kubernetes.io/control-plane"
                    || label == "node-role.kubernetes.io/master"
            }),
            platform: format!(
                "{}/{}",
                text(|info| &info.operating_system),
                text(|info| &info.architecture)
            ),
            kernel: text(|info| &info.kernel_version),
            kubelet: text(|info| &info.kubelet_version),
            kube_proxy: text(|info| &info.kube_proxy_version),
        }
    }
}

impl Api {
    /// The cluster's nodes by name.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn nodes(&self) -> Result<Vec<Node>, KubeError> {
        let nodes: Objects<Object> = Objects::all(self.client());
        let listed = nodes.list(&Default::default()).await;
        let mut nodes: Vec<Node> = listed
            .map_err(KubeError::api("list", "the cluster's nodes"))?
            .iter()
            .map(Node::of)
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// Waits until the cluster has this many nodes at least and all it has are ready.
    ///
    /// # Errors
    /// They are not by the deadline; the kubelets' own words say why.
    pub async fn await_nodes_ready(
        &self,
        at_least: usize,
        deadline: Instant,
    ) -> Result<Vec<Node>, KubeError> {
        let objects: Objects<Object> = Objects::all(self.client());
        let begun = Instant::now();
        let read = |seen: &BTreeMap<String, Object>| seen.values().map(Node::of).collect();
        let look = |seen: &BTreeMap<String, Object>| {
            let nodes: Vec<Node> = read(seen);
            let done = nodes.len() >= at_least && nodes.iter().all(|node| node.ready);
            Ok(done.then_some(nodes))
        };
        let subject = "the cluster's nodes";
        match until(&objects, &Which::default(), subject, deadline.into(), look).await? {
            Awaited::Done(nodes) => Ok(nodes),
            Awaited::Late(seen) => {
                let nodes: Vec<Node> = read(&seen);
                let missing = nodes.iter().filter(|node| !node.ready).map(|node| {
                    let because = node.because.as_deref().unwrap_or("it has not said anything yet");
                    format!("{} is not ready: {because}", node.name)
                });
                let count = format!("{} of {at_least} nodes are there", nodes.len());
                let count = (nodes.len() < at_least).then_some(count);
                Err(KubeError::Late {
                    subject: "all nodes ready".to_owned(),
                    waited: begun.elapsed(),
                    found: missing.chain(count).collect::<Vec<_>>().join("; "),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        Node::of(&serde_saphyr::from_str(text).unwrap())
    }

    #[test]
    fn a_control_plane_node_without_a_network_is_told_with_its_reason() {
        let node = node(
            "
metadata: {name: a-control-plane, labels: {node-role.kubernetes.io/master: ''}}
spec: {podCIDR: 10.244.0.0/24, taints: [{key: node-role.kubernetes.io/master, effect: NoSchedule}]}
status:
  addresses:
  - {type: Hostname, address: a-control-plane}
  - {type: InternalIP, address: 'fc00::2'}
  - {type: InternalIP, address: 172.18.0.2}
  conditions:
  - {type: Ready, status: 'False', message: 'cni plugin not initialized'}
  nodeInfo: {kubeletVersion: v1.20.2, operatingSystem: linux, architecture: amd64}
",
        );
        assert_eq!(node.address, Some(IpAddr::from([172, 18, 0, 2])));
        assert_eq!(node.pod_cidr.as_deref(), Some("10.244.0.0/24"));
        assert_eq!(node.because.as_deref(), Some("cni plugin not initialized"));
        assert!(!node.ready && !node.schedulable && node.control_plane);
        assert_eq!((&*node.platform, &*node.kubelet), ("linux/amd64", "v1.20.2"));
    }

    #[test]
    fn a_taint_that_only_asks_to_go_elsewhere_forbids_nothing() {
        let soft = node(
            "{metadata: {name: a}, spec: {taints: [{key: k, effect: PreferNoSchedule}]},
              status: {conditions: [{type: Ready, status: 'True', message: posting}]}}",
        );
        assert!(soft.schedulable && soft.ready && soft.because.is_none());
        let cordoned = node("{metadata: {name: a}, spec: {unschedulable: true}}");
        assert!(!cordoned.schedulable && !cordoned.ready);
    }
}
