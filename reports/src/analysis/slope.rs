// SPDX-License-Identifier: Apache-2.0
//! What each further Service costs a new connection: times against Service counts, per mode.

use std::collections::BTreeMap;

use record::{CaseRecord, IterationRecord, Quantiles, Run};

use crate::analysis::fit::{Fit, least_squares};
use crate::analysis::group::{Key, groups};
use crate::analysis::{mode, number};

/// A time that may grow with the number of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// SYN at the node's NIC to SYN at the pod.
    FirstPacket,
    /// `connect()` called to connected.
    Connect,
    /// Intended send to last byte, of workloads that open a connection per request.
    Latency,
    /// One second divided by requests answered in it: what a straight line can be of, where requests a
    /// second themselves fall along a hyperbola.
    PerRequest,
    /// Rendering and programming the whole table on every node.
    Install,
}

/// Part of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Median, or the whole of what is no distribution.
    P50,
    /// 90th percentile.
    P90,
    /// 99th percentile.
    P99,
}

impl Metric {
    /// All of them, the one least mixed with other costs first.
    pub const ALL: [Self; 5] =
        [Self::FirstPacket, Self::Connect, Self::Latency, Self::PerRequest, Self::Install];

    /// What a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstPacket => "first packet",
            Self::Connect => "connect",
            Self::Latency => "latency",
            Self::PerRequest => "1 / throughput",
            Self::Install => "full install",
        }
    }

    /// Parts that are fitted.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::Connect | Self::PerRequest | Self::Install => &[Part::P50],
            Self::FirstPacket | Self::Latency => &[Part::P50, Part::P90, Part::P99],
        }
    }

    /// Whether the rules that a first packet walks are in it; programming walks none.
    pub fn walks(self) -> bool {
        self != Self::Install
    }

    fn of_case(self, case: &CaseRecord, part: Part) -> Option<f64> {
        match self {
            Self::FirstPacket => part.of(case.first_packet_ns),
            Self::Connect => part.of(case.connect_ns),
            Self::Latency => part.of(case.latency_ns),
            Self::PerRequest => per_request(case.throughput_rps?),
            Self::Install => case.install_ms.map(|ms| ms * 1e6),
        }
    }

    fn of_iteration(self, iteration: &IterationRecord, part: Part) -> Option<f64> {
        match self {
            Self::FirstPacket => part.of(iteration.first_packet_ns),
            Self::Latency => part.of(iteration.latency_ns),
            Self::PerRequest => per_request(iteration.throughput_rps),
            Self::Connect | Self::Install => None,
        }
    }
}

impl Part {
    /// What a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
        }
    }

    fn of(self, quantiles: Option<Quantiles>) -> Option<f64> {
        quantiles.map(|q| match self {
            Self::P50 => q.p50 as f64,
            Self::P90 => q.p90 as f64,
            Self::P99 => q.p99 as f64,
        })
    }
}

fn per_request(rps: f64) -> Option<f64> {
    (rps.is_finite() && rps > 0.0).then(|| 1e9 / rps)
}

/// What was measured at one Service count.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Services.
    pub services: u32,
    /// Of the whole case, nanoseconds.
    pub ns: f64,
    /// Of each iteration, nanoseconds: what the line goes through. The case's own value where the record
    /// keeps no iterations of it.
    pub replicates: Vec<f64>,
}

/// A mode's times over Service counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Proxy mode.
    pub mode: String,
    /// Where the measured Service stands among the others: `first`, `middle` or `last`.
    pub position: &'static str,
    /// What was timed.
    pub metric: Metric,
    /// Which part of it.
    pub part: Part,
    /// Ascending.
    pub points: Vec<Point>,
    /// The straight line through all replicates: nanoseconds, and nanoseconds per Service.
    pub fit: Fit,
    /// Rules that each further Service makes a first packet walk; none where they were not counted.
    pub rules_per_service: Option<f64>,
}

impl Line {
    /// Nanoseconds per rule walked, with their interval; none where Services add no rules.
    pub fn per_rule_ns(&self) -> Option<(f64, Option<(f64, f64)>)> {
        // A twentieth of a rule per Service is a set or map that grew by a step, not a chain.
        let rules = self.rules_per_service.filter(|rules| *rules > 0.05 && self.metric.walks())?;
        let interval = self.fit.slope_interval().map(|(low, high)| (low / rules, high / rules));
        Some((self.fit.slope / rules, interval))
    }

    /// Most Services it has a point at.
    pub fn services_max(&self) -> u32 {
        self.points.last().map_or(0, |point| point.services)
    }
}

/// The lines of cases that differ only by mode, Service count and position.
#[derive(Clone, Debug)]
pub struct Family<'a> {
    /// What they have in common; its `services` is meaningless and zero.
    pub key: Key<'a>,
    /// One line that names it.
    pub title: String,
    /// By metric, part, then mode and position.
    pub lines: Vec<Line>,
}

