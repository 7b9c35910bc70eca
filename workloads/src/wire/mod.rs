// SPDX-License-Identifier: Apache-2.0
//! What goes over a connection, seen from just outside the system calls: bytes, times, ends.

mod direction;
mod frames;
mod observed;

pub(crate) use direction::{Direction, Start};
pub(crate) use observed::{Observe, Observed};
