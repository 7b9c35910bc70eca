// SPDX-License-Identifier: Apache-2.0
//! One metric of one case over runs.

use record::{CaseRecord, Counts, Quantiles, Run, Status};

use crate::analysis::change::{Change, changes, steps};
use crate::analysis::fidelity::times_count;
use crate::analysis::mode;
use crate::history::Hosted;

/// What is followed over runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Median latency, nanoseconds.
    LatencyP50,
    /// 99th percentile of latency, nanoseconds.
    LatencyP99,
    /// Requests a second.
    Throughput,
    /// Median first packet, nanoseconds.
    FirstPacketP50,
    /// Rules a first packet walks.
    Rules,
    /// Hooks entered.
    Hooks,
    /// Packets.
    Packets,
    /// Entries of connection tracking.
    Conntrack,
}

impl Metric {
    /// All of them, in the order of a page.
    pub const ALL: [Self; 8] = [
        Self::LatencyP50,
        Self::LatencyP99,
        Self::Throughput,
        Self::FirstPacketP50,
        Self::Rules,
        Self::Hooks,
        Self::Packets,
        Self::Conntrack,
    ];

    /// What a page calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LatencyP50 => "latency p50",
            Self::LatencyP99 => "latency p99",
            Self::Throughput => "throughput",
            Self::FirstPacketP50 => "first packet p50",
            Self::Rules => "rules walked",
            Self::Hooks => "hooks entered",
            Self::Packets => "packets",
            Self::Conntrack => "conntrack entries",
        }
    }

    /// Whether it is exact, so that any difference is one.
    pub fn counted(self) -> bool {
        matches!(self, Self::Rules | Self::Hooks | Self::Packets | Self::Conntrack)
    }

    /// Of a case: its value, and the least and most of its iterations.
    fn of(self, case: &CaseRecord) -> Option<(f64, Option<(f64, f64)>)> {
        let time = |of: fn(&CaseRecord) -> Option<Quantiles>, part: fn(&Quantiles) -> u64| {
            of(case).map(|quantiles| part(&quantiles) as f64)
        };
        let count = |of: fn(&Counts) -> Option<u64>| of(case.counts.as_ref()?).map(|n| n as f64);
        let each = |of: &dyn Fn(&record::IterationRecord) -> Option<f64>| {
            let values: Vec<f64> = case.iterations.iter().filter_map(of).collect();
            let (least, most) = (
                values.iter().copied().reduce(f64::min)?,
                values.iter().copied().reduce(f64::max)?,
            );
            (values.len() > 1).then_some((least, most))
        };
        let latency = |part: fn(&Quantiles) -> u64| {
            each(&|i| i.latency_ns.as_ref().map(|quantiles| part(quantiles) as f64))
        };
        let (value, range) = match self {
            Self::LatencyP50 => (time(|c| c.latency_ns, |q| q.p50), latency(|q| q.p50)),
            Self::LatencyP99 => (time(|c| c.latency_ns, |q| q.p99), latency(|q| q.p99)),
            Self::Throughput => (case.throughput_rps, each(&|i| Some(i.throughput_rps))),
            Self::FirstPacketP50 => (
                time(|c| c.first_packet_ns, |q| q.p50),
                each(&|i| i.first_packet_ns.map(|quantiles| quantiles.p50 as f64)),
            ),
            Self::Rules => (count(|c| c.rules_walked), None),
            Self::Hooks => (count(|c| c.hooks_entered), None),
            Self::Packets => (count(|c| c.packets), None),
            Self::Conntrack => (count(|c| c.conntrack_entries), None),
        };
        value.filter(|value| value.is_finite()).map(|value| (value, range))
    }
}

/// What one run measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Place of the run among the host's.
    pub run: usize,
    /// Value of the whole case.
    pub value: f64,
    /// Least and most of its iterations, where it has several.
    pub range: Option<(f64, f64)>,
}

/// A metric of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Proxy mode.
    pub mode: String,
    /// The whole case.
    pub case: String,
    /// In the order of time.
    pub points: Vec<Point>,
    /// Where its level changed; `at` is a place in `points`.
    pub changes: Vec<Change>,
}

/// A metric of cases that differ only by mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// The cases' id without their mode.
    pub title: String,
    /// What is followed.
    pub metric: Metric,
    /// In the order reports list modes.
    pub series: Vec<Series>,
}

/// All metrics of all cases that two or more runs measured, by case.
pub fn overs(hosted: &Hosted<'_>) -> Vec<Over> {
    let mut titles: Vec<String> = Vec::new();
    let mut ids: Vec<(String, String, String)> = Vec::new();
    for case in hosted.runs.iter().flat_map(|run| &run.summary.cases) {
        let title = title(case);
        if !titles.contains(&title) {
            titles.push(title.clone());
        }
        let id = (title, case.mode.clone(), case.id.clone());
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.sort_by(|a, b| mode::rank(&a.1).cmp(&mode::rank(&b.1)));
    let mut overs = Vec::new();
    for title in titles {
        for metric in Metric::ALL {
            let of = ids.iter().filter(|(other, ..)| *other == title);
            let series = of.filter_map(|(_, mode, id)| series(hosted, metric, mode, id));
            let series: Vec<Series> = series.collect();
            if !series.is_empty() {
                overs.push(Over { title: title.clone(), metric, series });
            }
        }
    }
    overs
}

/// `netns/bridge/nodeport-remote/svc-1/newconn` of any mode.
fn title(case: &CaseRecord) -> String {
    case.id.replacen(&format!("{}+", case.mode), "", 1)
}

fn series(hosted: &Hosted<'_>, metric: Metric, mode: &str, id: &str) -> Option<Series> {
    let point = |(place, made): (usize, &&Run)| {
        let case = made.summary.cases.iter().find(|case| case.id == id)?;
        let usable =
            case.status == Status::Measured && (metric.counted() || times_count(made, case));
        let (value, range) = usable.then(|| metric.of(case)).flatten()?;
        Some(Point { run: place, value, range })
    };
    let points: Vec<_> = hosted.runs.iter().enumerate().filter_map(point).collect();
    if points.len() < 2 {
        return None;
    }
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let changes = if metric.counted() { steps(&values) } else { changes(&values) };
    Some(Series { mode: mode.to_owned(), case: id.to_owned(), points, changes })
}
