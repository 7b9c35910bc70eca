// SPDX-License-Identifier: Apache-2.0
//! Mode ipvs on a node: sets, rules, virtual servers and addresses, and the proof of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::error::one_line;
use super::super::iptables::{Counters, Look, Rules};
use super::super::sysctl::Sysctls;
use super::super::{
    Installed, NodeView, Probe, ProxyError, RuleText, ServiceTable, Watch, foreign,
};
use super::carriage::Carriage;
use super::servers::Servers;
use super::sets::{self, Sets};
use super::{Ipvs, addresses, rules};
use crate::Unavailable;
use crate::net::addresses::family;
use crate::net::{Change, LinkSettings, NetError, Netns, Tool, ToolError};
use crate::plan::{IpFamily, IpvsScheduler, Mode};
use crate::proxy::iptables::Tables;

/// What kube-proxy sets (`NewProxier`). With `conntrack`, packets that ip_vs has translated are
/// tracked, which masquerading needs.
const SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/vs/conntrack", "1"),
    ("net/ipv4/vs/expire_nodest_conn", "1"),
    ("net/ipv4/vs/expire_quiescent_template", "1"),
];

/// The setting that makes a node of a family's pass packets on.
fn forwarding(family: IpFamily) -> (&'static str, &'static str) {
    match family {
        IpFamily::Ipv4 => ("net/ipv4/ip_forward", "1"),
        IpFamily::Ipv6 => ("net/ipv6/conf/all/forwarding", "1"),
    }
}

/// Under 1, the kernel's default, a connection from a port that was used before gets an endpoint
/// anew; kernels before 5.9 delay it by a second for that (Kubernetes #93297), so kube-proxy sets 0
/// there, and has left the setting alone since.
const CONN_REUSE_MODE: (&str, &str) = ("net/ipv4/vs/conn_reuse_mode", "0");
const CONN_REUSE_FIXED: (u32, u32) = (5, 9);

/// What kube-proxy sets on a kernel of this release.
fn sysctls(release: &str, family: IpFamily) -> Vec<(&'static str, &'static str)> {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit()).map(str::parse);
    let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let old = (number(), number()) < CONN_REUSE_FIXED;
    let those = SYSCTLS.iter().copied().chain([forwarding(family)]);
    those.chain(old.then_some(CONN_REUSE_MODE)).collect()
}

/// Mode ipvs on a node.
#[derive(Debug)]
pub(super) struct InstalledIpvs {
    parts: Parts,
    counters: Counters,
    carriage: Carriage,
    scheduler: IpvsScheduler,
}

/// What is on the node, in the order it was put there.
#[derive(Debug, Default)]
struct Parts {
    sysctls: Option<Sysctls>,
    /// The family they are of.
    sets: Option<IpFamily>,
    rules: Option<Rules>,
    /// The family they are of.
    servers: Option<IpFamily>,
    /// Whether it is this that made it, and not the other family's.
    device: bool,
    addresses: Vec<IpAddr>,
}

fn tool(op: &'static str) -> impl Fn(ToolError) -> ProxyError {
    move |source| ProxyError::Tool { op, mode: Mode::Ipvs, source }
}

fn net(source: NetError) -> ProxyError {
    ProxyError::Net { mode: Mode::Ipvs, source }
}

impl Parts {
    /// Puts everything on a node. What is there is noted as it goes, so that it can be removed.
    fn install(
        &mut self,
        tables: Tables,
        netns: &Netns,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<(), ProxyError> {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_owned());
        let release = release.unwrap_or_default();
        let sysctls = sysctls(&release.to_string_lossy(), tables.family);
        self.sysctls = Some(Sysctls::write(netns, &sysctls).map_err(net)?);
        for text in texts {
            match text.name {
                "ipset.rules" => {
                    self.sets = Some(tables.family);
                    text.apply(netns).map_err(tool("install"))?;
                }
                "ipvs.rules" => {
                    self.servers = Some(tables.family);
                    text.apply(netns).map_err(tool("install"))?;
                }
                _ => self.rules = Some(Rules::install(Mode::Ipvs, tables, netns, texts)?),
            }
        }
        self.device = addresses::make_device(netns).map_err(net)?;
        self.addresses = table.services.iter().flat_map(sets::addresses).collect();
        addresses::add(netns, self.addresses.clone()).map_err(net)
    }

