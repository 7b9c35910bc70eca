// SPDX-License-Identifier: Apache-2.0
//! What goes over a connection, seen from just outside the system calls: bytes, times, ends.

mod carried;
mod direction;
mod frames;
mod gate;
mod observed;
mod rewound;

pub(crate) use carried::{Carried, Opened};
pub(crate) use direction::{Direction, Start};
pub(crate) use gate::Gate;
pub(crate) use observed::{Observe, Observed};
pub(crate) use rewound::{Rewound, is_http2};
