// SPDX-License-Identifier: Apache-2.0
//! The run in a few sentences, computed from its figures.

use record::{CaseRecord, Quantiles, Run, Status};

use crate::analysis::fit::Fit;
use crate::analysis::group::{Group, Key, groups};
use crate::analysis::number::{count, plural, prose_list, slope, time};
use crate::analysis::slope::{Family, Metric, Part, families, position};
use crate::analysis::summary::{Tally, tally};
use crate::analysis::{fidelity, kernel, mode};

/// The sentences, most telling first. Never empty.
pub fn headline(runs: &[Run]) -> Vec<String> {
    let mut sentences = Vec::new();
    let groups = groups(runs);
    let guests = kernel::any_guest(runs);
    sentences.extend(first_packets(&groups, guests).or_else(|| latencies(&groups, guests)));
    sentences.extend(per_service(&families(runs), guests));
    sentences.push(outcome(&tally(runs)));
    sentences.extend(emulated(runs));
    sentences
}

/// That some cases are in none of the sentences about times, and why.
fn emulated(runs: &[Run]) -> Option<String> {
    let measured = |run: &Run| {
        let all = run.summary.cases.iter().filter(|case| case.status == Status::Measured);
        let emulated = all.clone().filter(|case| !fidelity::times_count(run, case));
        (emulated.count(), all.count())
    };
    let (emulated, all) = runs.iter().map(measured).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let which = match emulated {
        0 => return None,
        n if n == all => "They".to_owned(),
        n => format!("Of these, {}", count(n as u64)),
    };
    Some(format!(
        "{which} ran on an emulated processor, whose times mean nothing: counts and proofs are all \
         that is told of them."
    ))
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

fn first_packets(groups: &[Group<'_>], guests: bool) -> Option<String> {
    let of = |case: &CaseRecord| case.first_packet_ns;
    let (group, times) = telling(groups, of)?;
    let place = place(group, groups, guests);
    Some(format!("{place}, a new connection's median first packet took {times}."))
}

fn latencies(groups: &[Group<'_>], guests: bool) -> Option<String> {
    let (group, times) = telling(groups, |case| case.latency_ns)?;
    Some(format!("{}, the median request took {times}.", place(group, groups, guests)))
}

/// The group that compares most modes, at the most Services, the measured one in its usual position, and its
/// medians in words, slowest first.
fn telling<'g, 'a>(
    groups: &'g [Group<'a>],
    of: fn(&CaseRecord) -> Option<Quantiles>,
) -> Option<(&'g Group<'a>, String)> {
    let having = |group: &Group<'a>| group.timed().filter(|case| of(case).is_some()).count();
    let rank = |group: &&Group<'a>| (having(group), group.key.services, seat(group) == "last");
    let group = groups.iter().rev().max_by_key(rank)?;
    let mut medians: Vec<(u64, &str)> =
        group.timed().filter_map(|case| Some((of(case)?.p50, case.mode.as_str()))).collect();
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

fn place(group: &Group<'_>, groups: &[Group<'_>], guests: bool) -> String {
    let key = &group.key;
    let services = plural(key.services as usize, "Service", "Services");
    let seated = match key.services == 1 || groups.iter().all(|group| seat(group) == "last") {
        true => String::new(),
        false => measured(seat(group)),
    };
    format!("On {} over {} with {services}{seated}{}", key.route, key.cni, on(key, guests))
}

/// Where among the Services the measured one is.
fn seat(group: &Group<'_>) -> &'static str {
    position(&group.key.variant).1
}

/// The same in a sentence, where other cases have it elsewhere.
fn measured(position: &str) -> String {
    format!(", the measured one {position}")
}

/// The kernel in a sentence, where any case of the report is not on the host's.
fn on(key: &Key<'_>, guests: bool) -> String {
    if guests { format!(", on {}", kernel::on(key.kernel)) } else { String::new() }
}

fn per_service(families: &[Family<'_>], guests: bool) -> Option<String> {
    let having = |family: &&Family<'_>| family.of(Metric::FirstPacket, Part::P50).count();
    let family = families.iter().rev().max_by_key(having)?;
    // The last position is the usual one, and the one whose whole chain is walked.
    let of = family.of(Metric::FirstPacket, Part::P50);
    let deepest = of.clone().map(|line| line.position).last()?;
    let mut lines: Vec<_> =
        of.filter(|line| line.mode != "none" && line.position == deepest).collect();
    lines.sort_by(|a, b| b.fit.slope.total_cmp(&a.fit.slope));
    let slopes: Vec<String> =
        lines.iter().map(|l| format!("{} {}", added(&l.fit), mode::through(&l.mode))).collect();
    if slopes.is_empty() {
        return None;
    }
    Some(format!(
        "On {} over {}{}{}, each further Service added {} to the first packet.",
        family.key.route,
        family.key.cni,
        if family.positions() { measured(deepest) } else { String::new() },
        on(&family.key, guests),
        prose_list(&slopes)
    ))
}

/// A slope in prose. Below a nanosecond, or falling, it is the noise of the points it goes through, and what is
/// known is what its interval leaves possible.
fn added(fit: &Fit) -> String {
    match fit.slope_interval() {
        _ if fit.slope >= 1.0 => slope(fit.slope),
        Some((_, high)) if high >= 1.0 => format!("no more than {}", slope(high)),
        _ => "less than 1 ns".to_owned(),
    }
}
