// SPDX-License-Identifier: Apache-2.0
//! A kube-proxy that runs on the node: nothing is rendered or applied here. It was told by its API
//! server, and what it made of that is read back from the kernel.

use super::super::foreign;
use super::super::watch::net;
use super::super::{
    Backend, Installed, NodeView, Probe, ProxyError, RuleText, ServiceTable, Watch, iptables, ipvs,
    nftables,
};
use crate::net::conntrack::{self, Tuple};
use crate::net::{Netns, ToolError};
use crate::plan::Mode;

/// A kube-proxy on a node.
#[derive(Debug)]
pub struct KubeProxy {
    mode: Mode,
    /// Where its rules are, if it has iptables rules.
    backend: Option<Backend>,
    /// What it says of itself.
    word: String,
}

impl KubeProxy {
    /// The kube-proxy of a node, in a mode that it has said it is in; `word` is how it said so.
    ///
    /// # Errors
    /// [`ProxyError::NotProved`] where the kernel has no rules of such a mode.
    pub fn find(mode: Mode, word: String, netns: &Netns) -> Result<Self, ProxyError> {
        let backend = match mode {
            Mode::Iptables | Mode::Ipvs => Some(backend(mode, netns)?),
            _ => None,
        };
        Ok(Self { mode, backend, word })
    }

    /// The same, which is to have its rules in that iptables, if it has any there.
    ///
    /// # Errors
    /// As [`KubeProxy::find`]; or they are in the other one.
    pub(super) fn find_in(
        asked: Backend,
        mode: Mode,
        word: String,
        netns: &Netns,
    ) -> Result<Self, ProxyError> {
        let found = Self::find(mode, word, netns)?;
        match found.backend {
            Some(other) if other != asked => Err(ProxyError::NotProved {
                mode,
                host: netns.name().to_owned(),
                expected: format!("kube-proxy's chains in iptables-{}", asked.word()),
                found: format!("them in iptables-{}", other.word()),
            }),
            _ => Ok(found),
        }
    }

    /// Its rules as the kernel holds them, for the record.
    ///
    /// # Errors
    /// The kernel tool says no.
    pub fn texts(&self, netns: &Netns) -> Result<Vec<RuleText>, ProxyError> {
        let failed = |source| ProxyError::Tool { op: "read back", mode: self.mode, source };
        match self.backend {
            Some(backend) => {
                let text = backend.save_counters(netns).map_err(failed)?;
                let rules = text.lines().filter(|line| line.contains("] -A KUBE-")).count() as u64;
                Ok(vec![RuleText { name: "iptables.rules", tool: Vec::new(), text, rules }])
            }
            None => Ok(Vec::new()),
        }
    }

    fn not_proved(&self, node: &NodeView<'_>, expected: String, found: String) -> ProxyError {
        ProxyError::NotProved { mode: self.mode, host: node.name.to_owned(), expected, found }
    }

    /// That one of its rules sends packets to the pod that answered, by the rule's own text.
    fn translating_rule(
        &self,
        backend: Backend,
        node: &NodeView<'_>,
        probe: &Probe,
    ) -> Result<String, ProxyError> {
        let failed = |source| ProxyError::Tool { op: "read back", mode: self.mode, source };
        let rules = backend.save(node.netns, "nat").map_err(failed)?;
        let target = format!("-j DNAT --to-destination {}", probe.backend);
        let rule =
            rules.lines().find(|line| line.starts_with("-A KUBE-SEP-") && line.ends_with(&target));
        match rule {
            Some(rule) => Ok(format!("{} has `{rule}`", node.name)),
            None => {
                let found = format!("{} rules without it", rules.lines().count());
                Err(self.not_proved(node, format!("a rule with `{target}`"), found))
            }
        }
    }

    /// That connection tracking translated the probe to the pod that answered.
    fn translated(&self, node: &NodeView<'_>, probe: &Probe) -> Result<String, ProxyError> {
        let tuple = Tuple::tcp(probe.client, probe.destination);
        let flow = conntrack::find(node.netns, tuple).map_err(net(self.mode))?;
        match flow.and_then(|flow| flow.dnat()) {
            Some(to) if to == probe.backend => {
                Ok(format!("{}: {tuple} was translated to {to}", node.name))
            }
            other => {
                let expected = format!("{tuple} translated to {}", probe.backend);
                Err(self.not_proved(node, expected, format!("{other:?}")))
            }
        }
    }
}

/// Where kube-proxy's chains are: its image chooses, not the node.
fn backend(mode: Mode, netns: &Netns) -> Result<Backend, ProxyError> {
    for backend in [Backend::Nft, Backend::Legacy] {
        if !backend.has_table(netns, "nat") {
            continue;
        }
        match backend.chain(netns, "nat", "KUBE-SERVICES") {
            Ok(_) => return Ok(backend),
            Err(ToolError::Failed { .. } | ToolError::Start { .. }) => {}
            Err(source) => return Err(ProxyError::Tool { op: "look for", mode, source }),
        }
    }
    Err(ProxyError::NotProved {
        mode,
        host: netns.name().to_owned(),
        expected: "a chain KUBE-SERVICES in table nat".to_owned(),
        found: "none, with iptables-nft or iptables-legacy".to_owned(),
    })
}

impl Installed for KubeProxy {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        let mut evidence = vec![self.word.clone()];
        evidence.push(foreign::expect_only(node.netns, self.mode, self.backend)?);
        if probe.destination == probe.backend {
            return Ok(evidence);
        }
        match (self.mode, self.backend) {
            (Mode::Iptables, Some(backend)) => {
                evidence.push(self.translating_rule(backend, node, probe)?);
            }
            (Mode::Ipvs, _) => evidence.push(ipvs::virtual_server(node, table, probe)?),
            (Mode::Nftables, _) => evidence.extend(nftables::evidence(node, table, probe)?),
            _ => {}
        }
        evidence.push(self.translated(node, probe)?);
        Ok(evidence)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        match (self.mode, self.backend) {
            (Mode::Iptables, Some(backend)) => iptables::watch(backend, node),
            (Mode::Ipvs, Some(backend)) => ipvs::watch(backend, node),
            (Mode::Nftables, _) => nftables::watch(node),
            (mode, _) => Err(ProxyError::Unsupported {
                mode,
                what: "kube-proxy has no such mode".to_owned(),
            }),
        }
    }

    fn add_last(&mut self, _: &NodeView<'_>, _: &ServiceTable) -> Result<(), ProxyError> {
        let what = "kube-proxy adds Services by itself; tell its API server".to_owned();
        Err(ProxyError::Unsupported { mode: self.mode, what })
    }

    /// It stays: it is the cluster's.
    fn remove(self: Box<Self>, _: &NodeView<'_>) -> Result<(), ProxyError> {
        Ok(())
    }
}
