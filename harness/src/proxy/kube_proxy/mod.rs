// SPDX-License-Identifier: Apache-2.0
//! kube-proxy itself in place of our rendering of its rules: one that a cluster runs, or a program of
//! the user's that is run on the nodes here, told of the Services by a small API server of our own.

mod api;
mod ask;
mod config;
mod found;
mod installed;
mod process;
mod program;
mod programmed;
mod stand_in;

pub use api::ApiServer;
#[cfg(feature = "kind")]
pub(crate) use ask::proxy_mode;
pub use found::KubeProxy;
pub use program::Program;
#[cfg(feature = "kind")]
pub(crate) use programmed::missing;
pub use stand_in::StandIn;
