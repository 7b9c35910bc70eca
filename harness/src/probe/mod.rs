// SPDX-License-Identifier: Apache-2.0
//! Probes on the nodes of a cluster that exists, of which this program reaches the API only: it runs
//! on each node, too, and is asked over HTTP as load workers are.
//!
//! It runs privileged and sees the node's processes, and has a network of its own: the node's, which
//! it finds by the node's first process, it enters only to put probes there, so that nothing has to
//! listen on the node. The probes are those of [`crate::capture::bpf`], and so is everything that places
//! and reads them. What is asked and answered is bounded, both ways; without an asker the probes go
//! off by themselves.

#[cfg(feature = "bpf")]
mod agent;
#[cfg(feature = "bpf")]
mod namespaces;
#[cfg(feature = "bpf")]
mod node;
#[cfg(feature = "bpf")]
mod placed;
pub mod protocol;
mod sightings;

#[cfg(feature = "bpf")]
pub use agent::main;
#[cfg(feature = "bpf")]
pub use namespaces::find;
pub use sightings::{MalformedSightings, PACKETS_MAX, SIGHTINGS_BYTES_MAX, Sightings};

/// Environment variable with the word that paths begin with. Not an argument: those are in the process
/// list of the node.
pub const TOKEN: &str = "NIC2POD_TOKEN";

/// That word, as this program was given it.
pub fn token() -> String {
    std::env::var(TOKEN).unwrap_or_default()
}
