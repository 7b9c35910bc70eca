// SPDX-License-Identifier: Apache-2.0
//! `summary.json`: every case's figures, rewritten after each case.

use serde::{Deserialize, Serialize};

use crate::CaseRecord;

/// What a run's times may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fidelity {
    /// Emulated processor: counts only.
    Functional,
    /// Shared cores: A against B in one run.
    Relative,
    /// Isolated cores on a quiet machine.
    Absolute,
}

/// All figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Name of the run, unique on the machine that made it.
    pub run_id: String,
    /// What its times may be used for.
    pub fidelity: Fidelity,
    /// Cases in plan order.
    pub cases: Vec<CaseRecord>,
}
