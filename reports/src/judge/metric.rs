// SPDX-License-Identifier: Apache-2.0
//! What is compared, and the figures of a case's replicates.

use record::{
    BlockRecord, CaseRecord, Counts, IterationRecord, Leg, Quantiles, StageRecord, Status,
};

/// What a metric's values are, and so how they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nanoseconds of a request: less is faster. The family that gates.
    Time,
    /// Requests a second: more is faster. Judged with the times.
    Rate,
    /// Nanoseconds of a stage: where a difference is. A family of its own, which does not gate.
    Stage,
    /// An exact figure: any difference is one.
    Count,
}

/// Something that two cases are compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// How it is judged.
    pub kind: Kind,
    /// `latency p50`, `throughput`, `request proxy p50`, `rules walked`.
    pub name: String,
}

/// A metric and its value in each replicate; `None` where a replicate has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is.
    pub metric: Metric,
    /// Values in the order the replicates ran: nanoseconds, requests a second, or a count.
    pub values: Vec<Option<f64>>,
}

/// The figures of one side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicates {
    /// What to call it.
    pub label: String,
    /// Number of replicates.
    pub blocks: usize,
    /// In the order of [`Kind`] and of the path.
    pub series: Vec<Series>,
    /// Requests without an answer, and with one.
    pub errors: u64,
    /// Requests that were answered.
    pub requests: u64,
}

/// Requests that a block needs for a percentile to be more than one of its extremes.
const REQUESTS_FOR_P99: u64 = 500;

impl Replicates {
    /// Of a case: its blocks, or where the run has one block only, its iterations. Those share what
    /// making their lab left to chance: a verdict from them holds for that lab.
    pub fn of_case(label: impl Into<String>, case: &CaseRecord) -> Self {
        let one_each: Vec<Vec<(Metric, f64)>> = if case.blocks.is_empty() {
            let of = |iteration: &IterationRecord| {
                let mut figures = iteration_figures(iteration);
                figures.extend(case.counts.iter().flat_map(counts));
                figures
            };
            case.iterations.iter().map(of).collect()
        } else {
            case.blocks.iter().map(block_figures).collect()
        };
        Self::new(label.into(), &one_each, case.errors, case.requests)
    }

    /// Of blocks of a run that goes on.
    pub fn of_blocks(label: impl Into<String>, blocks: &[BlockRecord]) -> Self {
        let one_each: Vec<_> = blocks.iter().map(block_figures).collect();
        let errors = blocks.iter().map(|block| block.errors).sum();
        Self::new(label.into(), &one_each, errors, blocks.iter().map(|block| block.requests).sum())
    }

    /// Of one case in several runs: each run is a replicate.
    pub fn of_runs<'a>(
        label: impl Into<String>,
        cases: impl Iterator<Item = &'a CaseRecord> + Clone,
    ) -> Self {
        let one_each: Vec<_> = cases.clone().map(case_figures).collect();
        let errors = cases.clone().map(|case| case.errors).sum();
        Self::new(label.into(), &one_each, errors, cases.map(|case| case.requests).sum())
    }

    fn new(label: String, one_each: &[Vec<(Metric, f64)>], errors: u64, requests: u64) -> Self {
        let mut series: Vec<Series> = Vec::new();
        for (index, figures) in one_each.iter().enumerate() {
            for (metric, value) in figures {
                let known = series.iter().position(|known| known.metric == *metric);
                let place = known.unwrap_or_else(|| {
                    let values = vec![None; one_each.len()];
                    series.push(Series { metric: metric.clone(), values });
                    series.len() - 1
                });
                series[place].values[index] = Some(*value);
            }
        }
        // Stable: stages stay in path order.
        series.sort_by_key(|series| series.metric.kind);
        Self { label, blocks: one_each.len(), series, errors, requests }
    }

    /// The values of a metric.
    pub fn values(&self, metric: &Metric) -> Option<&[Option<f64>]> {
        self.series.iter().find(|s| s.metric == *metric).map(|s| s.values.as_slice())
    }
}

/// Whether a case has figures that may be compared.
pub fn comparable(case: &CaseRecord) -> bool {
    case.status == Status::Measured
}

fn figure(kind: Kind, name: impl Into<String>, value: f64) -> (Metric, f64) {
    (Metric { kind, name: name.into() }, value)
}

fn quantiles(name: &str, quantiles: Option<Quantiles>) -> Vec<(Metric, f64)> {
    let Some(q) = quantiles else { return Vec::new() };
    let at = |at: &str, value: u64| figure(Kind::Time, format!("{name} {at}"), value as f64);
    let mut figures = vec![at("p50", q.p50), at("p90", q.p90)];
    if q.count >= REQUESTS_FOR_P99 {
        figures.push(at("p99", q.p99));
    }
    figures
}

fn stages(stages: &[StageRecord]) -> impl Iterator<Item = (Metric, f64)> {
    stages.iter().map(|stage| {
        let leg = match stage.leg {
            Leg::Request => "request",
            Leg::Response => "response",
        };
        figure(Kind::Stage, format!("{leg} {} p50", stage.name), stage.p50_ns as f64)
    })
}

fn counts(counts: &Counts) -> Vec<(Metric, f64)> {
    let Counts {
        rules_walked,
        rules_walked_beyond,
        hooks_entered,
        probe_hits,
        packets,
        bytes,
        conntrack_entries,
    } = *counts;
    // Probe hits are the engine's own, and move when a probe is added: not the path's.
    let _ = probe_hits;
    [
        ("rules walked", rules_walked),
        ("rules walked, pod’s node", rules_walked_beyond),
        ("hooks entered", hooks_entered),
        ("packets", packets),
        ("bytes", bytes),
        ("conntrack entries", conntrack_entries),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(figure(Kind::Count, name, value? as f64)))
    .collect()
}

fn block_figures(block: &BlockRecord) -> Vec<(Metric, f64)> {
    let mut figures = quantiles("latency", block.latency_ns);
    figures.extend(quantiles("first packet", block.first_packet_ns));
    figures.extend(block.throughput_rps.map(|rps| figure(Kind::Rate, "throughput", rps)));
    figures.extend(stages(&block.stages));
    figures.extend(block.counts.iter().flat_map(counts));
    figures
}

fn iteration_figures(iteration: &IterationRecord) -> Vec<(Metric, f64)> {
    let mut figures = quantiles("latency", iteration.latency_ns);
    figures.extend(quantiles("first packet", iteration.first_packet_ns));
    figures.push(figure(Kind::Rate, "throughput", iteration.throughput_rps));
    figures
}

fn case_figures(case: &CaseRecord) -> Vec<(Metric, f64)> {
    let mut figures = quantiles("latency", case.latency_ns);
    figures.extend(quantiles("first packet", case.first_packet_ns));
    figures.extend(case.throughput_rps.map(|rps| figure(Kind::Rate, "throughput", rps)));
    figures.extend(stages(&case.stages));
    figures.extend(case.counts.iter().flat_map(counts));
    figures
}
