// SPDX-License-Identifier: Apache-2.0
//! What each further Service costs: a chart and the fitted lines.

use std::collections::BTreeSet;

use crate::analysis::number::{NONE, count, prose_list, slope, time};
use crate::analysis::slope::{Family, Line, Metric};
use crate::render::figure::Figure;
use crate::render::palette;

/// A family's section.
pub(crate) struct FamilyView {
    pub(crate) title: String,
    pub(crate) figure: Figure,
    pub(crate) metrics: Vec<MetricView>,
}

/// The fitted lines of one time.
pub(crate) struct MetricView {
    pub(crate) name: &'static str,
    /// Service counts of its points.
    pub(crate) counts: String,
    pub(crate) lines: Vec<LineView>,
}

/// A fitted line.
pub(crate) struct LineView {
    pub(crate) mode: String,
    pub(crate) colour: String,
    pub(crate) slope: String,
    pub(crate) intercept: String,
    pub(crate) r2: String,
}

impl FamilyView {
    pub(crate) fn new(family: &Family<'_>, figure: Figure) -> Self {
        let of = |metric: Metric| family.lines.iter().filter(move |line| line.metric == metric);
        let metrics = Metric::ALL.into_iter().map(|metric| MetricView {
            name: metric.name(),
            counts: counts(of(metric)),
            lines: of(metric).map(LineView::new).collect(),
        });
        let metrics = metrics.filter(|metric| !metric.lines.is_empty()).collect();
        Self { title: family.title.clone(), figure, metrics }
    }
}

fn counts<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let all: BTreeSet<u32> = lines.flat_map(|line| &line.points).map(|(n, _)| *n).collect();
    let all: Vec<String> = all.into_iter().map(|n| count(u64::from(n))).collect();
    format!("at {} Services", prose_list(&all))
}

impl LineView {
    fn new(line: &Line) -> Self {
        Self {
            mode: line.mode.clone(),
            colour: palette::css(palette::mode(&line.mode)),
            slope: slope(line.fit.slope),
            intercept: time(line.fit.intercept),
            r2: line.fit.r2.map_or_else(|| NONE.to_owned(), |r2| format!("{r2:.3}")),
        }
    }
}
