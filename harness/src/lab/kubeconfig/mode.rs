// SPDX-License-Identifier: Apache-2.0
//! Which mode the cluster's kube-proxies run in, by their own word.

use crate::Unavailable;
use crate::kube::{Api, KubeError, KubeProxy, Node, ProxyLog};
use crate::plan::Mode;

/// The cluster's mode, and what shows it.
#[derive(Clone, Debug)]
pub(super) struct ClusterMode {
    /// The mode, or why it is not known.
    mode: Result<Mode, Unavailable>,
    /// One line for each piece of evidence.
    pub(super) evidence: Vec<String>,
}

impl ClusterMode {
    /// Asks the API server for kube-proxy's configuration and the log of every node's kube-proxy.
    pub(super) async fn detect(api: &Api, nodes: &[Node]) -> Result<Self, KubeError> {
        let configured = api.kube_proxy().await?;
        let mut logs = Vec::new();
        for node in nodes.iter().filter(|node| node.ready) {
            logs.push((node.name.clone(), api.kube_proxy_log(&node.name).await?));
        }
        Ok(Self::decide(configured.as_ref(), &logs))
    }

    /// A configuration is a wish: a kube-proxy that cannot have its mode falls back to another, and
    /// says so in its log only. All have to say the same.
    fn decide(configured: Option<&KubeProxy>, logs: &[(String, Option<ProxyLog>)]) -> Self {
        let mut evidence = Vec::new();
        if let Some(proxy) = configured {
            evidence.push(format!("ConfigMap kube-system/kube-proxy asks for mode {}", proxy.mode));
        }
        let unknown = |found: String| {
            Err(Unavailable::new(
                "kube-proxy's own word for the mode it runs in, on every node",
                found,
                "--mode none, or restart kube-proxy's pods so that their logs begin anew",
            ))
        };
        let mut mode = None;
        for (node, log) in logs {
            let Some(log) = log else {
                let mode = unknown(format!("no kube-proxy of kubeadm's on node {node}"));
                return Self { mode, evidence };
            };
            let Some(said) = log.mode else {
                let mode = unknown(format!("the log of {} does not say it any more", log.pod));
                return Self { mode, evidence };
            };
            let line = log.lines.iter().rfind(|line| line.contains("Using "));
            let line = line.map(String::as_str).unwrap_or_default();
            evidence.push(format!("{} on {node} runs in mode {said}: {line}", log.pod));
            if mode.is_some_and(|mode| mode != said) {
                let mode = unknown(format!("{} in mode {said}, others in another", log.pod));
                return Self { mode, evidence };
            }
            mode = Some(said);
        }
        let mode = mode.map_or_else(|| unknown("no node that is ready".to_owned()), Ok);
        Self { mode, evidence }
    }

    /// Whether a case of that mode can be had.
    pub(super) fn has(&self, wanted: Mode) -> Result<(), Unavailable> {
        if wanted == Mode::None {
            return Ok(());
        }
        let mode = self.mode.clone()?;
        if mode == wanted {
            return Ok(());
        }
        let found = format!("a cluster that runs in mode {mode} ({})", self.evidence.join("; "));
        Err(Unavailable::new(
            format!("a cluster in mode {wanted}"),
            found,
            format!("--mode {mode},none"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(node: &str, mode: Option<Mode>) -> (String, Option<ProxyLog>) {
        let lines = mode.map(|mode| format!("Using {mode} Proxier.")).into_iter().collect();
        let pod = format!("kube-proxy-{node}");
        (node.to_owned(), Some(ProxyLog { pod, image: String::new(), mode, lines }))
    }

    #[test]
    fn a_proxy_that_fell_back_is_what_it_fell_back_to() {
        let asked = KubeProxy { mode: Mode::Ipvs, cluster_cidr: None };
        let logs = [log("a", Some(Mode::Iptables)), log("b", Some(Mode::Iptables))];
        let cluster = ClusterMode::decide(Some(&asked), &logs);
        assert!(cluster.has(Mode::Iptables).is_ok() && cluster.has(Mode::None).is_ok());
        let reason = cluster.has(Mode::Ipvs).unwrap_err();
        assert!(reason.found.contains("asks for mode ipvs"), "{reason}");
        assert!(reason.found.contains("Using iptables Proxier."), "{reason}");
        assert_eq!(reason.remedy, "--mode iptables,none");
    }

    #[test]
    fn a_configuration_alone_proves_nothing() {
        let asked = KubeProxy { mode: Mode::Iptables, cluster_cidr: None };
        let silent = [log("a", Some(Mode::Iptables)), log("b", None)];
        let differing = [log("a", Some(Mode::Iptables)), log("b", Some(Mode::Ipvs))];
        let absent = [("a".to_owned(), None)];
        for (logs, found) in [
            (&silent[..], "does not say it any more"),
            (&differing[..], "others in another"),
            (&absent[..], "no kube-proxy of kubeadm's on node a"),
            (&[][..], "no node that is ready"),
        ] {
            let cluster = ClusterMode::decide(Some(&asked), logs);
            let reason = cluster.has(Mode::Iptables).unwrap_err();
            assert!(reason.found.contains(found), "{reason}");
            assert!(cluster.has(Mode::None).is_ok());
        }
    }
}
