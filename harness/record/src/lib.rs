// SPDX-License-Identifier: Apache-2.0
//! The record: what a run leaves on disk, and the only thing a report reads.
//!
//! A run is a directory (`docs/record-format.md`). Measuring writes it through [`RunWriter`],
//! judging and drawing read it through [`Run`]; the two sides share nothing else.
#![forbid(unsafe_code)]

mod case;
mod error;
mod histogram;
mod kernel;
mod manifest;
mod reader;
mod summary;
mod walk;
mod writer;

pub use case::{
    BlockRecord, CaseRecord, Conntrack, Counts, Failure, Handshakes, IterationRecord, Leg,
    LegRecord, Legs, Probe, ProbeEffect, Proof, Quantiles, Queries, Reason, Residual, StageRecord,
    Status, Tuples,
};
pub use error::RecordError;
pub use histogram::Histogram;
pub use kernel::GuestKernel;
pub use manifest::{Host, Manifest, Tool};
pub use reader::{Run, WALKS_BYTES_MAX};
pub use summary::{Fidelity, Summary};
pub use walk::{MatchedRule, Place, QueryWalk, Walk, WalkStep};
pub use writer::{CaseFiles, RunWriter, path_component};

/// Version of the run directory's format. A reader accepts its own version and older ones.
pub const SCHEMA_VERSION: u32 = 1;
