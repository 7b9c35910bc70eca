// SPDX-License-Identifier: Apache-2.0
//! The files a kube-proxy is started with. They are JSON, which every reader of YAML takes.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::ask::{HEALTH, METRICS};
use crate::net::addresses::PODS;
use crate::plan::{IpFamily, IpvsScheduler, Mode};

/// Name of the kubeconfig; the configuration's key is relative to the folder kube-proxy is started in.
pub(super) const KUBECONFIG: &str = "kubeconfig.json";
/// How often rules are written again though nothing has changed. kube-proxy's default is 30 s; what it
/// would do in the middle of a measurement once or twice is chance, so it does not.
const SYNC_PERIOD: &str = "1h";
/// Bit of the mark of packets to be masqueraded, kube-proxy's default and ours.
const MASQUERADE_BIT: u32 = 14;

/// kube-proxy's configuration (`KubeProxyConfiguration`, v1alpha1) for a node. What is not its default is
/// here for a reason: nothing outside of the node's namespace is written to (`conntrack`,
/// `oomScoreAdj`), and pods are told by their addresses, as by our own rules.
pub(super) fn configuration(
    mode: Mode,
    scheduler: IpvsScheduler,
    node: &str,
    family: IpFamily,
) -> String {
    let mut configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {
            "kubeconfig": KUBECONFIG,
            // Its own default is protobuf.
            "contentType": "application/json",
            "acceptContentTypes": "application/json",
        },
        "hostnameOverride": node,
        "mode": mode.word(),
        "clusterCIDR": PODS.of(family).to_string(),
        "detectLocalMode": "ClusterCIDR",
        "metricsBindAddress": METRICS.to_string(),
        "healthzBindAddress": HEALTH.to_string(),
        "nodePortAddresses": [],
        // 0 leaves what is there.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    });
    let key = mode.word();
    let rules = json!({
        "masqueradeAll": false, "masqueradeBit": MASQUERADE_BIT, "syncPeriod": SYNC_PERIOD,
    });
    configuration[key] = match mode {
        Mode::Ipvs => json!({ "scheduler": scheduler.word(), "syncPeriod": SYNC_PERIOD }),
        _ => rules.clone(),
    };
    // Mode ipvs has some iptables rules, and reads about them here.
    if mode == Mode::Ipvs {
        configuration["iptables"] = rules;
    }
    pretty(&configuration)
}

/// A kubeconfig that leads to our API server.
pub(super) fn kubeconfig(server: SocketAddr) -> String {
    pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "nic2pod", "cluster": { "server": format!("http://{server}") } }],
        "contexts": [{ "name": "nic2pod", "context": { "cluster": "nic2pod", "user": "" } }],
        "current-context": "nic2pod",
    }))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_each_mode_is_written_as_kube_proxy_reads_it() {
        let text = |mode| configuration(mode, IpvsScheduler::Sh, "node1", IpFamily::Ipv4);
        insta::assert_snapshot!("iptables", text(Mode::Iptables));
        insta::assert_snapshot!("ipvs", text(Mode::Ipvs));
        insta::assert_snapshot!("nftables", text(Mode::Nftables));
    }
}
