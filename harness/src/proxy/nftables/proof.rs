// SPDX-License-Identifier: Apache-2.0
//! Evidence that this mode's rules carried a connection: the kernel's rules lead from the Service's
//! address to the backend, its table of connections holds that very translation, and no other
//! mode is there that could have made it. kube-proxy's rules have no counters to read.

use std::collections::{HashMap, VecDeque};
use std::io;

use super::super::{NodeView, Probe, ProxyError, ServiceTable, foreign};
use super::kernel::{self, Hook};
use super::service::PortPlan;
use super::transaction::{self, TABLE};
use crate::net::addresses::{family, word_of_nft};
use crate::net::conntrack::{self, Tuple};
use crate::net::{NetError, Netns};
use crate::plan::Mode;

/// Chains walked at most. From a Service's address to an endpoint it is external-, service- and
/// one per endpoint.
const CHAINS_MAX: usize = 2_000;

/// What the probe's destination stands for in the maps.
struct Frontend {
    map: &'static str,
    key: Vec<u8>,
    /// As nft would write it.
    shown: String,
    /// Chain that is rendered for it.
    chain: String,
}

pub(super) fn prove(
    node: &NodeView<'_>,
    table: &ServiceTable,
    probe: &Probe,
) -> Result<Vec<String>, ProxyError> {
    let frontend = frontend(node, table, probe)?;
    Ok(vec![
        base_chains(node)?,
        path(node, &frontend, probe)?,
        translation(node, probe)?,
        nobody_else(node)?,
    ])
}

fn frontend(
    node: &NodeView<'_>,
    table: &ServiceTable,
    probe: &Probe,
) -> Result<Frontend, ProxyError> {
    let (service, port) = probe.service;
    let named = table.services.get(service).and_then(|s| Some((s, s.ports.get(port)?)));
    let Some((service, port)) = named else {
        let expected = format!("a Service {service} with a port {port} in the table");
        return Err(not_proved(node, expected, format!("{} Services", table.services.len())));
    };
    let plan = PortPlan::new(service, port, node.name);
    let (address, at_port) = (probe.destination.ip(), probe.destination.port());
    let protocol = super::names::protocol(port.protocol);
    let number = super::names::protocol_number(port.protocol);
    if Some(at_port) == port.node_port && address == node.address {
        return Ok(Frontend {
            map: "service-nodeports",
            key: kernel::node_port_key(number, at_port),
            shown: format!("{protocol} . {at_port}"),
            chain: plan.names.external,
        });
    }
    let cluster = address == service.cluster_ip;
    if at_port != port.port || !(cluster || service.load_balancer_ips.contains(&address)) {
        let expected = format!("a probe of {}", plan.names.shown);
        return Err(not_proved(node, expected, format!("one to {}", probe.destination)));
    }
    Ok(Frontend {
        map: "service-ips",
        key: kernel::frontend_key(number, probe.destination),
        shown: format!("{address} . {protocol} . {at_port}"),
        chain: if cluster {
            plan.policy_chain(service.internal_policy).to_owned()
        } else {
            plan.names.external
        },
    })
}

/// The chain that does the NAT is at its hook, and jumps to where the maps are looked up.
fn base_chains(node: &NodeView<'_>) -> Result<String, ProxyError> {
    let (family, shown) = (family(node.address), transaction::table(family(node.address)));
    let found = ask(node.netns, move || {
        let hook = kernel::hook(family, TABLE, "nat-prerouting")?;
        let jumps = kernel::rules(family, TABLE, "nat-prerouting")?;
        let maps: Vec<_> = kernel::rules(family, TABLE, "services")?
            .into_iter()
            .flat_map(|rule| rule.maps)
            .collect();
        Ok((hook, jumps.into_iter().any(|rule| rule.chains == ["services"]), maps))
    })?;
    let is_there = |map: &str| found.2.iter().any(|found| found == map);
    let hooked = found.0 == Some(Hook { number: 0, priority: -100 });
    if hooked && found.1 && is_there("service-ips") && is_there("service-nodeports") {
        return Ok(format!(
            "nf_tables: chain {shown} nat-prerouting is at hook prerouting, priority -100, and \
             jumps to services, which looks up @service-ips and @service-nodeports"
        ));
    }
    let expected = format!(
        "chain {shown} nat-prerouting at hook prerouting that jumps to the look-up of Services"
    );
    let (hook, jumps, maps) = found;
    let found = format!("hook {hook:?}, jump to services: {jumps}, look-ups of {maps:?}");
    Err(not_proved(node, expected, found))
}

/// The map sends the frontend to its chain, and from there rules lead to the backend.
fn path(node: &NodeView<'_>, frontend: &Frontend, probe: &Probe) -> Result<String, ProxyError> {
    let Frontend { map, key, shown, chain } = frontend;
    let (map, key, chain, backend) = (*map, key.clone(), chain.clone(), probe.backend);
    let (family, table) = (family(node.address), transaction::table(family(node.address)));
    let start = ask(node.netns, move || kernel::target(family, TABLE, map, &key))?;
    if start.as_deref() != Some(&chain) {
        let expected = format!("element {{ {shown} : goto {chain} }} in map {table} {map}");
        let found = start.map_or("no such element".to_owned(), |start| format!("goto {start}"));
        return Err(not_proved(node, expected, found));
    }
    let from = chain.clone();
    let walk = ask(node.netns, move || {
        walk(&from, |chain| {
            let mut here = Step { dnat_here: false, next: Vec::new() };
            for rule in kernel::rules(family, TABLE, chain)? {
                here.dnat_here |= rule.dnat == Some(backend);
                here.next.extend(rule.chains);
                for map in rule.maps.iter().filter(|map| map.starts_with("__")) {
                    here.next.extend(kernel::targets(family, TABLE, map)?);
                }
            }
            Ok(here)
        })
    })?;
    match walk {
        Some(chains) => Ok(format!(
            "nf_tables: {map} {{ {shown} }} goes to {}, which translates to {backend}",
            chains.join(", then ")
        )),
        None => {
            let expected = format!("rules from chain {chain} to dnat to {backend}");
            Err(not_proved(node, expected, "none that get there".to_owned()))
        }
    }
}

