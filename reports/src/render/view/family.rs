// SPDX-License-Identifier: Apache-2.0
//! What each further Service costs: charts, the fitted lines, and where they cross.

use std::collections::BTreeSet;

use crate::analysis::number::{NONE, count, prose_list, slope, slope_interval, time};
use crate::analysis::slope::{Family, Line, Metric, Part};
use crate::render::figure::Figure;
use crate::render::palette;
use crate::render::view::CrossingsView;

/// A family's section.
pub(crate) struct FamilyView {
    pub(crate) title: String,
    pub(crate) figures: Vec<Figure>,
    /// Lines through medians.
    pub(crate) metrics: Vec<MetricView>,
    /// The same of higher percentiles.
    pub(crate) tails: Vec<MetricView>,
    /// Whether the measured Service stood in more places than one.
    pub(crate) positions: bool,
    pub(crate) crossings: Vec<CrossingsView>,
}

/// The fitted lines of one time.
pub(crate) struct MetricView {
    pub(crate) name: String,
    /// Service counts of its points.
    pub(crate) counts: String,
    pub(crate) lines: Vec<LineView>,
}

/// A fitted line.
pub(crate) struct LineView {
    pub(crate) mode: String,
    pub(crate) position: &'static str,
    pub(crate) colour: String,
    pub(crate) slope: String,
    pub(crate) slope_interval: String,
    pub(crate) per_rule: String,
    pub(crate) per_rule_interval: String,
    pub(crate) intercept: String,
    pub(crate) r2: String,
    /// Nanoseconds per Service, for sorting.
    pub(crate) key: f64,
}

impl FamilyView {
    pub(crate) fn new(family: &Family<'_>, figures: Vec<Figure>) -> Self {
        let tails = [Part::P90, Part::P99].into_iter().flat_map(|part| views(family, part));
        Self {
            title: family.title.clone(),
            figures,
            metrics: views(family, Part::P50),
            tails: tails.collect(),
            positions: family.positions(),
            crossings: CrossingsView::of(family),
        }
    }
}

/// The fitted lines of a family's times at one part of their distributions.
pub(crate) fn views(family: &Family<'_>, part: Part) -> Vec<MetricView> {
    let view = |metric: Metric| MetricView {
        name: name(metric, part),
        counts: counts(family.of(metric, part)),
        lines: family.of(metric, part).map(LineView::new).collect(),
    };
    let views = Metric::ALL.into_iter().map(view);
    views.filter(|view| !view.lines.is_empty()).collect()
}

fn name(metric: Metric, part: Part) -> String {
    match metric {
        Metric::PerRequest | Metric::Install => metric.name().to_owned(),
        _ => format!("{} {}", metric.name(), part.name()),
    }
}

fn counts<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let all: BTreeSet<u32> =
        lines.flat_map(|line| &line.points).map(|point| point.services).collect();
    let all: Vec<String> = all.into_iter().map(|n| count(u64::from(n))).collect();
    format!("at {} Services", prose_list(&all))
}

impl LineView {
    fn new(line: &Line) -> Self {
        // Programming a Service takes thousands of times as long as walking past it.
        let install = line.metric == Metric::Install;
        let one = if install { time } else { slope };
        let both = |(low, high)| {
            if install {
                format!("{} to {}", time(low), time(high))
            } else {
                slope_interval((low, high))
            }
        };
        let interval = |of: Option<(f64, f64)>| of.map(both).unwrap_or_default();
        let per_rule = line.per_rule_ns();
        Self {
            mode: line.mode.clone(),
            position: line.position,
            colour: palette::css(palette::mode(&line.mode)),
            slope: one(line.fit.slope),
            slope_interval: interval(line.fit.slope_interval()),
            per_rule: per_rule.map_or_else(|| NONE.to_owned(), |(ns, _)| slope(ns)),
            per_rule_interval: interval(per_rule.and_then(|(_, interval)| interval)),
            intercept: time(line.fit.intercept),
            r2: line.fit.r2.map_or_else(|| NONE.to_owned(), |r2| format!("{r2:.3}")),
            key: line.fit.slope,
        }
    }
}
