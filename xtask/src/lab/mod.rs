// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lab`: what this machine can do, and what killed runs left.

mod doctor;
mod gc;

pub(crate) use doctor::doctor;
pub(crate) use gc::gc;
