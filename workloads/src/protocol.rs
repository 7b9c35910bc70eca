// SPDX-License-Identifier: Apache-2.0
//! What the harness says to the agents, and what they answer: one JSON value per line.

mod dns;
mod ingress;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use dns::{Answer, DnsReply, DnsService, DnsSpec, LoadResolve, Lookup, Queries};
pub use ingress::{BackendTls, IngressCommand, IngressReply, IngressRule, IngressSpec};
pub use tls::{Accepted, Handshakes, LoadTls, Secret, TargetTls, TlsVersion, Turn};

/// First line to `load`: everything that does not change between phases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// Where requests go: a pod, a VIP or a NodePort.
    pub target: SocketAddr,
    /// Host that requests ask for; absent, it is the target's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether requests of sampled connections carry [`REQUEST_ID`], for proxies that put them on
    /// connections of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub request_ids: bool,
    /// A name that is resolved before each new connection; absent, addresses are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<LoadResolve>,
    /// When requests start.
    pub arrival: Arrival,
    /// How connections are used.
    pub connection: Connection,
    /// HTTP version, and what is spoken over it.
    pub protocol: Protocol,
    /// TLS; absent, requests go in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<LoadTls>,
    /// Body of a request, bytes; 0 is a GET.
    pub request_bytes: u64,
    /// Body of a response, bytes.
    pub response_bytes: u64,
    /// Processor time that the server spends on each request before it answers, nanoseconds, at most
    /// a second.
    #[serde(default)]
    pub server_work_ns: u64,
    /// Source addresses and ports of connections.
    pub sources: Sources,
    /// A request without an answer after this long is an error of kind `timeout`, milliseconds.
    pub timeout_ms: u64,
    /// Seed of arrivals.
    pub seed: u64,
}

/// Header by which a request is known at both ends, whatever connections it passed over: [`Sample::id`]
/// and [`Mark::id`], 16 digits of base 16.
pub const REQUEST_ID: &str = "x-request-id";

/// Most of [`LoadSpec::server_work_ns`].
pub const WORK_MAX_NS: u64 = 1_000_000_000;

/// When requests start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Arrival {
    /// A request starts when the one before it on its connection has ended.
    Closed {
        /// Concurrent connections.
        connections: u32,
    },
    /// Requests start on a schedule, whatever became of the ones before.
    Open {
        /// Requests per second.
        rate: f64,
        /// Spacing.
        schedule: Schedule,
        /// Requests in flight at most; one that is due beyond that is an error of kind `overload`.
        max_in_flight: u32,
    },
}

/// Spacing of an open loop's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Equal gaps.
    Uniform,
    /// Exponential gaps: independent users.
    Poisson,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Opened before the clock starts and used for every request.
    Keepalive,
    /// One connection per request.
    Newconn,
}

/// What requests are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge where there is no TLS to negotiate it.
    Http2,
    /// Unary calls of gRPC over it: `grpc.testing.BenchmarkService/UnaryCall`, whose payloads are what
    /// bodies are elsewhere, and at most 4 MiB.
    Grpc,
    /// Messages of WebSocket on connections of HTTP/1.1 that were upgraded: a request is one, and so is its
    /// response. What a body is elsewhere is all of a response's, and of a request's what lies behind the
    /// 24 bytes that say what is asked.
    WebSocket,
}

impl Protocol {
    /// Whether it is spoken over HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    /// Longest body of a request or a response, bytes.
    pub fn body_bytes_max(self) -> u64 {
        match self {
            Self::Http1 | Self::Http2 | Self::WebSocket => crate::body::MAX_BYTES,
            Self::Grpc => crate::grpc::PAYLOAD_MAX,
        }
    }
}

/// Source addresses and ports; a pair is used for one connection and never again by the agent,
/// across all its phases (`docs/method.md`, tuples).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Addresses of the host the agent runs on.
    pub addresses: Vec<IpAddr>,
    /// First port.
    pub port_first: u16,
    /// Last port.
    pub port_last: u16,
}

