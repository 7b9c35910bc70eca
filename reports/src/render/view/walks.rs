// SPDX-License-Identifier: Apache-2.0
//! The walks of a run's cases.

use record::Run;

use crate::analysis::fidelity::times_count;
use crate::analysis::kernel::case_name;
use crate::analysis::number::{plural, time};
use crate::render::palette;
use crate::render::view::WalkView;

/// Walks drawn of a case, and of all cases: each is some hundred lines of the page. The record has
/// them all.
const OF_CASE_MAX: usize = 3;
const ALL_MAX: usize = 60;

/// A case that kept walks.
pub(crate) struct CaseWalksView {
    pub(crate) id: String,
    pub(crate) colour: String,
    /// How many, and how long the longest took.
    pub(crate) about: String,
    pub(crate) walks: Vec<WalkView>,
    pub(crate) left_out: usize,
    /// Why they could not be read, empty where they could.
    pub(crate) missing: String,
}

/// Every case with walks, and what the section is called.
pub(crate) fn walks(runs: &[Run]) -> (&'static str, Vec<CaseWalksView>) {
    let mut views = Vec::new();
    let (mut slowest, mut room) = (false, ALL_MAX);
    for run in runs {
        for case in &run.summary.cases {
            let (walks, missing) = match run.walks(&case.id) {
                Ok(walks) if walks.is_empty() => continue,
                Ok(walks) => (walks, String::new()),
                Err(error) => (Vec::new(), error.to_string()),
            };
            slowest |= walks.iter().any(|walk| walk.kept == "slowest");
            let longest_ns = walks.iter().map(|walk| walk.total_ns).max();
            let about = longest_ns.map_or_else(String::new, |ns| {
                let n = plural(walks.len(), "request", "requests");
                if times_count(run, case) {
                    format!("{n}, up to {}", time(ns as f64))
                } else {
                    format!("{n}; their times are those of an emulated processor and mean nothing")
                }
            });
            let shown = walks.len().min(OF_CASE_MAX).min(room);
            room -= shown;
            let view = |walk| WalkView::new(walk, Some(case));
            views.push(CaseWalksView {
                id: case_name(runs, run, case),
                colour: palette::css(palette::mode(&case.mode)),
                about,
                walks: walks[..shown].iter().map(view).collect(),
                left_out: walks.len() - shown,
                missing,
            });
        }
    }
    (if slowest { "The slowest requests" } else { "One request, step by step" }, views)
}
