// SPDX-License-Identifier: Apache-2.0
//! Proof that iptables rules carried a connection: the counters of the rules it had to take.
//!
//! Table nat sees the first packet of a connection only, so one connection is one packet. What is
//! read is bounded by the length of `KUBE-SERVICES`, not by the number of chains.

use std::net::SocketAddr;

use super::super::foreign;
use super::super::{NodeView, Policy, Probe, ProxyError, Service, ServicePort, ServiceTable};
use super::counters::{Counted, Counters};
use super::service::PortRules;
use super::tables::Tables;
use crate::net::Cidr;
use crate::net::ToolError;
use crate::plan::Mode;

/// Evidence for `probe`, a line each.
pub(super) fn of(
    tables: Tables,
    counters: &mut Counters,
    node: &NodeView<'_>,
    table: &ServiceTable,
    probe: &Probe,
) -> Result<Vec<String>, ProxyError> {
    let mut evidence = vec![foreign::expect_only(
        node.netns,
        Mode::Iptables,
        Some(tables.backend),
        tables.family,
    )?];
    let mut look = Look { mode: Mode::Iptables, tables, counters, node };
    if probe.destination == probe.backend {
        evidence.push(look.counted("nat", "PREROUTING", &[], &["KUBE-SERVICES"])?);
        return Ok(evidence);
    }
    let (service, port) = probe.subject(table);
    let rules = PortRules::new(service, port, node.name);
    let policies =
        [Policy::Cluster, Policy::Local].map(|policy| rules.policy_chain(policy).to_string());
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    let external = rules.external_chain().to_string();
    let inside = probe.destination == SocketAddr::new(service.cluster_ip, port.port);
    let first = if inside { policies.clone() } else { vec![external.as_str()] };

    let services = look.rules("nat", "KUBE-SERVICES")?;
    let expected = service_rules(&table.services, node.name) + 1;
    if services.len() as u64 != expected {
        let found = format!("{} rules", services.len());
        return Err(look.missing(format!("{expected} rules in KUBE-SERVICES"), found));
    }
    let to_port = format!("--dport {}", probe.destination.port());
    if port.node_port == Some(probe.destination.port()) && probe.destination.ip() == node.address {
        evidence.push(look.found("KUBE-SERVICES", &services, &[], &["KUBE-NODEPORTS"])?);
        evidence.push(look.counted("nat", "KUBE-NODEPORTS", &[&to_port], &first)?);
    } else {
        let to_address = format!("-d {}", Cidr::host(probe.destination.ip()));
        evidence.push(look.found("KUBE-SERVICES", &services, &[&to_address, &to_port], &first)?);
    }
    if !inside {
        evidence.push(look.counted("nat", &external, &[], &policies)?);
    }
    let endpoint = rules.endpoint_chain(probe.backend).to_string();
    evidence.push(look.counted_in_any("nat", &policies, &endpoint)?);
    let target = format!("DNAT --to-destination {}", probe.backend);
    evidence.push(look.counted("nat", &endpoint, &[], &[&target])?);
    Ok(evidence)
}

/// Rules that Services have in table nat's `KUBE-SERVICES`, without the last one of all.
pub(super) fn service_rules(services: &[Service], node: &str) -> u64 {
    let of_port = |service: &Service, port: &ServicePort| {
        let reach = super::super::reach::Reach::of(service, port, node);
        let inside = u64::from(reach.any && !reach.under(reach.internal).is_empty());
        inside + if reach.any { service.load_balancer_ips.len() as u64 } else { 0 }
    };
    let of_service =
        |service: &Service| service.ports.iter().map(|port| of_port(service, port)).sum::<u64>();
    services.iter().map(of_service).sum()
}

/// Looks at rules on a node on behalf of a mode.
#[derive(Debug)]
pub(crate) struct Look<'a, 'n> {
    /// Mode to prove.
    pub(crate) mode: Mode,
    /// Where its rules are.
    pub(crate) tables: Tables,
    /// What the counters were.
    pub(crate) counters: &'a mut Counters,
    /// The node.
    pub(crate) node: &'a NodeView<'n>,
}

impl Look<'_, '_> {
    fn rules(&mut self, table: &str, chain: &str) -> Result<Vec<Counted>, ProxyError> {
        let rules = self.counters.since_last_look(self.tables, self.node.netns, table, chain);
        rules.map_err(|error| match error {
            ToolError::Failed { stderr, .. } => self.missing(
                format!("chain {chain} in table {table}"),
                stderr.lines().next().unwrap_or_default().to_owned(),
            ),
            source => ProxyError::Tool { op: "read back", mode: self.mode, source },
        })
    }

    /// Expects that a rule of `chain` with all of `marks` and one of `targets` counted a packet
    /// since the last look.
    pub(crate) fn counted(
        &mut self,
        table: &str,
        chain: &str,
        marks: &[&str],
        targets: &[&str],
    ) -> Result<String, ProxyError> {
        let rules = self.rules(table, chain)?;
        self.found(chain, &rules, marks, targets)
    }

    /// The same for rules that were read already.
    fn found(
        &self,
        chain: &str,
        rules: &[Counted],
        marks: &[&str],
        targets: &[&str],
    ) -> Result<String, ProxyError> {
        match position(rules, marks, targets) {
            Some(at) => Ok(said(chain, rules, at)),
            None => Err(self.uncounted(chain, rules, targets)),
        }
    }

    /// Expects that a rule with `target` in one of `chains`, not all of which need be there,
    /// counted a packet since the last look.
    pub(crate) fn counted_in_any(
        &mut self,
        table: &str,
        chains: &[&str],
        target: &str,
    ) -> Result<String, ProxyError> {
        let mut seen = Vec::new();
        for chain in chains {
            // A chain that is not there has no rule that counts.
            let Ok(rules) = self.rules(table, chain) else { continue };
            if let Some(at) = position(&rules, &[], &[target]) {
                return Ok(said(chain, &rules, at));
            }
            seen.extend(rules);
        }
        Err(self.uncounted(&chains.join(" or "), &seen, &[target]))
    }

    fn uncounted(&self, chain: &str, rules: &[Counted], targets: &[&str]) -> ProxyError {
        let matching =
            rules.iter().find(|counted| targets.iter().any(|target| counted.jumps_to(target)));
        let found = match matching {
            Some(counted) => format!("none counted by {}", counted.rule),
            None => format!("no such rule among the {} there", rules.len()),
        };
        let targets = targets.join(" or ");
        self.missing(format!("a packet counted by a rule of {chain} to {targets}"), found)
    }

    /// A failure of the proof.
    pub(crate) fn missing(&self, expected: String, found: String) -> ProxyError {
        let host = self.node.netns.name().to_owned();
        ProxyError::NotProved { mode: self.mode, host, expected, found }
    }
}

fn position(rules: &[Counted], marks: &[&str], targets: &[&str]) -> Option<usize> {
    rules.iter().position(|counted| {
        counted.packets > 0
            && counted.bears(marks)
            && targets.iter().any(|target| counted.jumps_to(target))
    })
}

fn said(chain: &str, rules: &[Counted], at: usize) -> String {
    let Counted { rule, packets } = &rules[at];
    let target = rule.rsplit_once(" -j ").map_or("", |(_, target)| target);
    let plural = if *packets == 1 { "" } else { "s" };
    format!("{chain} rule {} of {}: {packets} packet{plural} to {target}", at + 1, rules.len())
}
