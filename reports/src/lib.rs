// SPDX-License-Identifier: Apache-2.0
//! Reports: what a record says, drawn. Never touches a lab: an old run renders anywhere.
//!
//! [`analysis`] turns records into comparisons, fits and words; [`render()`] writes them as one
//! HTML file, PNG charts and a markdown twin; [`table`] is what a terminal shows. [`trace`] does
//! the same with single requests.
#![forbid(unsafe_code)]

pub mod analysis;
mod error;
pub mod history;
pub mod judge;
mod look;
mod render;
pub mod table;
pub mod trace;

pub use error::ReportError;
pub use render::{History, Rendered, history as render_history, power as render_power, render};
