// SPDX-License-Identifier: Apache-2.0
//! Walks by themselves, without a run: as text, as a trace for Perfetto, as a page.

mod paragraph;
mod perfetto;
mod text;

pub use crate::render::trace_page as page;
pub use perfetto::perfetto;
pub use text::text;
