// SPDX-License-Identifier: Apache-2.0
//! Comparisons and figures written down: for people, for pull requests, for CI, for other tools.

mod bencher;
mod github;
mod gobench;
mod json;
mod junit;
mod markdown;
mod openmetrics;
mod text;
mod value;

pub use bencher::bencher;
pub use github::github;
pub use gobench::gobench;
pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
pub use openmetrics::openmetrics;
pub use text::text;
pub(crate) use value::{p, ratio, value};
