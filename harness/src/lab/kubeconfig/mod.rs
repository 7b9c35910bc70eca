// SPDX-License-Identifier: Apache-2.0
//! The lab on a cluster that exists: its own kube-proxy, its own CNI, load from pods on its nodes.
//!
//! It writes into one namespace of its own and asks nothing of the nodes, so that only the engine
//! `client` is to be had, unless probes are asked for, which are put on the nodes by privileged pods
//! of the same namespace. The only mode is the one that the cluster runs in, beside `none`.

mod bed;
mod follow;
mod ground;
mod lab;
mod merge;
mod mode;
mod parts;
mod placement;
mod road;
mod watchers;
mod workers;

pub use lab::{KubeconfigLab, KubeconfigOptions};
