// SPDX-License-Identifier: Apache-2.0
//! Reports: what a record says, drawn. Never touches a lab: an old run renders anywhere.
//!
//! [`analysis`] turns records into comparisons, fits and words; [`render()`] writes them as one
//! HTML file, PNG charts and a markdown twin; [`table`] is what a terminal shows.
#![forbid(unsafe_code)]

pub mod analysis;
mod error;
mod render;
pub mod table;

pub use error::ReportError;
pub use render::{Rendered, render};
