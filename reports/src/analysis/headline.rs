// SPDX-License-Identifier: Apache-2.0
//! The run in a few sentences, computed from its figures.

use record::{CaseRecord, Quantiles, Run};

use crate::analysis::group::{Group, groups};
use crate::analysis::number::{count, plural, prose_list, slope, time};
use crate::analysis::slope::{Family, Metric, families};
use crate::analysis::summary::{Tally, tally};
use crate::analysis::{fidelity, mode};

/// The sentences, most telling first. Never empty.
pub fn headline(runs: &[Run]) -> Vec<String> {
    let mut sentences = Vec::new();
    if runs.iter().all(|run| fidelity::times_count(run.summary.fidelity)) {
        let groups = groups(runs);
        sentences.extend(first_packets(&groups).or_else(|| latencies(&groups)));
        sentences.extend(per_service(&families(runs)));
    }
    sentences.push(outcome(&tally(runs)));
    sentences
}

fn outcome(tally: &Tally) -> String {
    let total = tally.measured + tally.skipped + tally.failed;
    let mut rest = Vec::new();
    if tally.skipped > 0 {
        rest.push(format!("{} skipped with a reason", count(tally.skipped as u64)));
    }
    if tally.failed > 0 {
        rest.push(format!("{} failed", count(tally.failed as u64)));
    }
    match (total, tally.measured) {
        (0, _) => "The record holds no cases.".to_owned(),
        (_, 0) => format!("Nothing was measured: {}.", prose_list(&rest)),
        _ => {
            rest.insert(
                0,
                format!("{} measured", plural(tally.measured, "case was", "cases were")),
            );
            format!("{}, from {} answered requests.", prose_list(&rest), count(tally.requests))
        }
    }
}

fn first_packets(groups: &[Group<'_>]) -> Option<String> {
    let of = |case: &CaseRecord| case.first_packet_ns;
    let (group, times) = telling(groups, of)?;
    Some(format!("{}, a new connection's median first packet took {times}.", place(group)))
}

fn latencies(groups: &[Group<'_>]) -> Option<String> {
    let (group, times) = telling(groups, |case| case.latency_ns)?;
    Some(format!("{}, the median request took {times}.", place(group)))
}

/// The group that compares most modes, at the most Services, and its medians in words, slowest first.
fn telling<'g, 'a>(
    groups: &'g [Group<'a>],
    of: fn(&CaseRecord) -> Option<Quantiles>,
) -> Option<(&'g Group<'a>, String)> {
    let having = |group: &Group<'a>| group.measured().filter(|case| of(case).is_some()).count();
    let group = groups.iter().rev().max_by_key(|group| (having(group), group.key.services))?;
    let mut medians: Vec<(u64, &str)> =
        group.measured().filter_map(|case| Some((of(case)?.p50, case.mode.as_str()))).collect();
    if medians.is_empty() {
        return None;
    }
    medians.sort_unstable_by(|a, b| b.cmp(a));
    let words: Vec<String> = medians
        .iter()
        .map(|(ns, name)| format!("{} {}", time(*ns as f64), mode::through(name)))
        .collect();
    Some((group, prose_list(&words)))
}

fn place(group: &Group<'_>) -> String {
    let key = &group.key;
    let services = plural(key.services as usize, "Service", "Services");
    format!("On {} over {} with {services}", key.route, key.cni)
}

fn per_service(families: &[Family<'_>]) -> Option<String> {
    let having = |family: &&Family<'_>| {
        family.lines.iter().filter(|line| line.metric == Metric::FirstPacket).count()
    };
    let family = families.iter().rev().max_by_key(having)?;
    let mut lines: Vec<_> = family
        .lines
        .iter()
        .filter(|line| line.metric == Metric::FirstPacket && line.mode != "none")
        .collect();
    lines.sort_by(|a, b| b.fit.slope.total_cmp(&a.fit.slope));
    let slopes: Vec<String> = lines
        .iter()
        .map(|l| format!("{} {}", added(l.fit.slope), mode::through(&l.mode)))
        .collect();
    if slopes.is_empty() {
        return None;
    }
    Some(format!(
        "On {} over {}, each further Service added {} to the first packet.",
        family.key.route,
        family.key.cni,
        prose_list(&slopes)
    ))
}

/// A slope in prose. Below a nanosecond, or falling, it is the noise of the points it goes through.
fn added(slope_ns: f64) -> String {
    if slope_ns < 1.0 { "less than 1 ns".to_owned() } else { slope(slope_ns) }
}
