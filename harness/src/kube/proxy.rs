// SPDX-License-Identifier: Apache-2.0
//! The cluster's kube-proxy: how it is configured, and what it says that it runs as.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api as Objects;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use serde::Deserialize;

use super::{Api, KubeError};
use crate::plan::Mode;

const NAMESPACE: &str = "kube-system";
/// The label kubeadm gives its pods.
const LABEL: &str = "k8s-app=kube-proxy";
/// kube-proxy says its mode within its first lines.
const LOG_BYTES: i64 = 64 * 1024;

/// kube-proxy as configured (ConfigMap `kube-system/kube-proxy`, as kubeadm makes it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeProxy {
    /// Mode it is told to run in; where nothing is said, iptables, its default on Linux.
    pub mode: Mode,
    /// Addresses of all pods, if it was told.
    pub cluster_cidr: Option<String>,
}

/// What one kube-proxy says in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyLog {
    /// Its pod.
    pub pod: String,
    /// Its image.
    pub image: String,
    /// The mode that it says it uses; `None` if its log does not say.
    pub mode: Option<Mode>,
    /// The lines in which it speaks of modes, at most sixteen.
    pub lines: Vec<String>,
}

/// The keys of kube-proxy's configuration that are read; there are many more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    mode: Option<String>,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: Option<String>,
}

impl KubeProxy {
    /// Reads a configuration.
    fn of(text: &str) -> Result<Self, KubeError> {
        let answer = |problem: String| KubeError::Answer {
            subject: "key config.conf of ConfigMap kube-system/kube-proxy".to_owned(),
            problem,
        };
        let config: Config =
            serde_saphyr::from_str(text).map_err(|error| answer(error.to_string()))?;
        let mode = match config.mode.as_deref().unwrap_or_default() {
            "" => Mode::Iptables,
            word => word.parse().map_err(answer)?,
        };
        Ok(Self { mode, cluster_cidr: config.cluster_cidr.filter(|cidr| !cidr.is_empty()) })
    }
}

impl Api {
    /// How kube-proxy is configured; `None` where there is no such ConfigMap: the cluster does
    /// without kube-proxy, or was not made with kubeadm.
    ///
    /// # Errors
    /// The API server refuses, or the configuration cannot be understood.
    pub async fn kube_proxy(&self) -> Result<Option<KubeProxy>, KubeError> {
        let maps: Objects<ConfigMap> = Objects::namespaced(self.client(), NAMESPACE);
        let subject = "ConfigMap kube-system/kube-proxy";
        let map = maps.get_opt("kube-proxy").await.map_err(KubeError::api("read", subject))?;
        let text = map.and_then(|map| map.data?.remove("config.conf"));
        text.as_deref().map(KubeProxy::of).transpose()
    }

    /// What the kube-proxy on a node says in its log; `None` where no kube-proxy runs there.
    ///
    /// # Errors
    /// The API server, or the node's kubelet through it, refuses.
    pub async fn kube_proxy_log(&self, node: &str) -> Result<Option<ProxyLog>, KubeError> {
        let pods: Objects<Pod> = Objects::namespaced(self.client(), NAMESPACE);
        let there = ListParams::default().labels(LABEL).fields(&format!("spec.nodeName={node}"));
        let subject = format!("kube-proxy's pod on node {node}");
        let listed = pods.list(&there).await.map_err(KubeError::api("find", subject))?;
        let Some(pod) = listed.items.into_iter().next() else { return Ok(None) };
        let name = pod.name_any();
        // From the start, where it chooses; the end of a long log is about other things.
        let params = LogParams { limit_bytes: Some(LOG_BYTES), ..LogParams::default() };
        let log = pods.logs(&name, &params).await;
        let log = log.map_err(KubeError::api("read", format!("the log of pod {name}")))?;
        let container = pod.spec.and_then(|spec| spec.containers.into_iter().next());
        let image = container.and_then(|container| container.image).unwrap_or_default();
        let (mode, lines) = spoken(&log);
        Ok(Some(ProxyLog { pod: name, image, mode, lines }))
    }
}

/// Finds the mode in a log. It is worded `Using ipvs Proxier.` up to 1.21 and `"Using ipvs Proxier"`
/// since; the last one counts, because a proxy that falls back says first what it wanted
/// (`cmd/kube-proxy/app/server_others.go`, `server_linux.go`).
fn spoken(log: &str) -> (Option<Mode>, Vec<String>) {
    let about = |line: &&str| line.to_ascii_lowercase().contains("proxier");
    let lines: Vec<String> = log.lines().filter(about).take(16).map(str::to_owned).collect();
    let mode = lines.iter().rev().find_map(|line| {
        let (_, rest) = line.split_once("Using ")?;
        rest.split_once(" Proxier")?.0.parse().ok()
    });
    (mode, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_a_mode_is_iptables() {
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nmode: \"\"\nclusterCIDR: 10.244.0.0/16\n\
                    iptables: {minSyncPeriod: 1s}\n";
        let proxy = KubeProxy::of(text).unwrap();
        assert_eq!(proxy.mode, Mode::Iptables);
        assert_eq!(proxy.cluster_cidr.as_deref(), Some("10.244.0.0/16"));
    }

    #[test]
    fn a_mode_that_is_not_known_is_an_error() {
        assert_eq!(KubeProxy::of("mode: ipvs").unwrap().mode, Mode::Ipvs);
        let error = KubeProxy::of("mode: kernelspace").unwrap_err().to_string();
        assert!(error.contains("`kernelspace` is not one of"), "{error}");
    }

    #[test]
    fn a_proxy_that_fell_back_runs_as_it_said_last() {
        let log = "I1 server_others.go:258] Using ipvs Proxier.\n\
                   E1 proxier.go:389] can't set sysctl net/ipv4/vs/conn_reuse_mode\n\
                   I1 server_others.go:299] can't use ipvs proxier, error getting ipset version\n\
                   W1 server_others.go:434] can't use ipvs proxier, falling back\n\
                   I1 server_others.go:185] Using iptables Proxier.\n";
        let (mode, lines) = spoken(log);
        assert_eq!(mode, Some(Mode::Iptables));
        assert_eq!(lines.len(), 5, "{lines:#?}");
    }

    #[test]
    fn new_logs_are_worded_otherwise() {
        let (mode, _) = spoken("I0101 1 server_linux.go:145] \"Using nftables Proxier\"\n");
        assert_eq!(mode, Some(Mode::Nftables));
        assert_eq!(spoken("I0101 1 server.go:1] \"Starting\"\n"), (None, Vec::new()));
    }
}
