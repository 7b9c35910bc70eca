// SPDX-License-Identifier: Apache-2.0
//! Flags of `bench`.

use std::path::PathBuf;

use clap::Args;
use harness::plan::{CniChoice, Engine, IpStack, KernelChoice, Mode, Position, Route};
use harness::units::Span;

use super::{BetweenArgs, ClusterArgs, LabKind, ProxyArgs, engine};

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench --yes
  cargo xtask bench --mode iptables,nftables --services 1,1000,10000 --workload newconn
  cargo xtask bench --route clusterip-local,clusterip-remote --cni ptp,bridge,vxlan --duration 5s

Lists are separated by commas. What is not given comes from the profile.")]
pub(crate) struct BenchArgs {
    /// Profile: a name in profiles/ or a path [default: default; compare and gate: gate]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) profile: Option<String>,
    /// Where the hosts live: netns (network namespaces here), kind (clusters in Docker), kubeconfig (a
    /// cluster that exists)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "netns")]
    pub(crate) lab: Vec<LabKind>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Kernels: auto (the host's, or where it lacks a mode an installed one that has it), host, uml,
    /// uml:NAME|PATH, qemu, qemu:PATH
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) kernel: Vec<KernelChoice>,
    /// Proxy modes: none, userspace, iptables, ipvs, nftables, ebpf
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) mode: Vec<Mode>,
    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,
    /// Addresses of hosts, pods and Services: ipv4, ipv6, dual-ipv4, dual-ipv6 (both, and which requests go to; lab
    /// netns)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) ip: Vec<IpStack>,
    /// CNIs: ptp, bridge, vxlan, ipvlan, macvlan; exec:FILE.conflist (plugins of others); in lab kind also kindnet,
    /// flannel, calico, cilium
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) cni: Vec<CniChoice>,
    /// Routes: direct, clusterip, nodeport, lbip, loadbalancer, ingress, ingress-endpoints, each
    /// with -local or -remote
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) route: Vec<Route>,
    /// Services programmed, the measured one included
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) services: Vec<u32>,
    /// Where the measured Service stands among the others: first, middle, last
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) position: Vec<Position>,
    /// Workloads of the profile, by name
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Length of an iteration, with its unit: 500ms, 2s
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// Iterations of each case
    #[arg(long, value_name = "N")]
    pub(crate) iterations: Option<u32>,
    /// Capture engine: bpf (interfaces, netfilter hooks, sockets), tap (interfaces) or client (library
    /// calls only)
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub(crate) engine: Option<Engine>,
    #[command(flatten)]
    pub(crate) between: BetweenArgs,
    /// Seed of every random choice
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Write a pcapng per iteration, an interface for every hop
    #[arg(long)]
    pub(crate) pcap: bool,
    /// Keep the walks of the N slowest followed requests of each case, 0 to 100
    #[arg(long, value_name = "N")]
    pub(crate) trace_slowest: Option<u32>,
    /// Folder of the run [default: reports/runs/RUN-ID]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the run's summary.json instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Install missing packages without asking (Debian or Ubuntu, as root)
    #[arg(long)]
    pub(crate) yes: bool,
}
