// SPDX-License-Identifier: Apache-2.0
//! One case of a run: the object `jq '.cases[]'` sees in `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Fidelity;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Iterations ran and their figures are in the record.
    Measured,
    /// The machine lacks something the case needs; [`CaseRecord::reason`] says what.
    Skipped,
    /// Something went wrong; [`CaseRecord::failure`] says what. Figures, if any, are not to be used.
    Failed,
}

/// Why a case could not run here, and what would make it run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What the case needs, for example `kernel option CONFIG_IP_VS`.
    pub need: String,
    /// What this machine has instead.
    pub found: String,
    /// A command or change that supplies it.
    pub r#try: String,
}

/// What went wrong in a failed case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence, the whole chain of causes.
    pub message: String,
    /// What the failing tool wrote to standard error, when a tool failed (at most 8 KiB).
    pub stderr: Option<String>,
}

/// How the proxy mode was shown to be the one that carried the packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The mode that was proved.
    pub mode: String,
    /// One line per piece of evidence, in the order it was gathered.
    pub evidence: Vec<String>,
}

/// Percentiles of a distribution of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Number of values.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest value.
    pub max: u64,
    /// Arithmetic mean.
    pub mean: f64,
}

/// One stage of the path on one leg, over all joined requests of the case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Name from the list in `docs/method.md`; stages an engine cannot tell apart are joined with `+`.
    pub name: String,
    /// `request` or `response`.
    pub leg: Leg,
    /// Number of requests the stage was seen in.
    pub count: u64,
    /// Median, nanoseconds.
    pub p50_ns: u64,
    /// 99th percentile, nanoseconds.
    pub p99_ns: u64,
    /// Mean, nanoseconds. Means of the stages of a leg add up; medians do not.
    pub mean_ns: f64,
}

/// Direction of travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// From the client towards the container.
    Request,
    /// From the container back to the client.
    Response,
}

/// End-to-end time minus the sum of its stages, per joined request; nanoseconds, may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// Median.
    pub p50: i64,
    /// 99th percentile.
    pub p99: i64,
}

/// The probes of a case and what they cost and lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// `client`, `tap` or `bpf`.
    pub engine: String,
    /// Why it is not the engine that was asked for, or not the default one: what that one needs and
    /// what was found instead. Of engine `bpf`: why its programs are interpreted, where they are.
    /// `None` where nothing else was wanted.
    #[serde(default)]
    pub reason: Option<String>,
    /// Packets or calls recorded.
    pub events: u64,
    /// Packets the kernel had no room for.
    pub dropped: u64,
    /// What an event costs, nanoseconds. Engine `bpf`: run time of the probe programs less what
    /// counting it costs (`runs` times `ns_per_empty_run`), divided by the events of the same block.
    /// Engine `tap`: processor time of the thread that reads, divided by `events`.
    pub ns_per_event: Option<f64>,
    /// Runs of the probe programs, those that recorded nothing included: `run_cnt` of the kernel's
    /// statistics (`kernel.bpf_stats_enabled`). Engine `bpf` only.
    #[serde(default)]
    pub runs: Option<u64>,
    /// Run time of the probe programs (`run_time_ns` of the same statistics) divided by `runs`;
    /// nanoseconds. `None`, and with it the times beside it, where the kernel counts time in ticks.
    #[serde(default)]
    pub ns_per_run: Option<f64>,
    /// The same of a program that does nothing, run beside them: what reading the clock for these
    /// statistics costs.
    #[serde(default)]
    pub ns_per_empty_run: Option<f64>,
    /// What observing does to the figures themselves; `None` where it was not measured.
    #[serde(default)]
    pub effect: Option<ProbeEffect>,
    /// Every k-th connection was observed; 1 is all of them.
    pub sample_every: u32,
    /// How far a time between two machines may be from the truth, nanoseconds: their clocks were made one
    /// by the packets between them, and this is the largest error of that in the case. `None` where all
    /// probes are on one clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_error_ns: Option<u64>,
}

/// Figures with the probes on against figures with them off, from blocks of one case that took turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeEffect {
    /// Blocks of either kind.
    pub blocks: u32,
    /// Median latency, probes on: median over the blocks, nanoseconds.
    pub p50_on_ns: f64,
    /// Median latency, probes off: median over the blocks, nanoseconds.
    pub p50_off_ns: f64,
    /// On divided by off, taken by pairs of neighbouring blocks: 1.02 is 2 % slower.
    pub p50_ratio: f64,
    /// Requests a second, probes on: median over the blocks.
    pub throughput_on_rps: f64,
    /// Requests a second, probes off: median over the blocks.
    pub throughput_off_rps: f64,
    /// On divided by off, taken by pairs of neighbouring blocks: 0.98 is 2 % less.
    pub throughput_ratio: f64,
}