/// What a chain does.
struct Step {
    dnat_here: bool,
    next: Vec<String>,
}

/// Shortest way from a chain to one with the translation.
fn walk(from: &str, look: impl Fn(&str) -> io::Result<Step>) -> io::Result<Option<Vec<String>>> {
    let mut came_from: HashMap<String, Option<String>> = HashMap::from([(from.to_owned(), None)]);
    let mut queue = VecDeque::from([from.to_owned()]);
    while let Some(chain) = queue.pop_front() {
        let step = look(&chain)?;
        if step.dnat_here {
            let mut way = vec![chain];
            while let Some(Some(before)) = came_from.get(way.last().expect("never empty")) {
                way.push(before.clone());
            }
            way.reverse();
            return Ok(Some(way));
        }
        for next in step.next {
            if came_from.len() < CHAINS_MAX && !came_from.contains_key(&next) {
                came_from.insert(next.clone(), Some(chain.clone()));
                queue.push_back(next);
            }
        }
    }
    Ok(None)
}

/// The kernel translated the probe's own connection to the backend that answered.
fn translation(node: &NodeView<'_>, probe: &Probe) -> Result<String, ProxyError> {
    let tuple = Tuple::tcp(probe.client, probe.destination);
    let flow = conntrack::find(node.netns, tuple).map_err(net)?;
    let expected = format!("a connection {tuple} translated to {}", probe.backend);
    match flow {
        Some(flow) if flow.dnat() == Some(probe.backend) => Ok(format!(
            "conntrack: {tuple} is translated to {}{}",
            probe.backend,
            flow.snat().map_or(String::new(), |source| format!(", its source to {source}"))
        )),
        Some(flow) => {
            Err(not_proved(node, expected, format!("answers from {}", flow.reply.source)))
        }
        None => Err(not_proved(node, expected, "no such connection".to_owned())),
    }
}

/// No Service of another mode is there: iptables' chains in either backend, IPVS' table, programs
/// of mode ebpf.
fn nobody_else(node: &NodeView<'_>) -> Result<String, ProxyError> {
    foreign::expect_no_programs(node.netns, Mode::Nftables)?;
    let family = family(node.address);
    let found = ask(node.netns, move || {
        let mut found = Vec::new();
        let tables = kernel::tables(family)?;
        if kernel::has_chain(family, "nat", "KUBE-SERVICES")? {
            found.push("chain KUBE-SERVICES of iptables-nft".to_owned());
        }
        // Listing a legacy table would create it, with its hooks, where there is none.
        let names = format!("{}_tables_names", word_of_nft(family));
        if lines(&names)?.iter().any(|table| table == "nat") {
            found.push("iptables-legacy's table nat".to_owned());
        }
        let virtual_services = lines("ip_vs")?;
        found.extend(virtual_services.into_iter().filter(|line| {
            ["TCP", "UDP", "FWM"].iter().any(|protocol| line.starts_with(protocol))
        }));
        Ok((tables, found))
    })?;
    let (tables, others) = found;
    if !others.is_empty() {
        let expected = "no rules of another proxy mode".to_owned();
        return Err(not_proved(node, expected, others.join(", ")));
    }
    Ok(format!(
        "no iptables Services, no legacy nat table, no IPVS service; nf_tables' tables: {}",
        tables.join(", ")
    ))
}

/// Lines of a file in the namespace's `/proc/net`; none if the kernel has no such file.
fn lines(name: &str) -> io::Result<Vec<String>> {
    match std::fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Asks on the node's thread.
pub(super) fn ask<T: Send + 'static>(
    netns: &Netns,
    question: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ProxyError> {
    let subject = format!("nf_tables of {}", netns.name());
    netns.run(question).map_err(NetError::os("read", subject)).map_err(net)
}

fn net(source: NetError) -> ProxyError {
    ProxyError::Net { mode: Mode::Nftables, source }
}

fn not_proved(node: &NodeView<'_>, expected: String, found: String) -> ProxyError {
    let host = node.name.to_owned();
    ProxyError::NotProved { mode: Mode::Nftables, host, expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(from: &str) -> io::Result<Step> {
        let next: &[&str] = match from {
            "external" => &["mark", "service"],
            "service" => &["mark", "endpoint-1", "endpoint-2"],
            // A rule set that goes in circles is the kernel's to refuse, not ours to hang on.
            "endpoint-1" => &["external"],
            _ => &[],
        };
        let next = next.iter().map(|&chain| chain.to_owned()).collect();
        Ok(Step { dnat_here: from == "endpoint-2", next })
    }

    #[test]
    fn the_way_to_the_translation_is_found() {
        let way = walk("external", chains).unwrap();
        assert_eq!(way.unwrap(), ["external", "service", "endpoint-2"]);
    }

    #[test]
    fn where_no_way_leads_there_none_is_found() {
        assert_eq!(walk("endpoint-3", chains).unwrap(), None);
    }
}
