// SPDX-License-Identifier: Apache-2.0
//! The command line.

mod between;
mod judge;
mod proxy;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use harness::plan::{CniChoice, CniKind, Engine, IpStack, KernelChoice, Mode, Position, Route};
use harness::units::Span;

pub(crate) use self::between::BetweenArgs;
pub(crate) use self::judge::{BaselineArgs, CompareArgs, GateArgs, JudgeArgs, OutputArgs};
pub(crate) use self::proxy::ProxyArgs;

/// What does a Kubernetes Service really cost, and where?
///
/// Builds a lab of network namespaces on this machine, drives HTTP through a node's NIC under each
/// proxy mode, and shows where every microsecond went.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done; skipped cases are in the record with their reasons
  1    a case failed, or a bug in nic2pod
  2    a flag or a profile cannot be used
  3    a gate found a regression
  4    no case could be measured
  69   the lab cannot be had on this machine
  130  stopped by Ctrl-C; the cases measured so far are kept";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure: build the lab, drive load through it, write a record and a report
    Bench(BenchArgs),
    /// Follow one request through every place it passes, there and back
    Trace(TraceArgs),
    /// Compare two modes, two records or two revisions, metric by metric, with a word for each
    Compare(CompareArgs),
    /// Fail on a regression against a baseline or between two revisions
    Gate(GateArgs),
    /// Measure a baseline for the gate, and keep it with where it was made
    Baseline(BaselineArgs),
    /// Draw the report of one run or several again
    Report(ReportArgs),
    /// Questions that a run can answer: the profiles there are
    #[command(subcommand)]
    Profiles(ProfilesCommand),
    /// Look at what this machine can do, or clean up after a killed run
    #[command(subcommand)]
    Lab(LabCommand),
    /// Run every test this machine can run, ring by ring
    Test(TestArgs),
    /// Build the committed BPF objects again; needs clang
    Bpf(BpfArgs),
    /// Programs that run on the lab's hosts; they speak JSON lines
    #[command(subcommand, hide = true)]
    Agent(Agent),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfilesCommand {
    /// Every profile's name, question, cases and time
    Ls,
    /// A profile's text and all its settings, every default filled in
    Show {
        /// Profile: a name that `ls` shows or a path
        #[arg(value_name = "NAME|FILE")]
        profile: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Every capability, what needs it, and what supplies it
    Doctor,
    /// Remove what killed runs left behind
    Gc,
    /// Bring a kind cluster up and keep it
    Up(LabUpArgs),
    /// Write the image of nic2pod's agents to a file, for docker load, and print its name
    Image {
        /// File to write
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// With the program that puts probes on nodes, for bench --probes
        #[arg(long)]
        probes: bool,
    },
    /// kind clusters that are up
    Ls,
    /// Take kind clusters down, those that are named or all of nic2pod's
    Down {
        /// Names that `ls` shows
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Build, list and choose User-Mode Linux kernels for labs
    #[command(subcommand)]
    Kernel(KernelCommand),
}

#[derive(Debug, Args)]
pub(crate) struct LabUpArgs {
    /// Proxy mode
    #[arg(long, default_value = "iptables")]
    pub(crate) mode: Mode,
    /// CNI
    #[arg(long, default_value = "bridge")]
    pub(crate) cni: CniKind,
    /// Nodes, the control plane's included
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) nodes: u32,
    /// kind's program [default: $KIND, or kind in PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) kind_bin: Option<PathBuf>,
    /// Image of the nodes [default: $NIC2POD_KIND_IMAGE, or kind's own]
    #[arg(long, value_name = "REF")]
    pub(crate) node_image: Option<String>,
    #[command(flatten)]
    pub(crate) cni_files: CniArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Build a kernel with everything that modes, CNIs and engines need, and keep it
    Build(KernelBuildArgs),
    /// The kernels there are; the one in use has a star
    Ls,
    /// Choose the kernel that --kernel uml runs on
    Use {
        /// A name or version that `ls` shows, or a path of a file built elsewhere, with a slash in it
        #[arg(value_name = "NAME|PATH")]
        kernel: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab kernel build --yes
  cargo xtask lab kernel build --source ~/linux --config kasan.config

Without --source, the distribution's newest linux-source package is taken, or where that is older
than 6.19, Debian sid's. Sources are never written to. Kernels are kept in
$XDG_CACHE_HOME/nic2pod/kernels, named by version and configuration; the build needs 5 GiB there.")]
pub(crate) struct KernelBuildArgs {
    /// A kernel tree of your own, clean (never configured in)
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// Further options, in Kconfig's form, laid over the project's
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Install missing packages without asking (Debian or Ubuntu, as root)
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    Load,
    Target,
    Ingress,
    Dns,
    Proxy,
    /// The probes of a node, in a privileged pod.
    #[cfg(feature = "bpf")]
    Probe {
        /// Where it is asked.
        listen: String,
    },
    /// Process 1 of a guest.
    Guest {
        #[arg(long)]
        port: String,
    },
    /// The lab in a guest.
    GuestLab {
        #[arg(long)]
        port: String,
    },
    /// Test programs in User-Mode Linux.
    TestInUml(InUmlArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InUmlArgs {
    /// Test programs, by name
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) test: Vec<String>,
    /// Tests at a time
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: u32,
    /// Processors of the guest
    #[arg(long, default_value_t = 1)]
    pub(crate) cpus: u32,
    /// Further arguments of the test programs
    #[arg(last = true)]
    pub(crate) filter: Vec<String>,
}

/// Which lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabKind {
    /// Network namespaces on this machine.
    Netns,
    /// kind clusters in Docker, with the real kube-proxy.
    Kind,
    /// A cluster that exists.
    Kubeconfig,
    /// Times written in the profile, for tests.
    #[value(hide = true)]
    Fake,
}

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

/// Clusters.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    pub(crate) kind: KindArgs,
    /// Context of the kubeconfig that names the cluster
    #[arg(long, value_name = "NAME", help_heading = "Labs kind and kubeconfig")]
    pub(crate) context: Option<String>,
    /// Jobs that load a cluster that exists, spread over its nodes
    #[arg(long, value_name = "N", help_heading = "Labs kind and kubeconfig")]
    pub(crate) load_workers: Option<u32>,
    /// Image with nic2pod's agents in a registry that the cluster reaches; kind's nodes are given theirs
    #[arg(long, value_name = "REF", help_heading = "Labs kind and kubeconfig")]
    pub(crate) image: Option<String>,
    /// Put probes on the nodes of a cluster that exists, in privileged pods of the run's own namespace: its
    /// cases then have stages
    #[arg(long, help_heading = "Labs kind and kubeconfig")]
    pub(crate) probes: bool,
}

/// kind's clusters.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KindArgs {
    /// kind's program [default: $KIND, or kind in PATH]
    #[arg(long, value_name = "FILE", help_heading = "Labs kind and kubeconfig")]
    pub(crate) kind_bin: Option<PathBuf>,
    /// Image of the nodes of a kind cluster [default: $NIC2POD_KIND_IMAGE, or kind's own]
    #[arg(long, value_name = "REF", help_heading = "Labs kind and kubeconfig")]
    pub(crate) node_image: Option<String>,
    /// Leave the run's kind clusters up, for a run to come
    #[arg(long, help_heading = "Labs kind and kubeconfig")]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) cni_files: CniArgs,
}

/// Files of CNIs that come as manifests.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CniArgs {
    /// Manifest of flannel, calico or cilium in lab kind, in place of the published one
    #[arg(
        long = "cni-manifest", value_name = "CNI=FILE", value_parser = cni_file,
        help_heading = "Labs kind and kubeconfig"
    )]
    pub(crate) manifests: Vec<(CniKind, PathBuf)>,
    /// Archive with the images of that CNI, as docker save writes it, for clusters without a network
    #[arg(
        long = "cni-images", value_name = "CNI=FILE", value_parser = cni_file,
        help_heading = "Labs kind and kubeconfig"
    )]
    pub(crate) images: Vec<(CniKind, PathBuf)>,
}

