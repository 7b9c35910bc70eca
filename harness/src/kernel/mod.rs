// SPDX-License-Identifier: Apache-2.0
//! Kernels of our own under a netns lab: a guest boots with this program as init, builds the lab
//! inside, and answers the harness outside over one port.

mod affinity;
mod boot;
mod built_in;
pub mod config;
mod console;
mod digest;
mod error;
mod guest;
pub mod init;
mod line;
mod piece;
pub(crate) mod protocol;
pub mod qemu;
pub mod serve;
pub mod store;
pub mod uml;

pub use boot::{Boot, Init, Kernel};
pub use built_in::NAME_BUILT_IN;
pub use error::KernelError;
pub use guest::Guest;
pub use qemu::Qemu;
pub use uml::Uml;
