// SPDX-License-Identifier: Apache-2.0
//! Names: what a client asks for, and what the server of the cluster's names is told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What `load` resolves before each new connection, as the stub resolver of a pod does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadResolve {
    /// Where queries go, by UDP.
    pub server: SocketAddr,
    /// The name.
    pub name: String,
    /// Domains that are tried behind it, in their order.
    pub search: Vec<String>,
    /// A name with fewer dots than this is tried with the domains first, another one by itself first.
    pub ndots: u8,
    /// The address it has to have; another one is an error of kind `dns_address`.
    pub address: IpAddr,
}

/// Queries of a phase and what became of them. Those that nothing came back for are only asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queries {
    /// Sent.
    pub asked: u64,
    /// Answered with an address.
    pub addresses: u64,
    /// Answered that the name has none of the kind that was asked for.
    pub no_data: u64,
    /// Answered that there is no such name (NXDOMAIN).
    pub nxdomain: u64,
    /// Answered with another error, or with what cannot be used.
    pub failed: u64,
    /// Datagrams that were no answer to what had been asked: another id, another question, no message.
    pub ignored: u64,
}

/// What a server says of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The first of the name's addresses of the kind that was asked for.
    Address(IpAddr),
    /// There is such a name, and it has no such address.
    NoData,
    /// There is no such name.
    NxDomain,
    /// The server could not say.
    ServFail,
    /// The server does not serve such names.
    Refused,
    /// Any other error, or cut short.
    Other,
}

impl fmt::Display for Answer {
    /// Its code by its name (RFC 6895, section 2.3), and an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "NOERROR {address}"),
            Self::NoData => f.write_str("NOERROR, no such address"),
            Self::NxDomain => f.write_str("NXDOMAIN"),
            Self::ServFail => f.write_str("SERVFAIL"),
            Self::Refused => f.write_str("REFUSED"),
            Self::Other => f.write_str("another error"),
        }
    }
}

/// The two queries for one name of a resolution, that for A and that for AAAA, which were both answered.
/// Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Source of both.
    pub source: SocketAddr,
    /// Their ids.
    pub ids: [u16; 2],
    /// Just before each was sent.
    pub sent_ns: [u64; 2],
    /// Just after each answer was read.
    pub answered_ns: [u64; 2],
    /// What they were.
    pub answers: [Answer; 2],
}

/// First line to `dns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSpec {
    /// Where to listen, by UDP. Answered with [`DnsReply::Ready`] once it listens.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain: `cluster.local`.
    pub domain: String,
    /// The Services that have names.
    pub services: Vec<DnsService>,
}

/// A Service's name and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsService {
    /// Its own name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its cluster address; of a headless Service those of its pods.
    pub addresses: Vec<IpAddr>,
}

/// Answers of `dns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsReply {
    /// It listens.
    Ready,
    /// It cannot; why.
    Failed(String),
}
