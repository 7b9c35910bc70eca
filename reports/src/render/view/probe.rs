// SPDX-License-Identifier: Apache-2.0
//! Tables over all cases: exact counts of one request, and the probes' truth about themselves.

use record::{CaseRecord, Run, Status};

use crate::analysis::fidelity::{EMULATED, or_emulated, times_count};
use crate::analysis::kernel::case_name;
use crate::analysis::number::{NONE, count, percent, time};
use crate::analysis::probe::{Change, cost, counts, effect};
use crate::render::palette;

/// A case's row.
pub(crate) struct RowView<const N: usize> {
    pub(crate) id: String,
    /// Proxy mode, by which a reader selects.
    pub(crate) mode: String,
    pub(crate) colour: String,
    pub(crate) cells: [CellView; N],
}

/// A figure, and what it is of.
pub(crate) struct CellView {
    pub(crate) text: String,
    /// Empty where there is nothing to add.
    pub(crate) small: String,
}

impl From<String> for CellView {
    fn from(text: String) -> Self {
        Self { text, small: String::new() }
    }
}

impl From<Change> for CellView {
    fn from(Change { percent, of }: Change) -> Self {
        Self { text: percent, small: of }
    }
}

/// Why probes are not those that were asked for, and of how many cases.
pub(crate) struct ReasonView {
    pub(crate) engine: String,
    pub(crate) reason: String,
    pub(crate) cases: usize,
}

/// Columns of the probes' table.
pub(crate) const PROBE_HEAD: [&str; 9] = [
    "engine",
    "events",
    "dropped",
    "per event",
    "per program run",
    "effect on p50",
    "effect on req/s",
    "joined",
    "residual p50",
];

fn measured(runs: &[Run]) -> impl Iterator<Item = (&Run, &CaseRecord)> {
    runs.iter().flat_map(|run| {
        let cases = run.summary.cases.iter().filter(|case| case.status == Status::Measured);
        cases.map(move |case| (run, case))
    })
}

fn row<const N: usize>(id: String, case: &CaseRecord, cells: [CellView; N]) -> RowView<N> {
    let (mode, colour) = (case.mode.clone(), palette::css(palette::mode(&case.mode)));
    RowView { id, mode, colour, cells }
}

/// Cases with counts.
pub(crate) fn count_rows(runs: &[Run]) -> Vec<RowView<7>> {
    measured(runs)
        .filter_map(|(run, case)| {
            let cells = counts(case)?.map(CellView::from);
            Some(row(case_name(runs, run, case), case, cells))
        })
        .collect()
}

/// Cases with probes.
pub(crate) fn probe_rows(runs: &[Run]) -> Vec<RowView<9>> {
    let cells = |run: &Run, case: &CaseRecord| {
        let probe = case.probe.as_ref()?;
        let timed = times_count(run, case);
        let [event, program] = cost(probe).map(|text| or_emulated(timed, text).into());
        let [p50, rps] = if timed {
            effect(probe).map(CellView::from)
        } else {
            [EMULATED, EMULATED].map(|word| word.to_owned().into())
        };
        let joined = case.joined_ratio.map_or_else(|| NONE.to_owned(), percent).into();
        let residual = case.residual_ns.map_or_else(|| NONE.to_owned(), |r| time(r.p50 as f64));
        let residual = or_emulated(timed, residual);
        let [events, dropped] = [probe.events, probe.dropped].map(|n| count(n).into());
        let engine = probe.engine.clone().into();
        Some([engine, events, dropped, event, program, p50, rps, joined, residual.into()])
    };
    let all = measured(runs)
        .filter_map(|(run, case)| Some(row(case_name(runs, run, case), case, cells(run, case)?)));
    all.collect()
}

/// The reasons, each once.
pub(crate) fn probe_reasons(runs: &[Run]) -> Vec<ReasonView> {
    let mut reasons: Vec<ReasonView> = Vec::new();
    for (_, case) in measured(runs) {
        let Some(probe) = &case.probe else { continue };
        let Some(reason) = &probe.reason else { continue };
        match reasons.iter_mut().find(|r| r.engine == probe.engine && r.reason == *reason) {
            Some(known) => known.cases += 1,
            None => reasons.push(ReasonView {
                engine: probe.engine.clone(),
                reason: reason.clone(),
                cases: 1,
            }),
        }
    }
    reasons
}
