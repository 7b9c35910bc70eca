// SPDX-License-Identifier: Apache-2.0
//! The lab and what happens in it: a profile becomes a plan, a plan's cases are built, proved,
//! loaded and measured, and every case's figures go to the record.

#[cfg(feature = "bpf")]
pub mod bpf;
mod cancel;
pub mod capture;
pub mod certificates;
pub mod cni;
#[cfg(feature = "kind")]
pub mod docker;
pub mod event;
pub mod host;
pub mod kernel;
#[cfg(feature = "kind")]
pub mod kube;
pub mod lab;
pub mod net;
pub mod plan;
pub mod probe;
pub mod proxy;
pub mod relay;
pub mod run;
mod unavailable;
pub mod units;

pub use cancel::Cancel;
pub use unavailable::Unavailable;
