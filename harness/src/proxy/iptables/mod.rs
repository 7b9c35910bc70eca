// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's iptables mode: one rule for each Service port in a chain that every new connection
//! walks, and a cascade of random choices behind it.
//!
//! Where this differs from kube-proxy 1.31, and why:
//! - The jumps from the built-in chains are in the same text as the rest, so that a node has all
//!   of the mode or nothing of each table; kube-proxy makes them with an `iptables` call each.
//! - Services are in the table's order; kube-proxy's is that of a Go map, another one each time.
//! - There is no `KUBE-PROXY-CANARY`: it tells a running kube-proxy that its rules were flushed.
//! - A Service is added as a change of the rules it needs. kube-proxy's partial sync writes those
//!   and all of `KUBE-SERVICES` and `KUBE-NODEPORTS` again.
//! - No health check node ports and no `loadBalancerSourceRanges`: the table has neither.

mod backend;
mod constant;
mod counters;
mod evidence;
mod installed;
pub(crate) mod restore;
mod service;
mod tables;
mod watch;

use std::net::IpAddr;

pub use backend::Backend;
pub(crate) use constant::{forward, masquerade};
pub(crate) use counters::Counters;
pub(crate) use evidence::Look;
use installed::InstalledIptables;
pub(crate) use installed::Rules;
pub(crate) use tables::Tables;
pub(crate) use watch::{Carrier, Counting, Hook};

use self::restore::Restore;
use self::service::PortRules;
use super::sysctl::Sysctls;
use super::{
    Installed, NodeView, ProxyError, ProxyMode, RuleText, Service, ServiceTable, Watch, sample,
};
use crate::Unavailable;
use crate::net::Netns;
use crate::net::addresses::family;
use crate::plan::{IpFamily, Mode};

/// Endpoints beyond which kube-proxy leaves comments out of per-endpoint rules
/// (`largeClusterEndpointsThreshold`).
const BRIEF_BEYOND: usize = 1000;
/// Bytes of text that a Service port with two endpoints takes, with room.
const PORT_CHAINS: usize = 112;
const PORT_RULES: usize = 900;
/// What refuses connections to a Service without endpoints.
const REJECT: &str = " -j REJECT";
/// NodePorts answer on 127.0.0.1 too (`--iptables-localhost-nodeports`, on by default).
const SYSCTLS: &[(&str, &str)] =
    &[("net/ipv4/conf/all/route_localnet", "1"), ("net/ipv4/ip_forward", "1")];
/// There is no such thing as the former for IPv6.
const SYSCTLS_IPV6: &[(&str, &str)] = &[("net/ipv6/conf/all/forwarding", "1")];

/// Begins to watch rules of this mode, whoever made them.
pub(in crate::proxy) fn watch(
    tables: Tables,
    node: &NodeView<'_>,
) -> Result<Box<dyn Watch>, ProxyError> {
    Ok(Box::new(watch::IptablesWatch(Counting::begin(Mode::Iptables, tables, node)?)))
}

/// kube-proxy's iptables mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Iptables {
    /// Which implementation of iptables.
    pub backend: Backend,
}

impl ProxyMode for Iptables {
    fn mode(&self) -> Mode {
        Mode::Iptables
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        let tables = self.backend.of(IpFamily::Ipv4);
        tables.check(scratch)?;
        let text = self.whole(tables, &sample::with_endpoints(), sample::NODE);
        Rules::check(tables, scratch, text)
    }

    fn check_texts(&self, node: &Netns, texts: &[RuleText]) -> Result<(), Unavailable> {
        let [text] = texts else { return Ok(()) };
        let tables = self.tables_of(text);
        if tables.family == IpFamily::Ipv6 {
            tables.check(node)?;
            let table = sample::in_ipv6(sample::with_endpoints());
            Rules::check(tables, node, self.whole(tables, &table, sample::NODE))?;
        }
        match text.text.contains(REJECT) {
            true => Rules::check_reject(tables, node),
            false => Ok(()),
        }
    }

    fn render(&self, table: &ServiceTable, node_name: &str, address: IpAddr) -> Vec<RuleText> {
        vec![self.whole(self.backend.of(family(address)), table, node_name)]
    }

    fn install(
        &self,
        node: &NodeView<'_>,
        _: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        let tables = self.backend.of(family(node.address));
        let sysctls = match tables.family {
            IpFamily::Ipv4 => SYSCTLS,
            IpFamily::Ipv6 => SYSCTLS_IPV6,
        };
        let sysctls = Sysctls::write(node.netns, sysctls)
            .map_err(|source| ProxyError::Net { mode: Mode::Iptables, source })?;
        match Rules::install(Mode::Iptables, tables, node.netns, texts) {
            Ok(rules) => Ok(Box::new(InstalledIptables::new(rules, sysctls))),
            Err(error) => {
                sysctls
                    .put_back(node.netns)
                    .map_err(|source| ProxyError::Net { mode: Mode::Iptables, source })?;
                Err(error)
            }
        }
    }
}

impl Iptables {
    /// Where a text's rules go.
    fn tables_of(&self, text: &RuleText) -> Tables {
        self.backend.of(if text.is_of_ipv6() { IpFamily::Ipv6 } else { IpFamily::Ipv4 })
    }

    fn whole(&self, tables: Tables, table: &ServiceTable, node: &str) -> RuleText {
        let ports: usize = table.services.iter().map(|service| service.ports.len()).sum();
        let mut restore =
            Restore::with_capacity(512 + ports * PORT_CHAINS, 2048 + ports * PORT_RULES);
        constant::chains(&mut restore);
        constant::jumps(&mut restore);
        constant::masquerade(&mut restore.nat);
        let brief = is_brief(table);
        for service in &table.services {
            write(service, node, &mut restore, brief);
        }
        constant::node_ports(&mut restore.nat, tables.family);
        constant::filter(&mut restore.filter, tables.family);
        tables.rule_text(restore.whole())
    }
}

fn is_brief(table: &ServiceTable) -> bool {
    let ports = table.services.iter().flat_map(|service| &service.ports);
    ports.map(|port| port.endpoints.len()).sum::<usize>() > BRIEF_BEYOND
}

fn write(service: &Service, node: &str, restore: &mut Restore, brief: bool) {
    for port in &service.ports {
        PortRules::new(service, port, node).write(restore, brief);
    }
}

/// The change that adds the last Service of `table`. Its rules go before the last rule of
/// `KUBE-SERVICES`, the one to the NodePorts, which is the `rules`-th.
fn addition(table: &ServiceTable, node: &str, rules: u64) -> String {
    let Some(service) = table.services.last() else { return String::new() };
    let mut restore = Restore::with_capacity(256, 2048);
    write(service, node, &mut restore, is_brief(table));
    let (text, _) = restore.delta();
    let mut at = rules;
    let mut nat = false;
    let mut inserted = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        nat = if line.starts_with('*') { line == "*nat" } else { nat };
        match line.strip_prefix("-A KUBE-SERVICES ") {
            Some(rule) if nat => {
                inserted.push_str(&format!("-I KUBE-SERVICES {at} {rule}"));
                at += 1;
            }
            _ => inserted.push_str(line),
        }
        inserted.push('\n');
    }
    inserted
}

#[cfg(test)]
mod tests;
