// SPDX-License-Identifier: Apache-2.0
//! What each further Service costs a new connection: times against Service counts, per mode.

use std::collections::BTreeMap;

use record::{CaseRecord, Quantiles, Run};

use crate::analysis::fit::{Fit, least_squares};
use crate::analysis::group::{Key, groups};
use crate::analysis::{mode, number};

/// A time that may grow with the number of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// SYN at the node's NIC to SYN at the pod.
    FirstPacket,
    /// `connect()` called to connected.
    Connect,
    /// Intended send to last byte, of workloads that open a connection per request.
    Latency,
}

impl Metric {
    /// All of them, the one least mixed with other costs first.
    pub const ALL: [Self; 3] = [Self::FirstPacket, Self::Connect, Self::Latency];

    /// What a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstPacket => "first packet",
            Self::Connect => "connect",
            Self::Latency => "latency",
        }
    }

    fn of(self, case: &CaseRecord) -> Option<Quantiles> {
        match self {
            Self::FirstPacket => case.first_packet_ns,
            Self::Connect => case.connect_ns,
            // With connections kept alive the rules are walked once; there is nothing to fit.
            Self::Latency => case.connect_ns.or(case.first_packet_ns).and(case.latency_ns),
        }
    }
}

/// A mode's medians of one metric over Service counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Proxy mode.
    pub mode: String,
    /// What was timed.
    pub metric: Metric,
    /// `(Services, median in nanoseconds)`, ascending.
    pub points: Vec<(u32, u64)>,
    /// The straight line through them: nanoseconds, and nanoseconds per Service.
    pub fit: Fit,
}

/// The lines of cases that differ only by mode and Service count.
#[derive(Clone, Debug)]
pub struct Family<'a> {
    /// What they have in common; its `services` is meaningless and zero.
    pub key: Key<'a>,
    /// One line that names it.
    pub title: String,
    /// By metric, then mode.
    pub lines: Vec<Line>,
}

/// Every family with at least two Service counts in at least one mode; of one kernel each, and of cases
/// whose times count.
pub fn families(runs: &[Run]) -> Vec<Family<'_>> {
    let mut families: Vec<(Key<'_>, String, Vec<&CaseRecord>)> = Vec::new();
    for group in groups(runs) {
        let measured = group.timed();
        let key = Key { services: 0, ..group.key.clone() };
        let services = number::plural(group.key.services as usize, "Service", "Services");
        let title = group.title.replacen(&format!(" · {services}"), "", 1);
        match families.iter_mut().find(|(other, ..)| *other == key) {
            Some((.., cases)) => cases.extend(measured),
            None => families.push((key, title, measured.collect())),
        }
    }
    let families =
        families.into_iter().map(|(key, title, cases)| Family { key, title, lines: lines(&cases) });
    families.filter(|family| !family.lines.is_empty()).collect()
}

fn lines(cases: &[&CaseRecord]) -> Vec<Line> {
    let mut points: BTreeMap<_, Vec<(u32, u64)>> = BTreeMap::new();
    for case in cases {
        for (place, metric) in Metric::ALL.into_iter().enumerate() {
            if let Some(quantiles) = metric.of(case) {
                let line = points.entry((place, mode::rank(&case.mode))).or_default();
                line.push((case.services, quantiles.p50));
            }
        }
    }
    let lines = points.into_iter().filter_map(|((place, (_, mode)), mut points)| {
        points.sort_unstable();
        let floats: Vec<_> = points.iter().map(|&(n, ns)| (f64::from(n), ns as f64)).collect();
        let fit = least_squares(&floats)?;
        Some(Line { mode: mode.to_owned(), metric: Metric::ALL[place], points, fit })
    });
    lines.collect()
}
