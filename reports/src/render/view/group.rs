// SPDX-License-Identifier: Apache-2.0
//! A group's section: its charts and its stage table.

use record::{CaseRecord, Leg, StageRecord};

use crate::analysis::glossary::explain;
use crate::analysis::group::{Group, Series};
use crate::analysis::kernel;
use crate::analysis::number::{NONE, count, time};
use crate::analysis::stage::{leg_mean_ns, rows};
use crate::render::chart::SERIES_MAX;
use crate::render::figure::Figure;
use crate::render::palette;
use crate::render::view::summary::requests;

/// A group with times.
pub(crate) struct GroupView {
    pub(crate) anchor: String,
    pub(crate) title: String,
    pub(crate) meta: String,
    pub(crate) figures: Vec<Figure>,
    pub(crate) modes: Vec<ModeView>,
    pub(crate) legs: Vec<LegView>,
    /// One cell for each mode; empty where no case has stages.
    pub(crate) residuals: Vec<StageCell>,
}

/// A leg's rows of the stage table.
pub(crate) struct LegView {
    pub(crate) name: &'static str,
    pub(crate) stages: Vec<StageView>,
    /// One total for each mode.
    pub(crate) totals: Vec<String>,
}

/// One stage.
pub(crate) struct StageView {
    pub(crate) name: String,
    pub(crate) colour: String,
    pub(crate) meaning: String,
    pub(crate) cells: Vec<StageCell>,
}

/// A column of the stage table.
pub(crate) struct ModeView {
    pub(crate) label: String,
    /// Proxy mode, by which a reader selects.
    pub(crate) mode: String,
    /// Requests most of its stages were seen in.
    pub(crate) count: String,
}

/// One stage of one mode.
pub(crate) struct StageCell {
    pub(crate) mean: String,
    /// Median and 99th percentile.
    pub(crate) rest: String,
    /// Requests it was seen in, empty where they are the column's.
    pub(crate) count: String,
}

impl GroupView {
    pub(crate) fn new(group: &Group<'_>, anchor: String, figures: Vec<Figure>) -> Self {
        let mut series = group.series();
        let left_out = series.len().saturating_sub(SERIES_MAX);
        series.truncate(SERIES_MAX);
        let mut meta = format!(
            "Lab {} on {}. {} requests answered.",
            group.key.lab,
            kernel::on(group.key.kernel),
            requests(group)
        );
        if left_out > 0 {
            meta.push_str(&format!(" {left_out} further modes are in the summary only."));
        }
        let staged = series.iter().any(|one| !one.case.stages.is_empty());
        let residuals = series.iter().map(|one| residual(one.case));
        Self {
            anchor,
            title: group.title.clone(),
            meta,
            figures,
            modes: series.iter().map(ModeView::new).collect(),
            legs: legs(&series),
            residuals: if staged { residuals.collect() } else { Vec::new() },
        }
    }
}

impl GroupView {
    /// Mode of a column.
    pub(crate) fn mode(&self, column: &usize) -> &str {
        self.modes.get(*column).map_or("", |mode| &mode.mode)
    }
}

fn legs(series: &[Series<'_>]) -> Vec<LegView> {
    let all = rows(series);
    let leg = |leg: Leg, name: &'static str| LegView {
        name,
        stages: all
            .iter()
            .filter(|row| row.leg == leg)
            .map(|row| StageView {
                name: row.name.to_owned(),
                colour: palette::css(palette::stage(row.name)),
                meaning: explain(row.name)
                    .unwrap_or_else(|| "not in this version's glossary".to_owned()),
                cells: row
                    .cells
                    .iter()
                    .zip(series)
                    .map(|(cell, one)| StageCell::new(*cell, most(one.case)))
                    .collect(),
            })
            .collect(),
        totals: series.iter().map(|one| total(one.case, leg)).collect(),
    };
    let legs = [leg(Leg::Request, "Request leg"), leg(Leg::Response, "Response leg")];
    legs.into_iter().filter(|leg| !leg.stages.is_empty()).collect()
}

impl ModeView {
    fn new(series: &Series<'_>) -> Self {
        let count = most(series.case);
        Self {
            label: series.label.clone(),
            mode: series.case.mode.clone(),
            count: if count > 0 { requests_seen(count) } else { String::new() },
        }
    }
}

/// Most requests a stage of the case was seen in.
fn most(case: &CaseRecord) -> u64 {
    case.stages.iter().map(|stage| stage.count).max().unwrap_or(0)
}

fn requests_seen(n: u64) -> String {
    format!("n {}", count(n))
}

impl StageCell {
    fn new(stage: Option<&StageRecord>, most: u64) -> Self {
        let Some(stage) = stage else { return Self::none() };
        Self {
            mean: time(stage.mean_ns),
            rest: format!("{} · {}", time(stage.p50_ns as f64), time(stage.p99_ns as f64)),
            count: if stage.count == most { String::new() } else { requests_seen(stage.count) },
        }
    }

    fn none() -> Self {
        Self { mean: NONE.to_owned(), rest: String::new(), count: String::new() }
    }
}

fn total(case: &CaseRecord, leg: Leg) -> String {
    if case.stages.iter().any(|stage| stage.leg == leg) {
        time(leg_mean_ns(case, leg))
    } else {
        NONE.to_owned()
    }
}

fn residual(case: &CaseRecord) -> StageCell {
    case.residual_ns.map_or_else(StageCell::none, |residual| StageCell {
        mean: time(residual.p50 as f64),
        rest: time(residual.p99 as f64),
        count: String::new(),
    })
}
