// SPDX-License-Identifier: Apache-2.0
//! A profile: what `profiles/*.toml` say. `profiles/default.toml` documents every key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    BalancerKind, CniChoice, CniFiles, CniKind, Conflist, IngressKind, IngressTls, IpStack,
    KernelChoice, Mode, PlanError, Position, Proxy, ReversePath, Route, ServiceSettings,
    WireSettings, WorkloadSettings,
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

pub(super) fn is_false(value: &bool) -> bool {
    !value
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
