// SPDX-License-Identifier: Apache-2.0
//! `walks.json`: single requests with every place they passed.

use serde::{Deserialize, Serialize};

use crate::Leg;

/// One request and its response, place by place, in the order of time. Of a new connection the
/// walk begins with its SYN; of a kept one with the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Case it belongs to.
    pub case: String,
    /// Why it was kept: `trace` or `slowest`.
    pub kept: String,
    /// Capture engine.
    pub engine: String,
    /// Source as the client bound it, `10.8.0.1:40000`.
    pub client: String,
    /// Where the client connected to.
    pub destination: String,
    /// Pod that answered: its name and the address it answered at, `pod2-1 10.244.1.2:8080`.
    pub backend: String,
    /// From the first call to the last byte, nanoseconds.
    pub total_ns: u64,
    /// In the order of time.
    pub steps: Vec<WalkStep>,
    /// Queries for names before it, in the order of time, two at a time. They are beside its steps, and lie
    /// within the one that ends with `connect called`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryWalk>,
    /// Rules tested for the connection's first packet, on the entry node, in all chains; those
    /// that did not match included.
    pub rules_walked: Option<u64>,
    /// Entries of connection tracking that belong to it, host first: `node1: tcp ...`.
    pub conntrack: Vec<String>,
    /// What a reader has to know of this walk.
    pub notes: Vec<String>,
}

/// One query for a name and its answer, place by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryWalk {
    /// The name, whole: `web.default.svc.cluster.local.`.
    pub name: String,
    /// What of it was asked for: `A` or `AAAA`.
    pub kind: String,
    /// The answer's code, `NOERROR` or `NXDOMAIN`, and with it the address where it has one.
    pub answer: String,
    /// From the query's being sent to its answer's being read, nanoseconds.
    pub total_ns: u64,
    /// In the order of time; `at_ns` is since the walk of the request began, and `since_ns` of the first is 0.
    pub steps: Vec<WalkStep>,
}

/// One place a walk passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkStep {
    /// Since the walk began, nanoseconds.
    pub at_ns: u64,
    /// Since the step before, nanoseconds; 0 for the first.
    pub since_ns: u64,
    /// Direction of travel: towards the container or back.
    pub leg: Leg,
    /// What is on its way: `SYN`, `SYN-ACK`, `ACK`, `request`, `response`, `FIN`, `RST`, and of a query `query`, `answer`; of a call
    /// what it is about: `connect`, `request`, `response`.
    pub packet: String,
    /// Stage that ends here, a word of `docs/method.md`; empty at the first step and where the
    /// packet is none that stages are counted for.
    pub stage: String,
    /// Host: `client`, `node1`, `pod2-1`.
    pub host: String,
    /// What kind of place it is.
    pub place: Place,
    /// Which one: `eth0 in`, `PREROUTING before conntrack`, `socket readable`, `read returned`.
    pub name: String,
    /// Source address and port as they are here; none for calls.
    pub source: Option<String>,
    /// Destination address and port as they are here; none for calls.
    pub destination: Option<String>,
    /// Whether it is inside VXLAN here.
    pub encapsulated: bool,
    /// What happens here, in a sentence for a beginner.
    pub words: String,
    /// The kernel's objects: hook and priority, program, conntrack entry.
    pub objects: Vec<String>,
    /// Rules or map entries that matched between the step before and this one.
    pub rules: Vec<MatchedRule>,
}

/// Kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A library call of client or server.
    Call,
    /// A network device.
    Device,
    /// A netfilter hook.
    Hook,
    /// A socket.
    Socket,
}

/// A rule or a map entry that matched a connection's first packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedRule {
    /// Hook it was reached from: `PREROUTING`, `INPUT`, `FORWARD`, `OUTPUT`, `POSTROUTING`; for BPF
    /// programs `tc ingress`.
    pub hook: String,
    /// Table: `nat`, `filter`, `kube-proxy`; or the name of a map.
    pub table: String,
    /// Chain; empty for a map.
    pub chain: String,
    /// Its place in the chain, from 1; 0 for a map.
    pub position: u32,
    /// Rules in the chain, or entries in the map.
    pub of: u32,
    /// Rules tested for this packet before it, since the packet entered the hook, in all chains.
    pub walked_before: u64,
    /// Its text as the kernel's tool prints it.
    pub text: String,
}
