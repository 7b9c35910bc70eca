// SPDX-License-Identifier: Apache-2.0
//! What a cluster is to be, and kind's file for it.

use std::fmt;

use serde::Serialize;

/// What every cluster's name begins with, so that they can be found again.
pub const NAME_PREFIX: &str = "nic2pod-";
/// Addresses of pods; the netns lab's.
pub const POD_SUBNET: &str = "10.244.0.0/16";
/// Addresses of Services; the netns lab's.
pub const SERVICE_SUBNET: &str = "10.96.0.0/16";
/// Longest name: with `-control-plane` behind it, it is a node's host name, at most 63 characters
/// (RFC 1123).
const NAME_MAX: usize = 49;

/// What kube-proxy is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KubeProxy {
    /// `mode: iptables`.
    Iptables,
    /// `mode: ipvs`; it may fall back to iptables in silence.
    Ipvs,
    /// `mode: nftables`, from Kubernetes 1.29.
    Nftables,
    /// No kube-proxy.
    None,
}

impl fmt::Display for KubeProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
            Self::None => "none",
        })
    }
}

/// A cluster to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name; see [`cluster_name`].
    pub name: String,
    /// Nodes: one of the control plane, the others workers; at least 1.
    pub nodes: u32,
    /// kube-proxy.
    pub kube_proxy: KubeProxy,
    /// Whether kind installs the CNI of its image (kindnet). Without, nodes are not ready until
    /// somebody else wires pods.
    pub default_cni: bool,
}

