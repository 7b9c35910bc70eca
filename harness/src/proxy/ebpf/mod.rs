// SPDX-License-Identifier: Apache-2.0
//! Services by BPF programs at the node's devices: a kube-proxy replacement small enough to read.
//!
//! What the programs do is in `harness/bpf/services.h`, compiled for either family (`proxy.bpf.c`,
//! `proxy-ipv6.bpf.c`). This side writes the maps they look into,
//! links them to the pods' veth pairs, the NIC and the VXLAN device, and removes connections that
//! are over. No Service costs a packet anything but the one look-up that finds it.
//!
//! Differences to kube-proxy:
//!
//! - A client outside keeps its address where the endpoint is on this node: the answer passes the
//!   node anyway. kube-proxy replaces it under policy Cluster.
//! - "From a pod" is told by the device a packet enters by, not by the cluster CIDR: a pod of
//!   another node that asks for this node's NodePort is an outsider here.
//! - UDP to a Service without endpoints is dropped, not refused.
//! - Connections that the node itself opens are not translated, endpoints on a node's own address
//!   are not reached, and a pod that is wired after the mode was installed is not served.
//! - Connections past the Services are not tracked: where a client has one to an endpoint itself,
//!   from the very port of another through a Service, its answers are taken for the other's.

#[cfg(feature = "bpf")]
mod check;
#[cfg(feature = "bpf")]
mod connection;
#[cfg(feature = "bpf")]
mod devices;
#[cfg(feature = "bpf")]
mod entry;
#[cfg(feature = "bpf")]
mod installed;
#[cfg(feature = "bpf")]
mod kernel;
mod plan;
#[cfg(feature = "bpf")]
mod proof;
#[cfg(feature = "bpf")]
mod sweep;
#[cfg(feature = "bpf")]
mod watch;

use std::net::IpAddr;
use std::time::Duration;

use self::plan::Plan;
use super::{Installed, NodeView, ProxyError, ProxyMode, RuleText, ServiceTable};
use crate::Unavailable;
use crate::net::Netns;
#[cfg(feature = "bpf")]
use crate::plan::IpFamily;
use crate::plan::Mode;

/// How long an idle connection is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, before the endpoint has answered.
    pub opening: Duration,
    /// TCP, answered.
    pub open: Duration,
    /// TCP, one side has sent its FIN.
    pub half_closed: Duration,
    /// TCP, both have.
    pub closed: Duration,
    /// TCP, one side has sent an RST.
    pub reset: Duration,
    /// UDP.
    pub datagrams: Duration,
}

impl Default for Timeouts {
    /// Those of netfilter (`net/netfilter/nf_conntrack_proto_tcp.c`) with kube-proxy's settings,
    /// but for ended connections, which only their last packets still need.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            opening: seconds(60),
            open: seconds(24 * 60 * 60),
            half_closed: seconds(120),
            closed: seconds(10),
            reset: seconds(2),
            datagrams: seconds(120),
        }
    }
}

/// The proxy mode `ebpf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ebpf {
    /// When idle connections are forgotten.
    pub timeouts: Timeouts,
    /// How often the maps are swept of them.
    pub sweep_every: Duration,
    /// Connections there is room for; beyond it those that were idle for longest go first.
    pub connections_max: u32,
}

impl Default for Ebpf {
    fn default() -> Self {
        let timeouts = Timeouts::default();
        Self { timeouts, sweep_every: Duration::from_secs(2), connections_max: 131_072 }
    }
}

impl ProxyMode for Ebpf {
    fn mode(&self) -> Mode {
        Mode::Ebpf
    }

    #[cfg(feature = "bpf")]
    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check::check(scratch, IpFamily::Ipv4)
    }

    #[cfg(not(feature = "bpf"))]
    fn check(&self, _: &Netns) -> Result<(), Unavailable> {
        Err(without_feature())
    }

    #[cfg(feature = "bpf")]
    fn check_texts(&self, node: &Netns, texts: &[RuleText]) -> Result<(), Unavailable> {
        // The line of a Service begins with its address.
        match texts.iter().any(|text| text.text.starts_with('[')) {
            true => check::check(node, IpFamily::Ipv6),
            false => Ok(()),
        }
    }

    /// The text and what is installed are written from one plan, which is made of the table.
    fn render(&self, table: &ServiceTable, node_name: &str, node_address: IpAddr) -> Vec<RuleText> {
        let plan = Plan::of(table, node_name, node_address);
        let (text, rules) = (plan.to_string(), plan.entries());
        vec![RuleText { name: "ebpf.maps", tool: Vec::new(), text, rules }]
    }

    #[cfg(feature = "bpf")]
    fn install(
        &self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        _: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        Ok(Box::new(installed::InstalledEbpf::install(self, node, table)?))
    }

    #[cfg(not(feature = "bpf"))]
    fn install(
        &self,
        _: &NodeView<'_>,
        _: &ServiceTable,
        _: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        let what = without_feature().to_string();
        Err(ProxyError::Unsupported { mode: Mode::Ebpf, what })
    }
}

#[cfg(not(feature = "bpf"))]
fn without_feature() -> Unavailable {
    let found = "a build without it";
    Unavailable::new("nic2pod built with the feature `bpf`", found, "build with default features")
}

#[cfg(test)]
mod tests;
