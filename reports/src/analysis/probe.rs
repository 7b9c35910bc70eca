// SPDX-License-Identifier: Apache-2.0
//! What the probes say of themselves, and the exact counts of one request, as words.

use record::{CaseRecord, Counts, Probe};

use crate::analysis::number::{NONE, count, digits, time};

/// Names of the counts, in the order of [`counts`].
pub const COUNTS: [&str; 7] = [
    "rules walked",
    "rules walked, pod’s node",
    "hooks entered",
    "packets",
    "bytes",
    "conntrack entries",
    "probe hits",
];

/// The counts of one request of a case; none where the case has none at all.
pub fn counts(case: &CaseRecord) -> Option<[String; 7]> {
    let counts = case.counts.filter(|counts| *counts != Counts::default())?;
    let Counts {
        rules_walked,
        rules_walked_beyond,
        hooks_entered,
        probe_hits,
        packets,
        bytes,
        conntrack_entries,
    } = counts;
    let all = [
        rules_walked,
        rules_walked_beyond,
        hooks_entered,
        packets,
        bytes,
        conntrack_entries,
        probe_hits,
    ];
    Some(all.map(|figure| figure.map_or_else(|| NONE.to_owned(), count)))
}

/// A ratio as the change it is: `+1.2 %`.
pub fn change(ratio: f64) -> String {
    if !ratio.is_finite() {
        return NONE.to_owned();
    }
    let percent = (ratio - 1.0) * 100.0;
    // A change that would be written 0.0 has no direction.
    if percent.abs() < 0.05 { "0.0 %".to_owned() } else { format!("{percent:+.1} %") }
}

/// A change and what it is of: `+1.2 %`, `100 µs → 101 µs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The change.
    pub percent: String,
    /// Without probes and with them; empty where it was not measured.
    pub of: String,
}

/// What probing does to the median latency and to the throughput; dashes where it was not measured.
pub fn effect(probe: &Probe) -> [Change; 2] {
    let Some(effect) = probe.effect else {
        return [(); 2].map(|()| Change { percent: NONE.to_owned(), of: String::new() });
    };
    let [p50_off, p50_on] = [effect.p50_off_ns, effect.p50_on_ns].map(time);
    let [rps_off, rps_on] = [effect.throughput_off_rps, effect.throughput_on_rps].map(digits);
    [
        Change { percent: change(effect.p50_ratio), of: format!("{p50_off} → {p50_on}") },
        Change { percent: change(effect.throughput_ratio), of: format!("{rps_off} → {rps_on}") },
    ]
}

/// What an event costs the observer, and a run of a probe program, where there are programs.
pub fn cost(probe: &Probe) -> [String; 2] {
    [probe.ns_per_event, probe.ns_per_run].map(|ns| ns.map_or_else(|| NONE.to_owned(), time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_a_sign_unless_there_is_none() {
        let read = [1.0123, 0.98, 1.0, 1.0004, 0.9996, f64::NAN].map(change);
        assert_eq!(read, ["+1.2 %", "-2.0 %", "0.0 %", "0.0 %", "0.0 %", "–"]);
    }
}
