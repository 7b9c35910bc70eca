// SPDX-License-Identifier: Apache-2.0
//! A profile: what `profiles/*.toml` say. `profiles/default.toml` documents every key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use workloads::protocol::{Connection, Protocol, Schedule, TlsVersion};

use super::nftables_transactions::NftablesTransactions;
use super::reverse_path::ReversePath;
use super::wire::WireSettings;
use super::{
    CniChoice, CniKind, Conflist, IpStack, KernelChoice, Mode, PlanError, Position, Proxy, Route,
};
use crate::units::Span;

/// A profile with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The question it answers, in one sentence.
    pub question: String,
    /// What it measures and how to read its report, a few sentences; may be empty.
    pub about: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// The axes.
    pub matrix: MatrixSettings,
    /// How each case is measured.
    pub run: RunSettings,
    /// Topology of the netns lab.
    pub lab: LabSettings,
    /// The Services.
    pub service: ServiceSettings,
    /// Workloads by name.
    pub workload: BTreeMap<String, WorkloadSettings>,
    /// The fake lab.
    pub fake: FakeSettings,
}

/// The axes of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixSettings {
    /// Kernels.
    pub kernel: Vec<KernelChoice>,
    /// Proxy modes.
    pub mode: Vec<Mode>,
    /// Who writes the modes' rules. Not in a resolved profile that does not ask for another than us, which
    /// older revisions then read too (`compare --rev`).
    #[serde(default = "own", skip_serializing_if = "is_own")]
    pub proxy: Vec<Proxy>,
    /// Which addresses hosts and Services have. Not in a resolved profile that asks for IPv4 alone, for the same
    /// reason.
    #[serde(default = "ipv4", skip_serializing_if = "is_ipv4")]
    pub ip: Vec<IpStack>,
    /// CNIs.
    pub cni: Vec<CniChoice>,
    /// Routes.
    pub route: Vec<Route>,
    /// Service counts, each at least 1.
    pub services: Vec<u32>,
    /// Places of the measured Service among the others.
    pub position: Vec<Position>,
    /// Names of workloads.
    pub workload: Vec<String>,
}

fn ipv4() -> Vec<IpStack> {
    vec![IpStack::Ipv4]
}

fn is_ipv4(families: &[IpStack]) -> bool {
    *families == [IpStack::Ipv4]
}

fn own() -> Vec<Proxy> {
    vec![Proxy::Own]
}

fn is_own(proxies: &[Proxy]) -> bool {
    *proxies == [Proxy::Own]
}

/// How each case is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// Load before the clock starts.
    pub warm_up: Span,
    /// Length of an iteration.
    pub duration: Span,
    /// Iterations of a case in a block.
    pub iterations: u32,
    /// Blocks of a case: for each its hosts are made anew.
    pub blocks: u32,
    /// Capture engine.
    pub engine: Engine,
    /// Whether each iteration has a block of the same load without probes beside it.
    pub unprobed: bool,
    /// Requests a second that are followed through the taps.
    pub samples_per_second: u32,
    /// Bytes of a packet kept with `--pcap`.
    pub pcap_snap_bytes: u32,
    /// Whether a case ends with one Service more being programmed, for the time that takes.
    pub add_one: bool,
    /// Slowest requests of a case whose walks are kept; 0 keeps none.
    pub trace_slowest: u32,
}

impl RunSettings {
    /// Time a case spends under load at most, milliseconds.
    pub fn case_load_ms(&self) -> u64 {
        let phases = u64::from(self.iterations) * if self.unprobed { 2 } else { 1 };
        (self.warm_up.millis() + self.duration.millis() * phases) * u64::from(self.blocks)
    }
}

/// Capture engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Library calls of the load generator only.
    Client,
    /// Packet sockets on every interface of the path.
    Tap,
    /// BPF programs at devices, netfilter hooks and sockets.
    Bpf,
}

