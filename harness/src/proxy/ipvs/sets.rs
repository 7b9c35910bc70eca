// SPDX-License-Identifier: Apache-2.0
//! Sets of addresses and ports that the constant iptables rules of mode ipvs look into
//! (`pkg/proxy/ipvs/ipset.go`).

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::net::IpAddr;

use super::super::{Policy, Protocol, RuleText, Service, ServicePort, ServiceTable};
use super::text;
use crate::plan::IpFamily;

/// Most members of a set, ipset's default; kube-proxy leaves it at that.
const MEMBERS: usize = 65_536;

/// A set and what a rule says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    LoopBack,
    ClusterIp,
    ExternalIp,
    ExternalIpLocal,
    LoadBalancer,
    LoadBalancerLocal,
    NodePortTcp,
    NodePortLocalTcp,
    NodePortUdp,
    NodePortLocalUdp,
    HealthCheckNodePort,
    IpvsIps,
}

impl Set {
    /// In kube-proxy's order (`ipsetInfo`).
    pub(super) const ALL: [Self; 12] = [
        Self::LoopBack,
        Self::ClusterIp,
        Self::ExternalIp,
        Self::ExternalIpLocal,
        Self::LoadBalancer,
        Self::LoadBalancerLocal,
        Self::NodePortTcp,
        Self::NodePortLocalTcp,
        Self::NodePortUdp,
        Self::NodePortLocalUdp,
        Self::HealthCheckNodePort,
        Self::IpvsIps,
    ];

    /// Its name in the kernel, of at most 31 characters (`IPSET_MAXNAMELEN`).
    pub(super) fn name(self, family: IpFamily) -> String {
        format!("{}{}", prefix(family), self.word())
    }

    fn word(self) -> &'static str {
        match self {
            Self::LoopBack => "LOOP-BACK",
            Self::ClusterIp => "CLUSTER-IP",
            Self::ExternalIp => "EXTERNAL-IP",
            Self::ExternalIpLocal => "EXTERNAL-IP-LOCAL",
            Self::LoadBalancer => "LOAD-BALANCER",
            Self::LoadBalancerLocal => "LOAD-BALANCER-LOCAL",
            Self::NodePortTcp => "NODE-PORT-TCP",
            Self::NodePortLocalTcp => "NODE-PORT-LOCAL-TCP",
            Self::NodePortUdp => "NODE-PORT-UDP",
            Self::NodePortLocalUdp => "NODE-PORT-LOCAL-UDP",
            Self::HealthCheckNodePort => "HEALTH-CHECK-NODE-PORT",
            Self::IpvsIps => "IPVS-IPS",
        }
    }

    fn create(self, family: IpFamily) -> String {
        let inet = match family {
            IpFamily::Ipv4 => "inet",
            IpFamily::Ipv6 => "inet6",
        };
        let hash =
            |kind: &str| format!("hash:{kind} family {inet} hashsize 1024 maxelem {MEMBERS}");
        let kind = match self {
            Self::LoopBack => hash("ip,port,ip"),
            Self::IpvsIps => hash("ip"),
            Self::ClusterIp
            | Self::ExternalIp
            | Self::ExternalIpLocal
            | Self::LoadBalancer
            | Self::LoadBalancerLocal => hash("ip,port"),
            Self::NodePortTcp
            | Self::NodePortLocalTcp
            | Self::NodePortUdp
            | Self::NodePortLocalUdp
            | Self::HealthCheckNodePort => "bitmap:port range 0-65535".to_owned(),
        };
        format!("create {} {kind}\n", self.name(family))
    }
}

/// What names of sets of a family begin with (`NewIPSet`).
fn prefix(family: IpFamily) -> &'static str {
    match family {
        IpFamily::Ipv4 => "KUBE-",
        IpFamily::Ipv6 => "KUBE-6-",
    }
}

/// Members of all sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) family: IpFamily,
    /// Lines of `ipset restore`, in the table's order.
    entries: String,
    count: u64,
    filled: BTreeSet<Set>,
    /// Length of `entries` before the last Service's.
    last: usize,
}

