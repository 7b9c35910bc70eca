// SPDX-License-Identifier: Apache-2.0
//! Flags of `trace`.

use std::path::PathBuf;

use clap::Args;
use harness::plan::{CniChoice, Engine, IpStack, KernelChoice, Mode, Route};

use super::{BetweenArgs, KindArgs, LabKind, ProxyArgs, engine};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask trace
  cargo xtask trace --mode iptables --cni vxlan --services 1000 --html trace.html
  cargo xtask trace --mode none,iptables,nftables --perfetto trace.json --pcap trace.pcapng

The walk goes to standard output, the paths of files to standard error.")]
pub(crate) struct TraceArgs {
    /// Profile: a name in profiles/ or a path
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub(crate) profile: String,
    /// Where the hosts live: netns or kind
    #[arg(long, value_name = "LAB", default_value = "netns")]
    pub(crate) lab: LabKind,
    #[command(flatten)]
    pub(crate) kind: KindArgs,
    /// Kernel: auto, host, uml, uml:NAME|PATH, qemu, qemu:PATH [default: the profile's]
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Option<KernelChoice>,
    /// Proxy modes, traced in turn: none, userspace, iptables, ipvs, nftables, ebpf
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "nftables")]
    pub(crate) mode: Vec<Mode>,
    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,
    /// Addresses of hosts, pods and Services: ipv4, ipv6, dual-ipv4, dual-ipv6 [default: the profile's]
    #[arg(long, value_name = "STACK")]
    pub(crate) ip: Option<IpStack>,
    /// CNI: ptp, bridge, vxlan, ipvlan, macvlan; exec:FILE.conflist (plugins of others); in lab kind also kindnet,
    /// flannel, calico, cilium
    #[arg(long, value_name = "CNI", default_value = "bridge")]
    pub(crate) cni: CniChoice,
    /// Route: direct, clusterip, nodeport, lbip, loadbalancer, ingress, ingress-endpoints, each
    /// with -local or -remote
    #[arg(long, value_name = "ROUTE", default_value = "nodeport-remote")]
    pub(crate) route: Route,
    #[command(flatten)]
    pub(crate) between: BetweenArgs,
    /// Services programmed, the one asked included
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) services: u32,
    /// Workload of the profile, by name: what kind of request is made
    #[arg(long, value_name = "NAME", default_value = "newconn")]
    pub(crate) workload: String,
    /// Capture engine [default: the profile's]
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub(crate) engine: Option<Engine>,
    /// Print the walks as a JSON array instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a trace that ui.perfetto.dev opens
    #[arg(long, value_name = "FILE")]
    pub(crate) perfetto: Option<PathBuf>,
    /// Write a pcapng, an interface for every hop; of several modes one file each, named after it
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
    /// Write a page with the path drawn
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write everything: walks.json, trace.txt, trace.json, trace.html, trace.pcapng
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Install missing packages without asking (Debian or Ubuntu, as root)
    #[arg(long)]
    pub(crate) yes: bool,
}
