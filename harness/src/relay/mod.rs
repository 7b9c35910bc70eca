// SPDX-License-Identifier: Apache-2.0
//! A process that accepts connections, makes one of its own for each and copies bytes both ways: the
//! proxy of mode `userspace`, and the load balancer outside the cluster.

mod balance;
mod process;
pub mod program;
mod spec;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub(crate) use process::{Process, RelayError};
pub(crate) use spec::Portal;

/// Two connections that such a process joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Peer of the accepted connection.
    pub client: SocketAddr,
    /// Local address of the connection to the backend.
    pub upstream: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
}