/// Exact figures of one request of the case, its connection included where it makes one; followed by
/// itself during the warm-up. Segments are those that open a connection or carry data: how many only
/// acknowledge depends on timers. The figures are the same in every run of the case on the same
/// kernel; `None` where the engine cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rules tested for the first packet on the entry node, in all chains and hooks, those that did
    /// not match included; watched on a connection of the harness's own by the same road. One
    /// look-up in a set or map is one rule.
    pub rules_walked: Option<u64>,
    /// The same on the node of the pod that answers, where that is another: what was translated on its way
    /// there meets that node's rules as well. `Some(0)` where packets pass its stack by or there is no
    /// other node.
    #[serde(default)]
    pub rules_walked_beyond: Option<u64>,
    /// Netfilter hooks on the entry node that the segments entered, both directions; a segment that
    /// passes a hook twice counts twice.
    pub hooks_entered: Option<u64>,
    /// Probes of the engine that the segments passed, both directions, all hosts.
    pub probe_hits: Option<u64>,
    /// Segments on the client's interface, both directions.
    pub packets: Option<u64>,
    /// Bytes of payload in these, headers not counted; `None` over HTTP/2 and in lab `kubeconfig`,
    /// where they vary.
    pub bytes: Option<u64>,
    /// Entries of connection tracking that a connection makes on all nodes, a tunnel's own left out;
    /// counted on the one whose rules are watched.
    pub conntrack_entries: Option<u64>,
}

impl Counts {
    /// Rules tested for the first packet on all nodes; `None` where those of one are not known.
    pub fn rules_walked_on_all(&self) -> Option<u64> {
        Some(self.rules_walked? + self.rules_walked_beyond?)
    }
}

/// TLS handshakes that were completed, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// With the server's certificate.
    pub full: u64,
    /// Of a session that was resumed.
    pub resumed: u64,
}

/// Queries for names, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queries {
    /// Sent.
    pub asked: u64,
    /// Answered with an address.
    pub addresses: u64,
    /// Answered that the name has no address of that kind.
    pub no_data: u64,
    /// Answered that there is no such name.
    pub nxdomain: u64,
    /// Answered with another error.
    pub failed: u64,
    /// Datagrams that were no answer to what had been asked.
    pub ignored: u64,
    /// Stages of one query and its answer, in path order, request leg first; they are parts of stage `dns`.
    #[serde(default)]
    pub stages: Vec<StageRecord>,
    /// What of a query its stages leave unexplained.
    #[serde(default)]
    pub residual_ns: Option<Residual>,
    /// Share of sampled queries whose every stage was found, 0 to 1.
    #[serde(default)]
    pub joined_ratio: Option<f64>,
}

/// How long messages were on their way: from the write of their first byte to the read of their last one at the
/// other end, of the requests that were followed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Legs {
    /// Requests.
    pub request: LegRecord,
    /// Responses.
    pub response: LegRecord,
}

/// Messages of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegRecord {
    /// Body of each, bytes.
    pub body_bytes: u64,
    /// Their time on the way, nanoseconds.
    pub time_ns: Quantiles,
}

impl LegRecord {
    /// Bodies' bits a second at the median of their times.
    pub fn bits_per_second(&self) -> f64 {
        self.body_bytes as f64 * 8e9 / (self.time_ns.p50 as f64).max(1.0)
    }
}

/// Source tuples (address and port) that new connections may and did use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuples {
    /// Distinct tuples available to the case.
    pub budget: u64,
    /// Tuples used by warm-up and iterations.
    pub spent: u64,
}

/// Connection tracking on the entry node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// `net.netfilter.nf_conntrack_max`, entries.
    pub max: u64,
    /// Most entries seen at the end of an iteration.
    pub peak: u64,
}

/// One iteration: the replicate that a comparison rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationRecord {
    /// Order in which the iteration ran among all iterations of its group, from 0.
    pub sequence: u32,
    /// Requests answered.
    pub requests: u64,
    /// Requests not answered.
    pub errors: u64,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Requests answered per second.
    pub throughput_rps: f64,
    /// From the intended send time.
    pub latency_ns: Option<Quantiles>,
    /// SYN at the node's NIC to SYN at the pod's eth0.
    pub first_packet_ns: Option<Quantiles>,
}

/// One block: the case's hosts made anew and all its iterations on them. The replicate of a
/// comparison, because what making a lab leaves to chance (addresses in memory, hashes, places of
/// processes) is shared by all iterations on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Requests answered.
    pub requests: u64,
    /// Requests not answered.
    pub errors: u64,
    /// Requests answered per second of measured time.
    pub throughput_rps: Option<f64>,
    /// From the intended send time, over all iterations of the block.
    pub latency_ns: Option<Quantiles>,
    /// SYN at the node's NIC to SYN at the pod's eth0.
    pub first_packet_ns: Option<Quantiles>,
    /// Stages in path order, request leg first.
    pub stages: Vec<StageRecord>,
    /// Exact figures of one request.
    pub counts: Option<Counts>,
    /// Rendering and programming the proxy mode, milliseconds.
    pub install_ms: Option<f64>,
}

