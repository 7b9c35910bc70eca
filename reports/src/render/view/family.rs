// SPDX-License-Identifier: Apache-2.0
//! What each further Service costs: a chart and the fitted lines.

use crate::analysis::number::{NONE, count, digits, prose_list, time};
use crate::analysis::slope::{Family, Line};
use crate::render::figure::Figure;
use crate::render::palette;

/// A family's section.
pub(crate) struct FamilyView {
    pub(crate) title: String,
    pub(crate) figure: Figure,
    pub(crate) lines: Vec<LineView>,
}

/// A fitted line.
pub(crate) struct LineView {
    pub(crate) metric: &'static str,
    pub(crate) mode: String,
    pub(crate) colour: String,
    pub(crate) slope: String,
    pub(crate) intercept: String,
    pub(crate) r2: String,
    pub(crate) counts: String,
}

impl FamilyView {
    pub(crate) fn new(family: &Family<'_>, figure: Figure) -> Self {
        let lines = family.lines.iter().map(LineView::new).collect();
        Self { title: family.title.clone(), figure, lines }
    }
}

impl LineView {
    fn new(line: &Line) -> Self {
        let counts: Vec<String> = line.points.iter().map(|(n, _)| count(u64::from(*n))).collect();
        Self {
            metric: line.metric.name(),
            mode: line.mode.clone(),
            colour: palette::css(palette::mode(&line.mode)),
            slope: format!("{} ns", digits(line.fit.slope)),
            intercept: time(line.fit.intercept),
            r2: line.fit.r2.map_or_else(|| NONE.to_owned(), |r2| format!("{r2:.3}")),
            counts: prose_list(&counts),
        }
    }
}