    /// Takes everything off again, last things first, and goes on when one part fails.
    fn remove(self, netns: &Netns) -> Result<(), ProxyError> {
        let mut outcome = Ok(());
        let mut note = |result: Result<(), ProxyError>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        if self.device {
            note(addresses::remove_device(netns).map_err(net));
        } else if !self.addresses.is_empty() {
            note(addresses::remove(netns, self.addresses).map_err(net));
        }
        if let Some(family) = self.servers {
            note(remove_servers(netns, family));
        }
        if let Some(rules) = self.rules {
            note(rules.remove(netns));
        }
        // Last but one: a set that a rule looks into cannot be removed.
        if let Some(family) = self.sets {
            note(sets::removal(family).apply(netns).map_err(tool("remove")));
        }
        if let Some(sysctls) = self.sysctls {
            note(sysctls.put_back(netns).map_err(net));
        }
        match (outcome, self.sets) {
            (Ok(()), Some(family)) => nothing_left(netns, family),
            (outcome, _) => outcome,
        }
    }
}

/// Virtual servers of a family, as `-t` or `-u` and their address. Not by `/proc/net/ip_vs`: Linux 6.1 counts
/// other namespaces' when it goes on after a page, and passes some of ours over (`ip_vs_info_seq_next`).
fn servers_of(netns: &Netns, family: IpFamily) -> Result<Vec<String>, ProxyError> {
    let all = Tool::new("ipvsadm").args(["-S", "-n"]).run_on(netns).map_err(tool("read back"))?;
    let of = |line: &str| {
        let mut words = line.strip_prefix("-A ")?.split(' ');
        let (protocol, address) = (words.next()?, words.next()?);
        let is_of = address.starts_with('[') == (family == IpFamily::Ipv6);
        is_of.then(|| format!("{protocol} {address}"))
    };
    Ok(all.lines().filter_map(of).collect())
}

/// Those of the other family stay.
fn remove_servers(netns: &Netns, family: IpFamily) -> Result<(), ProxyError> {
    let servers = servers_of(netns, family)?;
    let lines: String = servers.iter().map(|server| format!("-D {server}\n")).collect();
    let removal = Tool::new("ipvsadm").args(["-R"]).stdin(lines);
    removal.run_on(netns).map(drop).map_err(tool("remove"))
}

fn nothing_left(netns: &Netns, family: IpFamily) -> Result<(), ProxyError> {
    let servers = servers_of(netns, family)?;
    let sets = Tool::new("ipset").args(["list", "-n"]).run_on(netns).map_err(tool("read back"))?;
    let set = sets.lines().find(|name| sets::is_of(name, family));
    match servers.first().map(String::as_str).or(set) {
        None => Ok(()),
        Some(left) => {
            let (host, left) = (netns.name().to_owned(), left.to_owned());
            Err(ProxyError::Left { mode: Mode::Ipvs, host, left })
        }
    }
}

/// Asks a kernel whether it takes sets and rules, by giving it them and taking them away.
pub(super) fn check(
    tables: Tables,
    scratch: &Netns,
    texts: &[RuleText],
) -> Result<(), Unavailable> {
    let mut parts = Parts::default();
    let table = ServiceTable::default();
    // A namespace without any address has no table of local ones where routing has several tables,
    // and ip_vs then takes no address for one that a server can have (fib_frontend.c,
    // `__inet_dev_addr_type`; ip_vs_ctl.c, `ip_vs_new_dest`). A node has its loopback up.
    let up = scratch.apply(vec![Change::SetLink(LinkSettings::up("lo"))]);
    let installed = up.map_err(net).and_then(|()| parts.install(tables, scratch, &table, texts));
    let removed = parts.remove(scratch);
    installed.and(removed).map_err(|error| {
        Unavailable::new(
            "a kernel that takes kube-proxy's sets and rules",
            one_line(&error),
            "modprobe -a ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip \
             ip_set_bitmap_port xt_set nf_tables nft_compat nft_chain_nat",
        )
    })
}