/// One case of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Path-like name, for example `netns/nftables+bridge/nodeport-remote/svc-1000/newconn`.
    pub id: String,
    /// `netns`, `kind`, `kubeconfig` or `fake`.
    pub lab: String,
    /// Kernel the lab ran on: `host`, or the label of a guest's, `uml-7.2.13`.
    pub kernel: String,
    /// What the case's times may be used for, where its kernel makes that differ from the run's.
    #[serde(default)]
    pub fidelity: Option<Fidelity>,
    /// Proxy mode.
    pub mode: String,
    /// How pods are wired.
    pub cni: String,
    /// Road a request takes, with the backend's place: `nodeport-remote`.
    pub route: String,
    /// Services programmed, the measured one included.
    pub services: u32,
    /// Workload's name in the profile.
    pub workload: String,
    /// How the case ended.
    pub status: Status,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    /// What failed.
    pub failure: Option<Failure>,
    /// How the mode was proved.
    pub proof: Option<Proof>,
    /// Requests answered.
    pub requests: u64,
    /// Requests not answered, all kinds.
    pub errors: u64,
    /// Requests not answered, by kind (`connect_refused`, `timeout`, `overload`, ...).
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Requests answered per second of measured time.
    pub throughput_rps: Option<f64>,
    /// Intended send to last byte.
    pub latency_ns: Option<Quantiles>,
    /// Actual start (resolving, connect or write) to last byte.
    pub service_time_ns: Option<Quantiles>,
    /// First query to the address being known, where a name is resolved.
    #[serde(default)]
    pub dns_ns: Option<Quantiles>,
    /// Queries of the measured phases; `None` where no name is resolved.
    #[serde(default)]
    pub queries: Option<Queries>,
    /// `connect()` called to connected, new connections only.
    pub connect_ns: Option<Quantiles>,
    /// Connected to the end of the TLS handshake, new connections only.
    #[serde(default)]
    pub tls_ns: Option<Quantiles>,
    /// Connected, or secured, to the answer to the upgrade; new connections of WebSocket only.
    #[serde(default)]
    pub upgrade_ns: Option<Quantiles>,
    /// TLS handshakes of the measured phases, those before the clock started included; `None` without
    /// TLS.
    #[serde(default)]
    pub handshakes: Option<Handshakes>,
    /// Request written to first byte of the response.
    pub first_byte_ns: Option<Quantiles>,
    /// First byte to last byte of the response.
    pub last_byte_ns: Option<Quantiles>,
    /// Intended to actual start: how late the generator was.
    pub lateness_ns: Option<Quantiles>,
    /// SYN at the node's NIC to SYN at the pod's eth0.
    pub first_packet_ns: Option<Quantiles>,
    /// How long requests and responses were on their way; `None` where none were followed.
    #[serde(default)]
    pub legs: Option<Legs>,
    /// Stages in path order, request leg first.
    pub stages: Vec<StageRecord>,
    /// What the stages leave unexplained.
    pub residual_ns: Option<Residual>,
    /// Share of sampled requests whose every stage was found, 0 to 1.
    pub joined_ratio: Option<f64>,
    /// What the probes cost and lost.
    pub probe: Option<Probe>,
    /// Exact figures of one request.
    #[serde(default)]
    pub counts: Option<Counts>,
    /// Lines about how the figures came about that a reader has to know.
    pub notes: Vec<String>,
    /// Source tuples.
    pub tuples: Option<Tuples>,
    /// Connection tracking.
    pub conntrack: Option<Conntrack>,
    /// Rules or map elements programmed for the mode.
    pub rules: Option<u64>,
    /// Iterations in the order they ran.
    pub iterations: Vec<IterationRecord>,
    /// Blocks in the order they ran, where the run has more than one.
    #[serde(default)]
    pub blocks: Vec<BlockRecord>,
    /// Largest resident set of the load generator, bytes.
    pub load_peak_rss_bytes: Option<u64>,
    /// Namespaces, links, CNI and targets, milliseconds.
    pub lab_up_ms: Option<f64>,
    /// Rendering and programming the proxy mode on every node, milliseconds.
    pub install_ms: Option<f64>,
    /// Programming one Service more, milliseconds; only where the run asked for it.
    #[serde(default)]
    pub add_one_ms: Option<f64>,
    /// Reading the kernel back and the probe connection, milliseconds.
    pub prove_ms: Option<f64>,
    /// Taking it all down, milliseconds.
    pub down_ms: Option<f64>,
}
