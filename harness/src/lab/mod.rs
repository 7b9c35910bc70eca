// SPDX-License-Identifier: Apache-2.0
//! Labs: where the hosts of a case live.

mod bed;
pub(crate) mod bytes;
pub mod fake;
pub mod guest;
mod kernels;
#[cfg(feature = "kind")]
pub mod kind;
#[cfg(feature = "kind")]
pub mod kubeconfig;
pub mod netns;
pub mod scratch;
mod tell;
mod walks;

pub use bed::{Bed, Down, Iteration, Lab, LabError, Ready, StageTimes, Walks};
pub use kernels::KernelLabs;