impl InstalledIpvs {
    pub(super) fn install(
        mode: &Ipvs,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Self, ProxyError> {
        let mut parts = Parts::default();
        let (counters, carriage) = (Counters::default(), Carriage::by(Some(mode.scheduler)));
        let tables = mode.backend.of(family(node.address));
        match parts.install(tables, node.netns, table, texts) {
            Ok(()) => Ok(Self { parts, counters, carriage, scheduler: mode.scheduler }),
            Err(error) => {
                parts.remove(node.netns)?;
                Err(error)
            }
        }
    }

    fn rules(&mut self) -> &mut Rules {
        self.parts.rules.as_mut().expect("installed rules stay until they are removed")
    }

    fn look<'a, 'n>(&'a mut self, node: &'a NodeView<'n>) -> Look<'a, 'n> {
        let tables = self.rules().tables();
        Look { mode: Mode::Ipvs, tables, counters: &mut self.counters, node }
    }

    /// ip_vs has as many virtual servers as the table asks for, the sets as many members, the device
    /// as many addresses.
    fn complete(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
    ) -> Result<Vec<String>, ProxyError> {
        let servers = Servers::of(table, node.name, node.address, self.scheduler).count();
        let family = family(node.address);
        let servers_found = servers_of(node.netns, family)?.len();
        let members = Sets::of(table, node.name, family).members();
        let list = Tool::new("ipset").args(["list", "-terse"]).run_on(node.netns);
        let members_found = sets::listed(&list.map_err(tool("read back"))?, family);
        let all: BTreeSet<_> = table.services.iter().flat_map(sets::addresses).collect();
        let addresses_found = addresses::count(node.netns, family).map_err(net)?;
        let mut evidence = Vec::new();
        for (what, expected, found) in [
            ("virtual servers in ip_vs", servers, servers_found),
            ("members of kube-proxy's sets", members, members_found),
            ("addresses of kube-ipvs0", all.len(), addresses_found),
        ] {
            if found != expected {
                let expected = format!("{what}: {expected}");
                return Err(self.look(node).missing(expected, found.to_string()));
            }
            evidence.push(format!("{what}: {found}"));
        }
        Ok(evidence)
    }
}

impl Installed for InstalledIpvs {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        let Tables { backend, family } = self.rules().tables();
        let mut evidence =
            vec![foreign::expect_only(node.netns, Mode::Ipvs, Some(backend), family)?];
        let entrance = self.look(node).counted("nat", "PREROUTING", &[], &["KUBE-SERVICES"])?;
        evidence.push(entrance);
        evidence.extend(self.complete(node, table)?);
        if probe.destination == probe.backend {
            return Ok(evidence);
        }
        evidence.extend(self.carriage.prove(node, table, probe)?);
        Ok(evidence)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        super::watch(self.rules().tables(), node)
    }

    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError> {
        let Some(service) = table.services.last() else { return Ok(()) };
        let sets = Sets::of(table, node.name, family(node.address));
        let servers = Servers::of(table, node.name, node.address, self.scheduler);
        sets.addition().apply(node.netns).map_err(tool("add to"))?;
        self.rules().change(node.netns, rules::again(&sets))?;
        servers.addition().apply(node.netns).map_err(tool("add to"))?;
        addresses::add(node.netns, sets::addresses(service).collect()).map_err(net)
    }

    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError> {
        self.parts.remove(node.netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_reused_without_a_new_choice_on_old_kernels_only() {
        for (release, old) in [("4.19.0-27-amd64", true), ("5.8.18", true), ("5.9.0-rc1", false)] {
            assert_eq!(
                sysctls(release, IpFamily::Ipv4).contains(&CONN_REUSE_MODE),
                old,
                "{release}"
            );
        }
        assert!(!sysctls("6.18.44", IpFamily::Ipv4).contains(&CONN_REUSE_MODE));
    }
}
