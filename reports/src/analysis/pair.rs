// SPDX-License-Identifier: Apache-2.0
//! One kernel against another: cases of one run that are equal but for their kernel. A run has such
//! cases only where it was asked for them.

use record::{CaseRecord, Counts, Quantiles, Run};

use crate::analysis::baseline::ratio;
use crate::analysis::fidelity::times_count;
use crate::analysis::group::{Group, Key};
use crate::analysis::kernel::{self, HOST, guest, on};

/// A case on either kernel.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// One line that names what both have in common, without mode and kernel.
    pub title: String,
    /// Proxy mode.
    pub mode: &'a str,
    /// On the first kernel and on the second.
    pub cases: [&'a CaseRecord; 2],
    /// Median latency on the second as a multiple of the first; none where times do not count.
    pub latency_ratio: Option<f64>,
    /// The same of the first packet.
    pub first_packet_ratio: Option<f64>,
    /// Whether the times of either count.
    pub timed: [bool; 2],
}

/// Two kernels of one run, and all that was measured on both.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    /// The run.
    pub run: &'a Run,
    /// Labels: what ratios are to, and what is compared.
    pub kernels: [&'a str; 2],
    /// At least one.
    pub pairs: Vec<Pair<'a>>,
}

/// Counts that are compared, in the order of [`Pair::counts`].
pub const COUNTS: [&str; 4] = ["rules walked", "hooks entered", "packets", "conntrack entries"];

impl Pair<'_> {
    /// Exact counts of one request on either kernel.
    pub fn counts(&self) -> [[Option<u64>; 2]; 4] {
        let [a, b] = self.cases.map(|case| case.counts.unwrap_or_default());
        let both = |of: fn(&Counts) -> Option<u64>| [of(&a), of(&b)];
        [
            both(|c| c.rules_walked),
            both(|c| c.hooks_entered),
            both(|c| c.packets),
            both(|c| c.conntrack_entries),
        ]
    }
}

impl Match<'_> {
    /// What to know before reading it.
    pub fn caution(&self) -> String {
        let [a, b] = self.kernels;
        let kind = |label: &str| match guest(self.run, label) {
            Some(kernel) => kernel.kind.clone(),
            None => label.to_owned(),
        };
        if self.pairs.iter().all(|pair| pair.timed != [true; 2]) {
            return "No times are compared: at least one of the two has an emulated processor. \
                    Counts are exact on any."
                .to_owned();
        }
        if kind(a) == kind(b) && a != HOST {
            return "Both run in the same way, and their cases took turns in one run: a ratio is the \
                    difference between the kernels."
                .to_owned();
        }
        format!(
            "These are two different machines in effect: a ratio says what running on {} costs \
             against {}, and nothing about which kernel’s code is faster. Counts may be compared.",
            on(b),
            on(a)
        )
    }
}

/// The kernels of each run against its first one.
pub fn matches<'a>(groups: &[Group<'a>], runs: &'a [Run]) -> Vec<Match<'a>> {
    let mut matches = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let labels = kernel::of_run(run);
        let Some((&first, others)) = labels.split_first() else { continue };
        for &other in others {
            let of_run = groups.iter().filter(|group| group.key.run == index);
            let pairs: Vec<_> = of_run
                .clone()
                .filter(|group| group.key.kernel == first)
                .flat_map(|a| {
                    let key = Key { kernel: other, ..a.key.clone() };
                    let b = of_run.clone().find(move |group| group.key == key);
                    b.into_iter().flat_map(move |b| pairs(a, b))
                })
                .collect();
            if !pairs.is_empty() {
                matches.push(Match { run, kernels: [first, other], pairs });
            }
        }
    }
    matches
}

fn pairs<'a>(a: &Group<'a>, b: &Group<'a>) -> Vec<Pair<'a>> {
    let pair = |case: &'a CaseRecord| {
        let other = b.measured().find(|other| other.mode == case.mode)?;
        let timed = [times_count(a.run, case), times_count(b.run, other)];
        let against = |of: fn(&CaseRecord) -> Option<Quantiles>| {
            ratio(of(other)?.p50, of(case)?.p50).filter(|_| timed == [true; 2])
        };
        Some(Pair {
            title: a.plain_title.clone(),
            mode: &case.mode,
            cases: [case, other],
            latency_ratio: against(|case| case.latency_ns),
            first_packet_ratio: against(|case| case.first_packet_ns),
            timed,
        })
    };
    a.measured().filter_map(pair).collect()
}
