// SPDX-License-Identifier: Apache-2.0
//! What is said to the process, and what it answers: one JSON value per line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Relay;
use crate::plan::IpFamily;

/// First line to the process. Answered with [`Reply::Listening`] once all ports are open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// Ports to open.
    pub(super) portals: Vec<Portal>,
}

/// A port of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Portal {
    /// Port it listens at, on every address of its family.
    pub(crate) listen_port: u16,
    /// Which addresses.
    pub(crate) family: IpFamily,
    /// Where its connections go, in turn; if there are none, they are closed.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// How long a client stays with its endpoint after its last connection, seconds.
    pub(crate) affinity_seconds: Option<u64>,
    /// Whether a connection is accepted only when the one before has its endpoint.
    pub(crate) one_by_one: bool,
    /// Whether each connection to an endpoint begins with the PROXY protocol's preamble.
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
}

/// Later lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    /// Open more ports; answered with [`Reply::Listening`].
    Open(Spec),
    /// Answer with [`Reply::Relays`] since the last time.
    TakeRelays {},
    /// Answer with [`Reply::Carried`] of one port.
    Count {
        /// The port.
        listen_port: u16,
    },
}

/// Answers of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The ports are open, this many in all.
    Listening(usize),
    /// They are not; why.
    Failed(String),
    /// Connections that arrived with [`workloads::protocol::SAMPLE_TOS`].
    Relays {
        /// Pairs of connections, oldest first.
        relays: Vec<Relay>,
        /// Pairs there was no room for.
        not_kept: u64,
    },
    /// Connections to each endpoint since the start.
    Carried(Vec<(SocketAddr, u64)>),
}
