// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's ipvs mode: every Service address is an address of the node, on a dummy device, so
//! that its traffic meets ip_vs on the way in; a handful of iptables rules with sets decide what
//! is masqueraded.
//!
//! Where this differs from kube-proxy 1.31, and why:
//! - Sets that no Service of a table can fill (external addresses, source ranges, SCTP) are left
//!   out with their rules, except those that `KUBE-IPVS-FILTER` names whatever is in them.
//! - Virtual servers come in one input of `ipvsadm -R`. The kernel takes each line by itself: this
//!   is one call, but not one transaction; ip_vs has none. The same goes for sets.
//! - Ports of Service addresses that no Service has are dropped at the end of `KUBE-IPVS-FILTER`,
//!   not rejected: the target REJECT is not in every kernel that has ip_vs (it is not in the lab's
//!   User-Mode Linux), and no packet of a Service comes as far as that rule.
//! - `conn_reuse_mode` is set to 0 on kernels before 5.9 and left alone on others, as kube-proxy
//!   does; `arp_ignore` and `arp_announce` are its option `strictARP`, off by default and here: the
//!   lab's nodes are asked for no address but their NIC's.
//! - Of IPv6, names of sets begin with `KUBE-6-`, and rules are ip6tables', as kube-proxy has them.
//! - `KUBE-PROXY-FIREWALL` and `KUBE-IPVS-OUT-FILTER` are there and empty: they hold source ranges.

mod addresses;
mod carriage;
mod carried;
mod connections;
mod installed;
mod rules;
mod servers;
mod sets;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

pub(in crate::proxy) use self::carriage::Carriage;
pub(crate) use self::carried::Seen;
use self::installed::InstalledIpvs;
use self::servers::Servers;
use self::sets::Sets;
use super::error::one_line;
use super::iptables::{Backend, Counting};
use super::{Installed, NodeView, ProxyError, ProxyMode, RuleText, ServiceTable, Watch, sample};
use crate::Unavailable;
use crate::net::addresses::family;
use crate::net::{Netns, Tool};
use crate::plan::{IpFamily, IpvsScheduler, Mode};
use crate::proxy::iptables::Tables;

/// Begins to watch rules and servers of this mode, whoever made them.
pub(in crate::proxy) fn watch(
    tables: Tables,
    node: &NodeView<'_>,
) -> Result<Box<dyn Watch>, ProxyError> {
    let counting = Counting::begin(Mode::Ipvs, tables, node)?;
    Ok(Box::new(self::watch::IpvsWatch(counting)))
}

/// kube-proxy's ipvs mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ipvs {
    /// Which implementation of iptables.
    pub backend: Backend,
    /// How an endpoint is chosen.
    pub scheduler: IpvsScheduler,
}

impl ProxyMode for Ipvs {
    fn mode(&self) -> Mode {
        Mode::Ipvs
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        has_servers(scratch, self.scheduler)?;
        self.backend.of(IpFamily::Ipv4).check(scratch)?;
        tool(scratch, "ipset")?;
        addresses::check(scratch)?;
        self.takes(scratch, &sample::with_endpoints(), Ipv4Addr::LOCALHOST.into())
    }

    fn check_texts(&self, node: &Netns, texts: &[RuleText]) -> Result<(), Unavailable> {
        if !texts.iter().any(RuleText::is_of_ipv6) {
            return Ok(());
        }
        self.backend.of(IpFamily::Ipv6).check(node)?;
        let table = sample::in_ipv6(sample::with_endpoints());
        self.takes(node, &table, Ipv6Addr::LOCALHOST.into())
    }

    fn render(&self, table: &ServiceTable, node_name: &str, node_address: IpAddr) -> Vec<RuleText> {
        let sets = Sets::of(table, node_name, family(node_address));
        let servers = Servers::of(table, node_name, node_address, self.scheduler);
        vec![
            sets.whole(),
            self.backend.of(family(node_address)).rule_text(rules::whole(&sets)),
            servers.whole(),
        ]
    }

    fn install(
        &self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        Ok(Box::new(InstalledIpvs::install(self, node, table, texts)?))
    }
}

impl Ipvs {
    /// Whether a namespace takes a table's sets, rules and servers.
    fn takes(
        &self,
        netns: &Netns,
        table: &ServiceTable,
        address: IpAddr,
    ) -> Result<(), Unavailable> {
        let texts = self.render(table, sample::NODE, address);
        installed::check(self.backend.of(family(address)), netns, &texts)
    }
}

/// Whether virtual servers can be made.
///
/// # Errors
/// What is missing.
pub(crate) fn has_servers(scratch: &Netns, scheduler: IpvsScheduler) -> Result<(), Unavailable> {
    // The kernel before the tool: installing it helps nobody whose kernel has no IPVS.
    if !kernel_may_have_ip_vs() {
        return Err(servers::without_ip_vs("neither /proc/net/ip_vs nor a module of it"));
    }
    servers::check(scratch, scheduler)
}

/// Whether the kernel has IPVS, or a module of it that could be loaded.
pub fn kernel_may_have_ip_vs() -> bool {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_owned()).unwrap_or_default();
    let modules = PathBuf::from("/lib/modules").join(release).join("kernel/net/netfilter/ipvs");
    Path::new("/proc/net/ip_vs").exists() || modules.is_dir()
}

/// Whether a tool is there. `ipvsadm` asks the kernel even for its version, so it is not asked here.
fn tool(scratch: &Netns, name: &'static str) -> Result<(), Unavailable> {
    match Tool::new(name).args(["--version"]).run_on(scratch) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Unavailable::new(name, one_line(&error), format!("apt-get install {name}")))
        }
    }
}

/// A short text of its own, with the tool that takes it.
fn text(name: &'static str, tool: &[&str], text: String) -> RuleText {
    let rules = text.lines().count() as u64;
    RuleText { name, tool: tool.iter().map(|word| (*word).to_owned()).collect(), text, rules }
}

#[cfg(test)]
mod tests;