/// Topology of the netns lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabSettings {
    /// Nodes.
    pub nodes: u32,
    /// Pods on each node.
    pub pods_per_node: u32,
    /// Of every interface, bytes.
    pub mtu: u32,
    /// Source addresses of the client outside.
    pub client_addresses: u32,
    /// Further addresses of each pod.
    pub pod_extra_addresses: u32,
    /// Memory of a guest, MiB.
    pub guest_memory_mib: u32,
    /// Processors of a guest; 0 for as many as suit its kernel.
    pub guest_cpus: u32,
    /// What stands in front of the nodes on road `loadbalancer`. Not in a resolved profile that asks for
    /// our own, which older revisions then read too (`compare --rev`).
    #[serde(default, skip_serializing_if = "BalancerKind::is_own")]
    pub balancer: BalancerKind,
    /// Whether it says whose connections it passes on, by the PROXY protocol. Not in a resolved profile that does
    /// not ask for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub proxy_protocol: bool,
    /// The ingress controller of roads `ingress` and `ingress-endpoints`. Not in a resolved profile that asks
    /// for our own, for the same reason.
    #[serde(default, skip_serializing_if = "IngressKind::is_own")]
    pub ingress: IngressKind,
    /// What becomes of TLS at the ingress controller. Not in a resolved profile that has it end there.
    #[serde(default, skip_serializing_if = "IngressTls::is_edge")]
    pub ingress_tls: IngressTls,
    /// Reverse-path filtering of nodes and pods, for IPv4. Older records do not say: it was off.
    #[serde(default)]
    pub rp_filter: ReversePath,
    /// What the wire between the client outside and the nodes does.
    pub wire: WireSettings,
    /// Files of CNIs that come as manifests, by CNI.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cni: BTreeMap<CniKind, CniFiles>,
    /// Texts of the network configuration lists of CNI `exec`, by the path in `matrix.cni`. What is here
    /// is not read from its file: so a record's profile makes the same plan again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conflist: BTreeMap<String, Conflist>,
}

impl Profile {
    /// Reads the network configuration lists that the matrix names and the profile does not hold.
    ///
    /// # Errors
    /// A file cannot be read or is no such list.
    pub fn read_conflists(&mut self) -> Result<(), PlanError> {
        for choice in &self.matrix.cni {
            let CniChoice::Exec(path) = choice else { continue };
            let name = path.to_string_lossy().into_owned();
            if self.lab.conflist.contains_key(&name) {
                continue;
            }
            let list = Conflist::read(path).map_err(|error| PlanError {
                key: "matrix.cni".to_owned(),
                message: format!("{name}: {error}"),
            })?;
            self.lab.conflist.insert(name, list);
        }
        Ok(())
    }
}

/// A load balancer in front of the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BalancerKind {
    /// nic2pod's own.
    #[default]
    Embedded,
    /// HAProxy, in TCP mode.
    Haproxy,
    /// nginx, its stream module.
    Nginx,
    /// Envoy, its TCP proxy.
    Envoy,
    /// No program: a router that leads the Service's LoadBalancer address to a node, as one that is told by BGP
    /// does. Answers do not pass it: direct server return.
    Router,
    /// ip_vs on its host, which chooses the node and hands packets on as they are (direct routing): answers do
    /// not pass it either.
    Ipvs,
}

impl BalancerKind {
    /// Whether it hands packets on as they are, and answers do not pass it.
    pub fn routes(self) -> bool {
        matches!(self, Self::Router | Self::Ipvs)
    }

    fn is_own(&self) -> bool {
        *self == Self::Embedded
    }
}

/// A reverse proxy in a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngressKind {
    /// nic2pod's own.
    #[default]
    Embedded,
    /// nginx.
    Nginx,
    /// HAProxy, in HTTP mode.
    Haproxy,
}

impl IngressKind {
    fn is_own(&self) -> bool {
        *self == Self::Embedded
    }
}

/// What becomes of TLS at an ingress controller, by the words that OpenShift has for it (Route,
/// `spec.tls.termination`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngressTls {
    /// It ends there, and pods are asked in the clear.
    #[default]
    Edge,
    /// It ends there, and pods are asked by TLS again.
    Reencrypt,
    /// It is passed through: the controller knows the name that is asked for, and no more.
    Passthrough,
}

impl IngressTls {
    /// Whether pods are asked by TLS.
    pub fn reaches_pods(self) -> bool {
        self != Self::Edge
    }

    fn is_edge(&self) -> bool {
        *self == Self::Edge
    }
}

/// Files of a CNI that comes as a manifest, for the lab kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CniFiles {
    /// Its manifest, in place of the published one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
    /// SHA-256 that the manifest has to have, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Archives with its images, as `docker save` writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PathBuf>,
}

