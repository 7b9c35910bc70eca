// SPDX-License-Identifier: Apache-2.0
//! Metrics over many runs: which runs there are, what they measured, and where a level changed.

mod find;
mod host;
mod series;

pub use find::{Found, Unreadable, find};
pub use host::{Hosted, hosts};
pub use series::{Metric, Over, Point, Series, overs};
