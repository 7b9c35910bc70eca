// SPDX-License-Identifier: Apache-2.0
//! The lab on a cluster that exists: its own kube-proxy, its own CNI, load from pods on its nodes.
//!
//! It writes into one namespace of its own and asks nothing of the nodes, so that only the engine
//! `client` is to be had, and the only mode is the one that the cluster runs in, beside `none`.

mod bed;
mod ground;
mod lab;
mod merge;
mod mode;
mod placement;
mod road;
mod workers;

pub use lab::{KubeconfigLab, KubeconfigOptions};