impl Sets {
    /// Members for a table on node `node`.
    pub(super) fn of(table: &ServiceTable, node: &str, family: IpFamily) -> Self {
        let entries = String::with_capacity(table.services.len() * 96);
        let (count, filled, last) = (0, BTreeSet::new(), 0);
        let mut sets = Self { family, entries, count, filled, last };
        for service in &table.services {
            sets.last = sets.entries.len();
            for port in &service.ports {
                sets.port(service, port, node);
            }
            for ip in addresses(service) {
                sets.add(Set::IpvsIps, format_args!("{ip}"));
            }
        }
        sets
    }

    /// Whether anything is in a set.
    pub(super) fn is_filled(&self, set: Set) -> bool {
        self.filled.contains(&set)
    }

    fn port(&mut self, service: &Service, port: &ServicePort, node: &str) {
        let (protocol, at) = (port.protocol.word(), port.port);
        for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.node == node) {
            let (ip, to) = (endpoint.address.ip(), endpoint.address.port());
            self.add(Set::LoopBack, format_args!("{ip},{protocol}:{to},{ip}"));
        }
        self.add(Set::ClusterIp, format_args!("{},{protocol}:{at}", service.cluster_ip));
        let local = service.external_policy == Policy::Local;
        for ip in &service.load_balancer_ips {
            self.add(Set::LoadBalancer, format_args!("{ip},{protocol}:{at}"));
            if local {
                self.add(Set::LoadBalancerLocal, format_args!("{ip},{protocol}:{at}"));
            }
        }
        if let Some(node_port) = port.node_port {
            let (all, only_local) = match port.protocol {
                Protocol::Tcp => (Set::NodePortTcp, Set::NodePortLocalTcp),
                Protocol::Udp => (Set::NodePortUdp, Set::NodePortLocalUdp),
            };
            self.add(all, format_args!("{node_port}"));
            if local {
                self.add(only_local, format_args!("{node_port}"));
            }
        }
    }

    fn add(&mut self, set: Set, member: std::fmt::Arguments<'_>) {
        // An endpoint may be behind several Services and is then added again.
        writeln!(self.entries, "add {}{} {member} -exist", prefix(self.family), set.word())
            .expect("a String takes any text");
        self.filled.insert(set);
        self.count += 1;
    }

    /// The input that makes and fills the sets.
    pub(super) fn whole(&self) -> RuleText {
        let mut whole: String = Set::ALL.into_iter().map(|set| set.create(self.family)).collect();
        whole.push_str(&self.entries);
        RuleText { rules: self.count, ..text("ipset.rules", &["ipset", "restore"], whole) }
    }

    /// Members of all sets together, each counted once.
    pub(super) fn members(&self) -> usize {
        self.entries.lines().collect::<HashSet<_>>().len()
    }

    /// The input that adds the table's last Service.
    pub(super) fn addition(&self) -> RuleText {
        let entries = self.entries[self.last..].to_owned();
        text("ipset.rules", &["ipset", "restore"], entries)
    }
}

/// Addresses of a Service that the node has to have: all but its own.
pub(super) fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    std::iter::once(service.cluster_ip).chain(service.load_balancer_ips.iter().copied())
}

/// Members of all kube-proxy's sets, from the listing of `ipset list -terse`.
pub(super) fn listed(listing: &str, family: IpFamily) -> usize {
    let names = Set::ALL.map(|set| set.name(family));
    let ours = |set: &&str| names.iter().any(|name| set.lines().next() == Some(name));
    let count = |set: &str| {
        let line = set.lines().find_map(|line| line.strip_prefix("Number of entries: "))?;
        line.trim().parse::<usize>().ok()
    };
    listing.split("Name: ").filter(ours).filter_map(count).sum()
}

/// Whether a set of this name is one of a family's.
pub(super) fn is_of(name: &str, family: IpFamily) -> bool {
    Set::ALL.iter().any(|set| set.name(family) == name)
}

/// The input that removes the sets.
pub(super) fn removal(family: IpFamily) -> RuleText {
    let lines = Set::ALL.map(|set| format!("destroy {}\n", set.name(family))).concat();
    text("ipset.rules", &["ipset", "restore"], lines)
}
