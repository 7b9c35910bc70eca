// SPDX-License-Identifier: Apache-2.0
//! HTTP load and the server it is driven at.
//!
//! `load`, `target`, `ingress` and `dns` are agents: each reads one JSON command per line on standard input and
//! answers each with one JSON line on standard output; all end when standard input closes, so
//! that none outlives the harness that started it. In a container, with `--socket PATH`, the first two
//! hold the same talk with whoever connects to a Unix socket, one caller after the other.

#![deny(unsafe_code)]

mod agent;
mod body;
pub mod clock;
pub mod dns;
mod door;
mod family;
mod grpc;
pub mod ingress;
pub mod load;
mod preamble;
pub mod protocol;
pub mod questions;
mod service_type;
mod socket;
mod stream;
pub mod target;
mod timer;
mod trust;
mod websocket;
mod wire;

pub use agent::AgentError;
pub use door::Local;
pub use family::tcp_socket;
pub use preamble::preamble;
pub use service_type::{service_type, set_service_type};
pub use socket::READY;
#[doc(hidden)]
pub use websocket::read_messages;
