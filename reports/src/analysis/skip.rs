// SPDX-License-Identifier: Apache-2.0
//! Skipped cases, gathered by reason: a machine lacks one thing, not twelve.

use record::{CaseRecord, Reason, Run, Status};

/// Cases skipped for the same reason in the same run.
#[derive(Clone, Debug)]
pub struct Skip<'a> {
    /// The run.
    pub run_id: &'a str,
    /// Why; a skip without one is a bug of the harness, and the report says so.
    pub reason: Option<&'a Reason>,
    /// Proxy modes concerned, each once, in plan order.
    pub modes: Vec<&'a str>,
    /// The cases, in plan order.
    pub cases: Vec<&'a CaseRecord>,
}

/// All skips, in plan order of their first case.
pub fn skips(runs: &[Run]) -> Vec<Skip<'_>> {
    let mut skips: Vec<Skip<'_>> = Vec::new();
    for run in runs {
        let run_id = run.manifest.run_id.as_str();
        for case in run.summary.cases.iter().filter(|c| c.status == Status::Skipped) {
            let reason = case.reason.as_ref();
            let known = skips.iter().position(|s| s.run_id == run_id && s.reason == reason);
            let at = known.unwrap_or_else(|| {
                skips.push(Skip { run_id, reason, modes: Vec::new(), cases: Vec::new() });
                skips.len() - 1
            });
            if !skips[at].modes.contains(&case.mode.as_str()) {
                skips[at].modes.push(&case.mode);
            }
            skips[at].cases.push(case);
        }
    }
    skips
}
