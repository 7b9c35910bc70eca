// SPDX-License-Identifier: Apache-2.0
//! No proxy mode: requests go to the pod's address. What every other mode is measured against.

use std::net::IpAddr;

use super::iptables::{Backend, Counting};
use super::nftables::{self, Tracing};
use super::watch::conntrack_entry;
use super::{
    Installed, Matched, NodeView, Probe, ProxyError, ProxyMode, RuleText, ServiceTable, Watch,
    foreign,
};
use crate::Unavailable;
use crate::net::addresses::family;
use crate::net::{Netns, Tool};
use crate::plan::Mode;

/// Mode none.
#[derive(Clone, Copy, Debug)]
pub struct NoProxy;

impl ProxyMode for NoProxy {
    fn mode(&self) -> Mode {
        Mode::None
    }

    fn check(&self, _: &Netns) -> Result<(), Unavailable> {
        Ok(())
    }

    fn render(&self, _: &ServiceTable, _: &str, _: IpAddr) -> Vec<RuleText> {
        Vec::new()
    }

    fn install(
        &self,
        _: &NodeView<'_>,
        _: &ServiceTable,
        _: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        Ok(Box::new(NothingInstalled))
    }
}

#[derive(Debug)]
struct NothingInstalled;

impl Installed for NothingInstalled {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        _: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        let mut evidence =
            vec![foreign::expect_only(node.netns, Mode::None, None, family(node.address))?];
        if probe.destination != probe.backend {
            return Err(ProxyError::NotProved {
                mode: Mode::None,
                host: node.netns.name().to_owned(),
                expected: format!("an answer from {}, which was asked", probe.destination),
                found: format!("one from {}", probe.backend),
            });
        }
        evidence.push(format!("{} answered at the address that was asked", probe.backend));
        evidence.push(no_translation(node)?);
        Ok(evidence)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        // A kernel without rules can be asked without a tool, and need not be watched.
        let legacy = Backend::Legacy.of(family(node.address));
        let is_legacy = legacy.has_legacy_rules(node.netns).map_err(|source| ProxyError::Tool {
            op: "look for",
            mode: Mode::None,
            source,
        })?;
        Ok(Box::new(if is_legacy {
            NoneWatch::Counting(Counting::begin(Mode::None, legacy, node)?)
        } else if nftables::tables(Mode::None, node.netns, family(node.address))?.is_empty() {
            NoneWatch::Nothing
        } else {
            NoneWatch::Tracing(Tracing::begin(Mode::None, node)?)
        }))
    }

    fn add_last(&mut self, _: &NodeView<'_>, _: &ServiceTable) -> Result<(), ProxyError> {
        Ok(())
    }

    fn remove(self: Box<Self>, _: &NodeView<'_>) -> Result<(), ProxyError> {
        Ok(())
    }
}

/// A node whose rules, if it has any, are not this mode's.
#[derive(Debug)]
enum NoneWatch {
    /// No rules.
    Nothing,
    /// Rules of iptables-legacy.
    Counting(Counting),
    /// Rules of nf_tables.
    Tracing(Tracing),
}

impl Watch for NoneWatch {
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        _: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        match *self {
            Self::Nothing => {
                let objects = conntrack_entry(Mode::None, node, probe)?.into_iter().collect();
                Ok(Matched { objects, ..Matched::default() })
            }
            Self::Counting(counting) => counting.matched(node, probe),
            Self::Tracing(tracing) => tracing.matched(node, probe),
        }
    }
}

/// Looks for rules anywhere on the node that change a destination. Without Services there are few
/// rules, so all of them can be read. (Legacy tables are looked at by [`foreign::expect_only`].)
fn no_translation(node: &NodeView<'_>) -> Result<String, ProxyError> {
    let rules = Tool::new("nft").args(["--terse", "list", "ruleset"]).run_on(node.netns);
    let rules = match rules {
        Ok(rules) => rules,
        // nf_tables that cannot be asked for want of the tool may hold anything.
        Err(source) => {
            return Err(ProxyError::Tool { op: "look for", mode: Mode::None, source });
        }
    };
    match rules.lines().find(|line| translates(line)) {
        None => Ok("no nf_tables rule of the node changes a destination".to_owned()),
        Some(rule) => Err(ProxyError::NotProved {
            mode: Mode::None,
            host: node.netns.name().to_owned(),
            expected: "no rule that changes a destination".to_owned(),
            found: rule.trim().to_owned(),
        }),
    }
}

/// Whether a rule, as `nft list` writes it, sends packets elsewhere. One that asks whether that was done does not
/// (`ct status dnat`, in kubelet's firewall), nor does one whose goal is Docker's own server of names on the node.
fn translates(rule: &str) -> bool {
    const DOCKER: &str = " dnat to 127.0.0.11:";
    let asks_none = rule.replace("ct status dnat", "");
    let mut words = asks_none.split_whitespace();
    !rule.contains(DOCKER)
        && words.any(|word| matches!(word, "dnat" | "redirect" | "DNAT" | "REDIRECT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_send_elsewhere_are_told_from_those_that_ask_and_from_dockers_own() {
        for rule in [
            "ip daddr 10.96.0.1 tcp dport 443 counter packets 1 bytes 60 dnat to 172.18.0.2:6443",
            "ct status dnat ip daddr 10.96.0.1 dnat to 10.244.0.2",
            "tcp dport 80 redirect to :8080",
            "counter packets 0 bytes 0 xt target DNAT",
        ] {
            assert!(translates(rule), "{rule}");
        }
        for rule in [
            "ip saddr != 127.0.0.0/8 ip daddr 127.0.0.0/8 ct status dnat counter packets 0 bytes 0 drop",
            "ip daddr 172.18.0.1 tcp dport 53 counter packets 0 bytes 0 dnat to 127.0.0.11:34363",
            "counter packets 0 bytes 0 masquerade",
        ] {
            assert!(!translates(rule), "{rule}");
        }
    }
}
