// SPDX-License-Identifier: Apache-2.0
//! The figures of a case that a summary shows, whatever it is printed on.

use record::{CaseRecord, Quantiles, Run, Status};

use crate::analysis::baseline::ratio;
use crate::analysis::fidelity::times_count;
use crate::analysis::group::Group;
use crate::analysis::number::{NONE, count, one_line};

/// A case with its ratios to the group's baseline.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The case.
    pub case: &'a CaseRecord,
    /// Median latency as a multiple of the baseline's.
    pub latency_ratio: Option<f64>,
    /// Median first-packet time as a multiple of the baseline's.
    pub first_packet_ratio: Option<f64>,
    /// Whether its times count.
    pub timed: bool,
}

/// Rows of the cases that ran, in the group's order; skipped ones are listed with their reasons
/// elsewhere.
pub fn rows<'a>(group: &Group<'a>) -> Vec<Row<'a>> {
    let base = group.baseline.as_ref().map(|b| b.case);
    let against = |case: &CaseRecord, of: fn(&CaseRecord) -> Option<Quantiles>| {
        // Figures of a failed case are not to be used.
        let usable = case.status == Status::Measured && times_count(group.run, case);
        let value = usable.then(|| of(case)).flatten()?;
        ratio(value.p50, of(base?)?.p50)
    };
    let ran = group.cases.iter().filter(|case| case.status != Status::Skipped);
    let row = |case: &&'a CaseRecord| Row {
        case,
        latency_ratio: against(case, |c| c.latency_ns),
        first_packet_ratio: against(case, |c| c.first_packet_ns),
        timed: times_count(group.run, case),
    };
    ran.map(row).collect()
}

/// How the cases of some runs ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Measured cases.
    pub measured: usize,
    /// Skipped cases.
    pub skipped: usize,
    /// Failed cases.
    pub failed: usize,
    /// Requests answered in measured cases.
    pub requests: u64,
}

/// Counts the cases of all runs by how they ended.
pub fn tally(runs: &[Run]) -> Tally {
    let mut tally = Tally::default();
    for case in runs.iter().flat_map(|run| &run.summary.cases) {
        match case.status {
            Status::Measured => {
                tally.measured += 1;
                tally.requests += case.requests;
            }
            Status::Skipped => tally.skipped += 1,
            Status::Failed => tally.failed += 1,
        }
    }
    tally
}

/// A status's word, as the record spells it.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Measured => "measured",
        Status::Skipped => "skipped",
        Status::Failed => "failed",
    }
}

/// Unanswered requests with their kinds: `12 (timeout 10, overload 2)`. A case that ended before
/// its first request has no count, not a count of zero.
pub fn errors(case: &CaseRecord) -> String {
    if case.status != Status::Measured && case.requests == 0 && case.errors == 0 {
        return NONE.to_owned();
    }
    if case.errors_by_kind.is_empty() {
        return count(case.errors);
    }
    let kinds: Vec<String> = case
        .errors_by_kind
        .iter()
        .map(|(kind, n)| format!("{} {}", one_line(kind), count(*n)))
        .collect();
    format!("{} ({})", count(case.errors), kinds.join(", "))
}