/// Later lines to `load`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LoadCommand {
    /// Run one phase (a warm-up or an iteration) and answer with a [`PhaseReport`].
    Run {
        /// Length, milliseconds, at most an hour. Requests under way at its end are waited for.
        duration_ms: u64,
        /// Start this many requests at most, failed ones included; the phase ends with the last.
        max_requests: Option<u64>,
        /// Every k-th connection carries [`SAMPLE_TOS`] and its requests are reported as
        /// [`Sample`]s; 0 for none.
        sample_every: u32,
        /// Samples kept at most.
        max_samples: u64,
    },
}

/// What a worker is asked for: one phase at a time that all workers are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appointment {
    /// Everything about the load.
    pub spec: LoadSpec,
    /// The phase.
    pub command: LoadCommand,
    /// When it starts, CLOCK_REALTIME since the epoch, nanoseconds; at most a minute ahead.
    /// Connections of a keepalive phase are opened before.
    pub start_unix_ns: u64,
}

/// A worker's answer to an [`Appointment`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The phase.
    pub report: PhaseReport,
    /// When it did start, on the worker's clock, nanoseconds since the epoch.
    pub started_unix_ns: u64,
    /// How much later that was than agreed, nanoseconds.
    pub late_ns: u64,
}

/// A worker's answer to the question for its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerClock {
    /// CLOCK_REALTIME since the epoch, nanoseconds.
    pub unix_ns: u64,
}

/// IPv4 type-of-service byte of sampled connections. It survives NAT and forwarding, so that a
/// packet filter on any interface of the path can pick them out; the class is best effort, as 0 is.
/// The response leg carries it where `net.ipv4.tcp_reflect_tos` is set.
pub const SAMPLE_TOS: u8 = 0x04;

/// Answer to [`LoadCommand::Run`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Requests answered in full with status 200 and the right length.
    pub requests: u64,
    /// Requests not answered so, by kind: `connect_refused`, `connect_reset`, `connect_timeout`,
    /// `connect_unreachable`, `reset`, `closed`, `timeout`, `status_<code>` (`status_503`),
    /// `length`, `grpc_<code>` (`grpc_14`; without a code `grpc_2`), `overload`, `tuples_exhausted`, `other`; of
    /// WebSocket `ws_accept` (status 101 that does not answer the upgrade that was asked for), `ws_timeout` (no
    /// answer to it), `ws_protocol` (what came is no frame, or no message of bytes, or was not asked for),
    /// `ws_close_<code>` (the server closed, and said why; without a code `closed`); of TLS handshakes `tls_expired`,
    /// `tls_not_yet_valid`, `tls_unknown_authority`, `tls_wrong_name`, `tls_version`,
    /// `tls_protocol` (no HTTP version in common), `tls_closed`, `tls_reset`, `tls_timeout`,
    /// `tls_other`; of resolving `dns_nxdomain` (no name of the search path exists, or none has an
    /// address), `dns_timeout`, `dns_servfail`, `dns_refused` (the server does not serve such names),
    /// `dns_unreachable` (ICMP said so), `dns_address` (an address that the name should not have),
    /// `dns_other`. A connection of a keepalive phase that
    /// cannot be opened before the clock starts counts too; its slot tries again with its first
    /// request.
    pub errors: BTreeMap<String, u64>,
    /// From the first intended start to the last answer or failure, nanoseconds.
    pub elapsed_ns: u64,
    /// Intended start to last byte. In a closed loop the intended start is the last byte of the
    /// answer before it on its connection. This and the distributions below are of answered
    /// requests.
    pub latency: Pairs,
    /// Start (resolving, connect, or write on an open connection) to last byte.
    pub service_time: Pairs,
    /// First query to the address being known and `connect()` called, where a name was resolved.
    #[serde(default)]
    pub dns: Pairs,
    /// Queries of all resolutions of the phase.
    #[serde(default)]
    pub queries: Queries,
    /// `connect()` called to connected. In a keepalive phase only of connections that had ended and
    /// were opened again for a request.
    pub connect: Pairs,
    /// Connected to the end of the TLS handshake, of the same connections.
    #[serde(default)]
    pub tls: Pairs,
    /// TLS handshakes of the phase's connections, those opened before the clock starts included, but
    /// not those that only sessions to resume were had from.
    #[serde(default)]
    pub handshakes: Handshakes,
    /// Connected, or secured, to upgraded, of the same connections where they are WebSocket's: a round trip and
    /// the server's work.
    #[serde(default)]
    pub upgrade: Pairs,
    /// First write of the request to first byte read of the response.
    pub first_byte: Pairs,
    /// First byte to last byte.
    pub last_byte: Pairs,
    /// Intended start to start.
    pub lateness: Pairs,
    /// Source tuples this phase used.
    pub tuples_spent: u64,
    /// Source tuples left.
    pub tuples_left: u64,
    /// Requests of sampled connections, at most `max_samples`.
    pub samples: Vec<Sample>,
    /// Queries of the samples' resolutions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// Sampled requests beyond `max_samples`, counted and not kept.
    pub samples_not_kept: u64,
    /// Processor time of the agent during the phase, nanoseconds.
    pub cpu_ns: u64,
    /// Largest resident set of the agent so far, bytes.
    pub peak_rss_bytes: u64,
}

