// SPDX-License-Identifier: Apache-2.0
//! A walk cut into its parts: opening, answer, request, response; and what changed on the way.

use std::collections::{HashMap, HashSet};

use record::{CaseRecord, Leg, MatchedRule, Place, QueryWalk, Walk, WalkStep};

use crate::analysis::number::{count, plural};

/// Steps that belong together: one packet on its way there, or one on its way back.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// What they are, with the direction first: `There: opening`.
    pub heading: &'static str,
    /// In the order of time; at least one.
    pub steps: Vec<Seen<'a>>,
}

impl Section<'_> {
    /// Time from the step before the section to its last one, nanoseconds.
    pub fn ns(&self) -> u64 {
        self.steps.iter().map(|seen| seen.step.since_ns).sum()
    }
}

/// A step and how its addresses compare with those of the place before.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its number in the walk, from 1.
    pub number: usize,
    /// The step.
    pub step: &'a WalkStep,
    /// Source, where the packet has one.
    pub source: Option<End<'a>>,
    /// Destination, where the packet has one.
    pub destination: Option<End<'a>>,
}

impl Seen<'_> {
    /// Whether an address is another than at the place before.
    pub fn translated(&self) -> bool {
        [self.source, self.destination].into_iter().flatten().any(|end| end.before.is_some())
    }
}

/// An address of a packet at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// What it was at the place before, where it was something else.
    pub before: Option<&'a str>,
    /// What it is here.
    pub now: &'a str,
}

/// The walk's parts, in the order of time. A bare acknowledgement travels along with other packets
/// and begins no part of its own.
pub fn sections(walk: &Walk) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for seen in seen(&walk.steps) {
        let Seen { step, .. } = seen;
        let heading = heading(step);
        match sections.last_mut() {
            Some(last) if heading.is_none_or(|heading| heading == last.heading) => {
                last.steps.push(seen);
            }
            _ => {
                let heading = heading.unwrap_or(direction(step.leg));
                sections.push(Section { heading, steps: vec![seen] });
            }
        }
    }
    sections
}

/// A query's steps.
pub fn query_steps(query: &QueryWalk) -> Vec<Seen<'_>> {
    seen(&query.steps).collect()
}

/// `A web.default.svc.cluster.local.: NXDOMAIN`.
pub fn question(query: &QueryWalk) -> String {
    format!("{} {}: {}", query.kind, query.name, query.answer)
}

/// From the first query's being sent to the last answer's being read, nanoseconds.
pub fn queries_ns(walk: &Walk) -> u64 {
    let times = walk.queries.iter().flat_map(|query| &query.steps).map(|step| step.at_ns);
    let (first, last) = (times.clone().min(), times.max());
    first.zip(last).map_or(0, |(first, last)| last - first)
}

fn seen(steps: &[WalkStep]) -> impl Iterator<Item = Seen<'_>> {
    let mut road = Addresses::default();
    steps.iter().enumerate().map(move |(place, step)| {
        let (source, destination) = road.at(step);
        Seen { number: place + 1, step, source, destination }
    })
}

fn direction(leg: Leg) -> &'static str {
    match leg {
        Leg::Request => "There",
        Leg::Response => "Back",
    }
}

fn heading(step: &WalkStep) -> Option<&'static str> {
    Some(match (step.leg, step.packet.as_str()) {
        (_, "ACK") => return None,
        (Leg::Request, "connect" | "SYN") => "There: opening",
        (Leg::Response, "connect" | "SYN-ACK") => "Back: answer",
        (Leg::Request, "TLS") => "There: handshake",
        (Leg::Response, "TLS") => "Back: handshake",
        (Leg::Request, "upgrade") => "There: upgrade",
        (Leg::Response, "upgrade") => "Back: upgrade",
        (Leg::Request, "FIN" | "RST") => "There: closing",
        (Leg::Response, "FIN" | "RST") => "Back: closing",
        (Leg::Request, _) => "There: request",
        (Leg::Response, _) => "Back: response",
    })
}