fn cni_file(text: &str) -> Result<(CniKind, PathBuf), String> {
    let (cni, file) = text.split_once('=').ok_or_else(|| {
        format!("`{text}` is not a CNI and a file, for example flannel=flannel.yml")
    })?;
    let cni: CniKind = cni.parse()?;
    if !cni.is_by_manifest() {
        return Err(format!("{cni} does not come as a manifest"));
    }
    Ok((cni, file.into()))
}

fn engine(word: &str) -> Result<Engine, String> {
    match word {
        "client" => Ok(Engine::Client),
        "tap" => Ok(Engine::Tap),
        "bpf" => Ok(Engine::Bpf),
        other => Err(format!("`{other}` is not one of client, tap, bpf")),
    }
}

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

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run folders
    #[arg(required_unless_present = "history", value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// Draw every metric over all runs in a folder instead, and mark where its level changed
    #[arg(long, value_name = "DIR", conflicts_with = "runs")]
    pub(crate) history: Option<PathBuf>,
    /// Where to write [default: the run's own folder, or the first one's; a history's own]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BpfArgs {
    /// Only show that objects and sources agree
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Rings to run: house, 0, 1, 2, 3, 4, 5
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) ring: Vec<String>,
    /// Begin no ring that would not end within this time, with its unit: 80m [default: NIC2POD_TEST_WITHIN, else
    /// each]
    #[arg(long, value_name = "TIME")]
    pub(crate) within: Option<Span>,
    /// Install missing packages without asking (Debian or Ubuntu, as root)
    #[arg(long)]
    pub(crate) yes: bool,
}