/// A histogram as ascending `(value, count)` pairs, nanoseconds: a value is the upper edge of its
/// bucket, at most 0.1 % above the truth, and everything above two minutes is one bucket.
pub type Pairs = Vec<(u64, u64)>;

/// One request of a sampled connection. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What it was sent as, where requests have ids: of one agent, no two are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Source of the connection as the client sees it.
    pub client: SocketAddr,
    /// Bytes of the connection before this request: where its first byte lies in the stream, or with
    /// HTTP/2 its HEADERS frame, which may share a segment with frames before it, or with WebSocket its
    /// message's first frame, an upgrade before it. With TLS it is bytes
    /// on the wire that are counted, the handshake's included, and the record that it begins in.
    pub request_offset: u64,
    /// The same for the response.
    pub response_offset: u64,
    /// When the request should have started.
    pub intended_ns: u64,
    /// When resolving began; absent on an open connection and where no name is resolved. It ends with
    /// `connect_ns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_ns: Option<u64>,
    /// When `connect()` was called; absent on an open connection.
    pub connect_ns: Option<u64>,
    /// When the connection was there; absent on an open connection.
    pub connected_ns: Option<u64>,
    /// When its TLS handshake was over; absent on an open connection and without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secured_ns: Option<u64>,
    /// When its upgrade to WebSocket was answered; absent on an open connection and without an upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgraded_ns: Option<u64>,
    /// Just before the first write of the request, and its encryption; with HTTP/2 the write that ends
    /// its HEADERS frame's header.
    pub sent_ns: u64,
    /// Just after the first read that returned bytes of the response; with HTTP/2 of its HEADERS
    /// frame.
    pub first_byte_ns: u64,
    /// Just after the read that completed the response, and its decryption.
    pub last_byte_ns: u64,
}

/// First line to `target`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Where to listen. Answered with [`TargetReply::Ready`] once it listens.
    pub listen: Vec<SocketAddr>,
    /// Whether each connection begins with the PROXY protocol's preamble, before TLS; one without is closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_protocol: bool,
    /// TLS; absent, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
    /// Sent in the `x-pod` header of each response.
    pub pod: String,
}

/// Later lines to `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetCommand {
    /// Answer with the marks of sampled connections since the last drain.
    Drain,
}

/// Answers of `target`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetReply {
    /// It listens.
    Ready,
    /// It cannot; why.
    Failed(String),
    /// Answer to [`TargetCommand::Drain`].
    Marks {
        /// Requests of connections that arrived with [`SAMPLE_TOS`].
        marks: Vec<Mark>,
        /// Marks there was no room for.
        not_kept: u64,
        /// Requests served since the start, sampled or not.
        served: u64,
    },
}

/// The server's view of one request. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What the request was sent as, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Peer as the server sees it (after source NAT).
    pub peer: SocketAddr,
    /// Local address the connection arrived at (after destination NAT).
    pub local: SocketAddr,
    /// Bytes read on the connection before this request, as in [`Sample::request_offset`].
    pub request_offset: u64,
    /// Bytes written on the connection before this response.
    pub response_offset: u64,
    /// Just after the read that returned the request's first bytes.
    pub read_ns: u64,
    /// Just after the read that returned the request's last bytes, and their decryption.
    pub received_ns: u64,
    /// Just before the first write of the response, and its encryption.
    pub written_ns: u64,
    /// The connection's TLS handshake, where this was its first request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Accepted>,
}
