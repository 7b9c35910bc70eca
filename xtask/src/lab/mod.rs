// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lab`: what this machine can do, what killed runs left, and kernels of our own.

#[cfg(feature = "kind")]
mod abandoned;
mod clusters;
mod doctor;
mod gc;
mod kernel;

pub(crate) use clusters::{down, image, ls, up};
pub(crate) use doctor::doctor;
pub(crate) use gc::gc;
pub(crate) use kernel::kernel;