impl Family<'_> {
    /// Lines of one time.
    pub fn of(&self, metric: Metric, part: Part) -> impl Iterator<Item = &Line> + Clone {
        self.lines.iter().filter(move |line| line.metric == metric && line.part == part)
    }

    /// Whether the measured Service stood in more places than one.
    pub fn positions(&self) -> bool {
        self.lines.iter().any(|line| line.position != self.lines[0].position)
    }
}

/// Positions in the order of a table.
const POSITIONS: [&str; 3] = ["first", "middle", "last"];

/// A group's variant without the measured Service's position, and the position. Ids name it unless it
/// is the last one.
pub(super) fn position(variant: &str) -> (String, &'static str) {
    let mut position = "last";
    let rest = variant.split('/').filter(|part| match POSITIONS.iter().find(|p| *p == part) {
        Some(found) => {
            position = found;
            false
        }
        None => true,
    });
    let rest = rest.collect::<Vec<_>>().join("/");
    (rest, position)
}

/// A case and the place of its Service.
type Placed<'a> = (&'static str, &'a CaseRecord);

/// Every family with at least two Service counts in at least one mode; of one kernel each, and of cases
/// whose times count.
pub fn families(runs: &[Run]) -> Vec<Family<'_>> {
    let mut families: Vec<(Key<'_>, String, Vec<Placed<'_>>)> = Vec::new();
    for group in groups(runs) {
        let (variant, position) = position(&group.key.variant);
        let measured = group.timed().map(|case| (position, case));
        let services = number::plural(group.key.services as usize, "Service", "Services");
        let mut title = group.title.replacen(&format!(" · {services}"), "", 1);
        if variant != group.key.variant {
            title = title.replacen(&format!(" · {}", group.key.variant), "", 1);
        }
        let key = Key { services: 0, variant, ..group.key.clone() };
        match families.iter_mut().find(|(other, ..)| *other == key) {
            Some((.., cases)) => cases.extend(measured),
            None => families.push((key, title, measured.collect())),
        }
    }
    let families =
        families.into_iter().map(|(key, title, cases)| Family { key, title, lines: lines(&cases) });
    families.filter(|family| !family.lines.is_empty()).collect()
}

/// Programming alone is no family: with connections kept alive, nothing else is fitted.
fn opens_connections(case: &CaseRecord) -> bool {
    case.connect_ns.or(case.first_packet_ns).is_some()
}

fn lines(cases: &[Placed<'_>]) -> Vec<Line> {
    let mut sets: BTreeMap<_, Vec<&CaseRecord>> = BTreeMap::new();
    let positions = POSITIONS.iter().enumerate().filter(|(_, position)| {
        cases.iter().any(|(other, case)| other == *position && case.services > 1)
    });
    for (place, position) in positions {
        for (other, case) in cases.iter().filter(|(_, case)| opens_connections(case)) {
            // A Service that is alone is first, middle and last.
            if other == position || case.services == 1 {
                sets.entry((mode::rank(&case.mode), place)).or_default().push(case);
            }
        }
    }
    let mut lines = Vec::new();
    for metric in Metric::ALL {
        for &part in metric.parts() {
            lines.extend(sets.iter().filter_map(|(((_, mode), place), cases)| {
                line(mode, POSITIONS[*place], metric, part, cases)
            }));
        }
    }
    lines
}

fn line(
    mode: &str,
    position: &'static str,
    metric: Metric,
    part: Part,
    cases: &[&CaseRecord],
) -> Option<Line> {
    let point = |case: &&CaseRecord| {
        let ns = metric.of_case(case, part).filter(|ns| ns.is_finite())?;
        let of = |iteration| metric.of_iteration(iteration, part);
        let mut replicates: Vec<f64> = case.iterations.iter().filter_map(of).collect();
        if replicates.is_empty() {
            replicates.push(ns);
        }
        Some(Point { services: case.services, ns, replicates })
    };
    let mut points: Vec<Point> = cases.iter().filter_map(point).collect();
    points.sort_by_key(|point| point.services);
    let fit = least_squares(&replicates(&points))?;
    let rules = |case: &&CaseRecord| {
        Some((f64::from(case.services), case.counts?.rules_walked_on_all()? as f64))
    };
    let rules: Vec<_> = cases.iter().filter_map(rules).collect();
    let rules_per_service = least_squares(&rules).map(|fit| fit.slope);
    let mode = mode.to_owned();
    Some(Line { mode, position, metric, part, points, fit, rules_per_service })
}

/// All replicates with their Service counts.
pub(crate) fn replicates(points: &[Point]) -> Vec<(f64, f64)> {
    let of = |point: &Point| {
        let services = f64::from(point.services);
        point.replicates.iter().map(move |ns| (services, *ns)).collect::<Vec<_>>()
    };
    points.iter().flat_map(of).collect()
}