/// The addresses that each packet had last.
#[derive(Default)]
struct Addresses<'a> {
    last: HashMap<(Leg, &'a str), &'a WalkStep>,
    /// Places each packet was at: one that is there again was sent again.
    passed: HashSet<(Leg, &'a str, &'a str, &'a str)>,
}

impl<'a> Addresses<'a> {
    fn at(&mut self, step: &'a WalkStep) -> (Option<End<'a>>, Option<End<'a>>) {
        if step.source.is_none() && step.destination.is_none() {
            return (None, None);
        }
        let key = (step.leg, step.packet.as_str());
        if !self.passed.insert((key.0, key.1, &step.host, &step.name)) {
            self.last.remove(&key);
            self.passed.retain(|passed| (passed.0, passed.1) != key);
            self.passed.insert((key.0, key.1, &step.host, &step.name));
        }
        let last = self.last.insert(key, step);
        let end = |of: fn(&WalkStep) -> Option<&str>| {
            let now = of(step)?;
            let before = last.and_then(of).filter(|before| *before != now);
            Some(End { before, now })
        };
        (end(|step| step.source.as_deref()), end(|step| step.destination.as_deref()))
    }
}

/// Hosts in the order in which the walk first comes to them.
pub fn hosts(walk: &Walk) -> Vec<&str> {
    let mut hosts: Vec<&str> = Vec::new();
    for step in &walk.steps {
        if !hosts.contains(&step.host.as_str()) {
            hosts.push(&step.host);
        }
    }
    hosts
}

/// Where a rule stands: `nat KUBE-SERVICES rule 4 of 12, 9 rules tested before it (PREROUTING)`.
pub fn rule_place(rule: &MatchedRule) -> String {
    let of = count(u64::from(rule.of));
    let mut place = if rule.chain.is_empty() {
        let entries = if rule.of == 1 { "entry" } else { "entries" };
        format!("map {}, one of {of} {entries}", rule.table)
    } else {
        let position = count(u64::from(rule.position));
        format!("{} {} rule {position} of {of}", rule.table, rule.chain)
    };
    place.push_str(&match rule.walked_before {
        0 => ", none tested before it".to_owned(),
        1 => ", 1 rule tested before it".to_owned(),
        n => format!(", {} rules tested before it", count(n)),
    });
    if !rule.hook.is_empty() {
        place.push_str(&format!(" ({})", rule.hook));
    }
    place
}

/// A step that took long.
#[derive(Clone, Copy, Debug)]
pub struct Longest<'a> {
    /// The step and its number.
    pub seen: Seen<'a>,
    /// Its part of the whole, 0 to 1.
    pub share: f64,
    /// What the stage that ends there usually takes in the case: its median, nanoseconds.
    pub median_ns: Option<u64>,
}

/// The `most` steps that took longest, the longest first, with the medians of their case's stages.
pub fn longest<'a>(walk: &'a Walk, case: Option<&CaseRecord>, most: usize) -> Vec<Longest<'a>> {
    let mut steps: Vec<Seen<'_>> = sections(walk).into_iter().flat_map(|s| s.steps).collect();
    steps.sort_by_key(|seen| std::cmp::Reverse(seen.step.since_ns));
    let median_ns = |step: &WalkStep| {
        // The opening's packets pass the same stages, but medians are of requests and responses.
        let counted = step.place == Place::Call || ["request", "response"].contains(&&*step.packet);
        let stages = &case.filter(|_| counted)?.stages;
        let mut named = stages.iter().filter(|s| s.name == step.stage);
        let own = named.clone().find(|s| s.leg == step.leg);
        // `app` ends where the response begins: a stage that is on one leg only may be on the other.
        let only = named.next().filter(|_| named.next().is_none());
        own.or(only).map(|stage| stage.p50_ns)
    };
    let one = |seen: Seen<'a>| Longest {
        seen,
        share: seen.step.since_ns as f64 / walk.total_ns.max(1) as f64,
        median_ns: median_ns(seen.step),
    };
    steps.into_iter().filter(|seen| seen.step.since_ns > 0).take(most).map(one).collect()
}

/// `eth0 in`, and whether the packet is inside VXLAN there.
pub fn place(step: &WalkStep) -> String {
    let wrapped = if step.encapsulated { ", inside VXLAN" } else { "" };
    format!("{}{wrapped}", step.name)
}

/// Time since the walk began, in one unit all the way, so that a step of 200 ns behind a wait of a
/// millisecond still moves the clock: `1,294.5 µs`.
pub fn clock(ns: u64) -> String {
    let tenths = (ns + 50) / 100;
    format!("{}.{} µs", count(tenths / 10), tenths % 10)
}

/// `44 steps`.
pub fn steps(walk: &Walk) -> String {
    plural(walk.steps.len(), "step", "steps")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(chain: &str, of: u32, walked_before: u64) -> String {
        rule_place(&MatchedRule {
            hook: "PREROUTING".to_owned(),
            table: "nat".to_owned(),
            chain: chain.to_owned(),
            position: 4,
            of,
            walked_before,
            text: String::new(),
        })
    }

    #[test]
    fn the_clock_has_one_unit_and_rounds() {
        assert_eq!([0, 49, 50, 1_294_511].map(clock), ["0.0 µs", "0.0 µs", "0.1 µs", "1,294.5 µs"]);
    }

    #[test]
    fn a_rules_place_reads_as_a_person_says_it() {
        insta::assert_snapshot!(rule("KUBE-SERVICES", 12, 9), @"nat KUBE-SERVICES rule 4 of 12, 9 rules tested before it (PREROUTING)");
        insta::assert_snapshot!(rule("", 10_000, 1), @"map nat, one of 10,000 entries, 1 rule tested before it (PREROUTING)");
        insta::assert_snapshot!(rule("", 1, 0), @"map nat, one of 1 entry, none tested before it (PREROUTING)");
    }
}