impl CniFiles {
    /// Whether they can be those of a CNI; otherwise the key and what is wrong with its value.
    pub(super) fn check(&self, cni: CniKind) -> Result<(), (&'static str, String)> {
        if !cni.is_by_manifest() {
            return Err(("", format!("{cni} does not come as a manifest")));
        }
        match &self.sha256 {
            Some(_) if self.manifest.is_none() => {
                Err(("sha256", "there is no manifest beside it".to_owned()))
            }
            Some(digest)
                if digest.len() != 64 || !digest.bytes().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                Err(("sha256", format!("`{digest}` is not 64 hexadecimal digits")))
            }
            _ => Ok(()),
        }
    }
}

/// The measured Service and the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Endpoints of each other Service.
    pub filler_endpoints: u32,
    /// Endpoints of the measured Service.
    pub endpoints: u32,
    /// Session affinity of the measured Service.
    pub affinity: AffinityKind,
    /// `externalTrafficPolicy` of the measured Service.
    pub external_policy: PolicyKind,
    /// `internalTrafficPolicy` of the measured Service.
    pub internal_policy: PolicyKind,
    /// Which iptables.
    pub iptables_backend: IptablesBackend,
    /// How ip_vs chooses an endpoint.
    pub ipvs_scheduler: IpvsScheduler,
    /// In how many pieces the kernel is given an nftables ruleset. Older records do not say: it was one.
    #[serde(default)]
    pub nftables_transactions: NftablesTransactions,
    /// kube-proxy's program, where `matrix.proxy` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<PathBuf>,
}

/// Session affinity, as a profile spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AffinityKind {
    /// Any endpoint for any connection.
    None,
    /// The same endpoint for a client address.
    ClientIp,
}

/// A traffic policy, as a profile spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// Endpoints anywhere.
    Cluster,
    /// Endpoints on the node the traffic is on.
    Local,
}

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IptablesBackend {
    /// `iptables-nft`.
    Nft,
    /// `iptables-legacy`.
    Legacy,
}

/// How ip_vs chooses an endpoint: the schedulers that kube-proxy's documents name
/// (`--ipvs-scheduler`) and that can tell its endpoints apart, all of which have weight 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvsScheduler {
    /// Round robin.
    #[default]
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
    /// By a hash of the source's address.
    Sh,
    /// Maglev hashing of the source's address and port.
    Mh,
}

impl IpvsScheduler {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc, Self::Sh, Self::Mh];

    /// Its name in the kernel.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Mh => "mh",
        }
    }

    /// The kernel option it comes with.
    pub fn kernel_option(self) -> &'static str {
        match self {
            Self::Rr => "CONFIG_IP_VS_RR",
            Self::Wrr => "CONFIG_IP_VS_WRR",
            Self::Lc => "CONFIG_IP_VS_LC",
            Self::Wlc => "CONFIG_IP_VS_WLC",
            Self::Sh => "CONFIG_IP_VS_SH",
            Self::Mh => "CONFIG_IP_VS_MH",
        }
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSettings {
    /// How connections are used.
    pub connection: Connection,
    /// HTTP version, and what is spoken over it.
    pub protocol: Protocol,
    /// TLS, ended at the pod; absent, requests go in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsVersion>,
    /// Whether new connections resume a TLS session.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resume: bool,
    /// Whether each new connection resolves the Service's name first, at the cluster's DNS Service.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resolve: bool,
    /// Closed or open loop.
    pub arrival: ArrivalKind,
    /// Closed loop: connections. Open loop: requests in flight at most.
    pub connections: u32,
    /// Open loop: requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Open loop: spacing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Body of a request, bytes.
    pub request_bytes: u64,
    /// Body of a response, bytes.
    pub response_bytes: u64,
    /// Processor time that the server spends on each request.
    #[serde(default = "no_work")]
    pub server_work: Span,
    /// Patience with one request.
    pub timeout: Span,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn no_work() -> Span {
    Span(std::time::Duration::ZERO)
}

/// Closed or open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalKind {
    /// A request follows the one before it.
    Closed,
    /// Requests start on a schedule.
    Open,
}

/// The fake lab's times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeSettings {
    /// Latency under mode none with one Service.
    pub latency: Span,
    /// What each further Service adds under iptables.
    pub per_service: Span,
    /// Modes the fake machine does not have.
    pub unavailable: Vec<Mode>,
}