/// The version of Kubernetes, major and minor, that an image's tag tells.
pub fn version_of(image: &str) -> Option<(u32, u32)> {
    let (_, tag) = image.rsplit_once(":v")?;
    let mut numbers = tag.split(['.', '-', '@']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Name of the `n`-th cluster of a run: `nic2pod-<end of the run's id>-<n>`, in the letters that
/// names of hosts may have.
pub fn cluster_name(run_id: &str, n: u32) -> String {
    let allowed: Vec<char> = run_id
        .chars()
        .map(|letter| letter.to_ascii_lowercase())
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    let number = n.to_string();
    let room = NAME_MAX - NAME_PREFIX.len() - number.len() - 1;
    let end: String = allowed[allowed.len().saturating_sub(room)..].iter().collect();
    format!("{NAME_PREFIX}{}-{number}", end.trim_matches('-'))
}

/// Flags of the controller manager. Thousands of Services are made at once: with the defaults, 20
/// requests a second, their endpoints would be what is waited for.
const CONTROLLER_MANAGER: [(&str, &str); 4] = [
    // kind's own, which a list of flags would replace.
    ("enable-hostpath-provisioner", "true"),
    ("kube-api-burst", "1000"),
    ("kube-api-qps", "500"),
    ("mirroring-concurrent-service-endpoint-syncs", "20"),
];
/// Versions of kubeadm's file in which flags are a map; a patch is for one version
/// (sigs.k8s.io/kind, pkg/cluster/internal/patch).
const FLAGS_AS_MAP: [&str; 2] = ["v1beta2", "v1beta3"];
/// The version in which they are a list.
const FLAGS_AS_LIST: &str = "v1beta4";

/// A cluster lives no longer than its containers, whose /tmp is in memory: each Service is several
/// writes, one after the other, that a disk would have to confirm.
const IN_MEMORY: Etcd = Etcd { local: Local { data_dir: "/tmp/etcd" } };

impl ClusterConfig {
    /// kind's configuration file (`kind.x-k8s.io/v1alpha4`).
    pub fn yaml(&self) -> String {
        let worker = (1..self.nodes.max(1)).map(|_| "worker");
        let file = File {
            kind: "Cluster",
            api_version: "kind.x-k8s.io/v1alpha4",
            name: &self.name,
            networking: Networking {
                // The Engine chooses: a port that is free in this process's network namespace
                // says nothing about the host's.
                api_server_port: -1,
                disable_default_cni: !self.default_cni,
                kube_proxy_mode: self.kube_proxy,
                pod_subnet: POD_SUBNET,
                service_subnet: SERVICE_SUBNET,
            },
            kubeadm_config_patches: patches(),
            nodes: std::iter::once("control-plane")
                .chain(worker)
                .map(|role| Node { role })
                .collect(),
        };
        yaml(&file)
    }
}

fn patches() -> Vec<String> {
    let as_map = FLAGS_AS_MAP.map(|version| {
        yaml(&Patch {
            kind: "ClusterConfiguration",
            api_version: format!("kubeadm.k8s.io/{version}"),
            etcd: IN_MEMORY,
            controller_manager: Component {
                extra_args: std::collections::BTreeMap::from(CONTROLLER_MANAGER),
            },
        })
    });
    let as_list = yaml(&Patch {
        kind: "ClusterConfiguration",
        api_version: format!("kubeadm.k8s.io/{FLAGS_AS_LIST}"),
        etcd: IN_MEMORY,
        controller_manager: Component {
            extra_args: CONTROLLER_MANAGER.map(|(name, value)| Flag { name, value }),
        },
    });
    as_map.into_iter().chain([as_list]).collect()
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).expect("maps with text as keys can be written as YAML")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    kind: &'static str,
    api_version: &'static str,
    name: &'a str,
    networking: Networking,
    kubeadm_config_patches: Vec<String>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    api_server_port: i32,
    #[serde(rename = "disableDefaultCNI")]
    disable_default_cni: bool,
    kube_proxy_mode: KubeProxy,
    pod_subnet: &'static str,
    service_subnet: &'static str,
}

#[derive(Serialize)]
struct Node {
    role: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Patch<A> {
    kind: &'static str,
    api_version: String,
    etcd: Etcd,
    controller_manager: Component<A>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component<A> {
    extra_args: A,
}

#[derive(Serialize)]
struct Flag {
    name: &'static str,
    value: &'static str,
}

#[derive(Clone, Copy, Serialize)]
struct Etcd {
    local: Local,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Local {
    data_dir: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_file_is_what_kind_reads() {
        let config = ClusterConfig {
            name: "nic2pod-7f3a-1".to_owned(),
            nodes: 2,
            kube_proxy: KubeProxy::Iptables,
            default_cni: false,
        };
        insta::assert_snapshot!(config.yaml());
    }

    #[test]
    fn without_kube_proxy_and_with_its_own_cni_a_single_node_is_the_control_plane() {
        let config = ClusterConfig {
            name: "nic2pod-7f3a-1".to_owned(),
            nodes: 1,
            kube_proxy: KubeProxy::None,
            default_cni: true,
        };
        let yaml = config.yaml();
        assert!(yaml.contains("kubeProxyMode: none"), "{yaml}");
        assert!(yaml.contains("disableDefaultCNI: false"), "{yaml}");
        assert_eq!(yaml.matches("role:").count(), 1, "{yaml}");
    }

    #[test]
    fn a_tag_tells_the_version_or_does_not() {
        assert_eq!(version_of("kindest/node:v1.31.4@sha256:0123"), Some((1, 31)));
        assert_eq!(version_of("registry:5000/node:v1.20.2-rc.1"), Some((1, 20)));
        assert_eq!(version_of("kindest/node:latest"), None);
        assert_eq!(version_of("node"), None);
    }

    #[test]
    fn names_are_host_names_and_keep_the_end_of_the_runs_id() {
        assert_eq!(cluster_name("20260101T120000Z-7f3a", 2), "nic2pod-20260101t120000z-7f3a-2");
        let long = cluster_name(&"x".repeat(200), 12);
        assert_eq!(long.len(), NAME_MAX, "{long}");
        assert!(long.ends_with("x-12"), "{long}");
        assert_eq!(cluster_name("_a_b", 1), "nic2pod-a-b-1");
    }
}
