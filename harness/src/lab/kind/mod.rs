// SPDX-License-Identifier: Apache-2.0
//! The lab of kind clusters in Docker: real kubelets and a real kube-proxy, on this machine's kernel.
//!
//! A node is a container, entered through the process it began with. From there on all is as on
//! namespaces: the same routes and devices between nodes, the same probes, the same proofs. What is
//! not: pods are made by kubelet and wired by the reference plugins, Services go through an API
//! server, and kube-proxy makes its own rules of them.

mod balancer;
mod bed;
mod beds;
mod client;
mod cluster;
mod conflist;
mod control;
mod detour;
mod dns;
mod error;
mod kept;
mod machine;
mod maker;
mod node;
mod others;
mod pods;
mod processes;
mod progress;
mod published;
mod reflection;
mod site;
mod supplies;

pub use beds::{KindBeds, KindOptions};
pub use error::ClusterError;
pub use kept::Kept;
pub use progress::Progress;
pub use supplies::{Supplies, Supply};
