// SPDX-License-Identifier: Apache-2.0
//! The summary table: a body of rows for each group.

use record::{Quantiles, Status};

use crate::analysis::fidelity::or_emulated;
use crate::analysis::group::Group;
use crate::analysis::number::{NONE, count, digits, percent, ratio, time_or_none};
use crate::analysis::summary::{Row, errors, rows, status_word};
use crate::render::palette;

/// A group's rows.
pub(crate) struct SummaryGroup {
    pub(crate) title: String,
    /// Fragment of the group's section, empty where it has none.
    pub(crate) anchor: String,
    /// What ratios are to.
    pub(crate) baseline: String,
    pub(crate) rows: Vec<SummaryRow>,
}

/// A time with its ratio and the length of its bar.
pub(crate) struct Timed {
    pub(crate) text: String,
    pub(crate) ratio: String,
    /// Percent of the group's longest, 0 where there is no figure.
    pub(crate) bar: u64,
}

/// One case.
pub(crate) struct SummaryRow {
    pub(crate) mode: String,
    pub(crate) colour: String,
    pub(crate) status: &'static str,
    pub(crate) failed: bool,
    pub(crate) rps: String,
    pub(crate) p50: Timed,
    pub(crate) p99: String,
    pub(crate) first_packet: Timed,
    pub(crate) joined: String,
    pub(crate) errors: String,
    pub(crate) has_errors: bool,
}

impl SummaryGroup {
    /// None where every case was skipped.
    pub(crate) fn new(group: &Group<'_>, anchor: String) -> Option<Self> {
        let rows = rows(group);
        if rows.is_empty() {
            return None;
        }
        let baseline = match &group.baseline {
            Some(base) if base.in_group => format!("×1 is {}", base.label),
            Some(base) => format!("×1 is {}, measured at {}", base.label, base.case.id),
            None if rows.iter().all(|row| !row.timed) => {
                "no times and no ratios: on an emulated processor they mean nothing; compare counts"
                    .to_owned()
            }
            None => "no baseline was measured, so no ratios".to_owned(),
        };
        let longest = |of: fn(&Row<'_>) -> Option<Quantiles>| {
            let timed = rows.iter().filter(|row| row.timed);
            timed.filter_map(|row| Some(of(row)?.p50)).max().unwrap_or(0)
        };
        let longest_ns = (longest(|r| r.case.latency_ns), longest(|r| r.case.first_packet_ns));
        let rows = rows.iter().map(|row| SummaryRow::new(row, longest_ns)).collect();
        Some(Self { title: group.title.clone(), anchor, baseline, rows })
    }
}

impl SummaryRow {
    fn new(row: &Row<'_>, (latency_max, first_packet_max): (u64, u64)) -> Self {
        let case = row.case;
        let failed = case.status == Status::Failed;
        let times = |quantiles: Option<Quantiles>| quantiles.filter(|_| row.timed);
        let said = |text: String| or_emulated(row.timed, text);
        let timed = |quantiles, ratio, longest| {
            let timed = timed(times(quantiles), ratio, longest);
            Timed { text: said(timed.text), ..timed }
        };
        Self {
            mode: case.mode.clone(),
            colour: palette::css(palette::mode(&case.mode)),
            status: status_word(case.status),
            failed,
            rps: said(case.throughput_rps.map_or_else(|| NONE.to_owned(), digits)),
            p50: timed(case.latency_ns, row.latency_ratio, latency_max),
            p99: said(time_or_none(case.latency_ns.map(|q| q.p99))),
            first_packet: timed(case.first_packet_ns, row.first_packet_ratio, first_packet_max),
            joined: case.joined_ratio.map_or_else(|| NONE.to_owned(), percent),
            errors: if failed && case.requests == 0 && case.errors == 0 {
                NONE.to_owned()
            } else {
                errors(case)
            },
            has_errors: case.errors > 0,
        }
    }
}

fn timed(quantiles: Option<Quantiles>, times: Option<f64>, longest: u64) -> Timed {
    Timed {
        text: time_or_none(quantiles.map(|q| q.p50)),
        ratio: times.map(ratio).unwrap_or_default(),
        bar: quantiles.map_or(0, |q| (q.p50 as f64 / longest.max(1) as f64 * 100.0).round() as u64),
    }
}

/// Requests of all cases in a group, for its heading.
pub(crate) fn requests(group: &Group<'_>) -> String {
    count(group.measured().map(|case| case.requests).sum())
}
