// SPDX-License-Identifier: Apache-2.0
//! Docker: what the lab asks of its Engine, the agents' image, hosts outside a cluster, and kind's
//! clusters.
//!
//! Everything here may be called from any thread that is not a runtime's: the Engine's answers are
//! awaited on a runtime of its own.

mod container;
mod engine;
mod error;
mod exec;
pub mod host;
pub mod image;
pub mod kind;
mod peek;
mod socket;

pub use container::{Attachment, Container};
pub use engine::Engine;
pub use error::DockerError;
pub use exec::Executed;
pub use host::{Host, HostSpec, RUN_LABEL};
pub use image::{AGENT_SOCKET, AgentsImage, ImageError};
