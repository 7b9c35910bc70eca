// SPDX-License-Identifier: Apache-2.0
//! The reports of several workers as one. Pure.

use std::collections::BTreeMap;

use workloads::protocol::{Kept, Pairs, PhaseReport};

/// How well workers kept an appointment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Punctuality {
    /// From the first worker's start to the last one's, each by its own clock, nanoseconds.
    pub(super) skew_ns: u64,
    /// How late the latest was, nanoseconds.
    pub(super) late_ns: u64,
}

impl Punctuality {
    pub(super) fn of(kept: &[Kept]) -> Self {
        let starts = || kept.iter().map(|kept| kept.started_unix_ns);
        Self {
            skew_ns: starts().max().unwrap_or(0) - starts().min().unwrap_or(0),
            late_ns: kept.iter().map(|kept| kept.late_ns).max().unwrap_or(0),
        }
    }

    /// The worse of two, figure by figure.
    pub(super) fn worse(self, other: Self) -> Self {
        Self { skew_ns: self.skew_ns.max(other.skew_ns), late_ns: self.late_ns.max(other.late_ns) }
    }
}

/// One report of all. Distributions are of the same buckets, so that adding their counts loses
/// nothing; the time goes from the first start to the last end.
pub(super) fn merge(kept: Vec<Kept>) -> PhaseReport {
    let start_ns = kept.iter().map(|kept| kept.started_unix_ns).min().unwrap_or(0);
    let ends = kept.iter().map(|kept| kept.started_unix_ns + kept.report.elapsed_ns);
    let elapsed_ns = ends.max().unwrap_or(0) - start_ns;
    let mut all = PhaseReport { elapsed_ns, ..PhaseReport::default() };
    let mut distributions: [BTreeMap<u64, u64>; 9] = Default::default();
    for Kept { report, .. } in kept {
        all.requests += report.requests;
        for (kind, count) in report.errors {
            *all.errors.entry(kind).or_default() += count;
        }
        let pairs = [
            report.latency,
            report.service_time,
            report.dns,
            report.connect,
            report.tls,
            report.upgrade,
            report.first_byte,
            report.last_byte,
            report.lateness,
        ];
        for (sum, pairs) in distributions.iter_mut().zip(pairs) {
            for (value, count) in pairs {
                *sum.entry(value).or_default() += count;
            }
        }
        all.handshakes.full += report.handshakes.full;
        all.handshakes.resumed += report.handshakes.resumed;
        all.tuples_spent += report.tuples_spent;
        all.tuples_left += report.tuples_left;
        all.samples_not_kept += report.samples_not_kept;
        all.cpu_ns += report.cpu_ns;
        all.peak_rss_bytes = all.peak_rss_bytes.max(report.peak_rss_bytes);
    }
    let [latency, service_time, dns, connect, tls, upgrade, first_byte, last_byte, lateness] =
        distributions.map(|sum| sum.into_iter().collect::<Pairs>());
    PhaseReport {
        latency,
        service_time,
        dns,
        connect,
        tls,
        upgrade,
        first_byte,
        last_byte,
        lateness,
        ..all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(started_unix_ns: u64, elapsed_ns: u64, latency: Pairs) -> Kept {
        let requests = latency.iter().map(|(_, count)| count).sum();
        let report = PhaseReport {
            requests,
            elapsed_ns,
            latency,
            errors: BTreeMap::from([("reset".to_owned(), 1)]),
            tuples_spent: requests + 1,
            peak_rss_bytes: elapsed_ns,
            ..PhaseReport::default()
        };
        Kept { report, started_unix_ns, late_ns: started_unix_ns - 1_000 }
    }

    proptest! {
        #[test]
        fn merged_workers_are_as_one_that_saw_all_requests(
            a in proptest::collection::btree_map(1u64..50, 1u64..9, 0..20),
            b in proptest::collection::btree_map(1u64..50, 1u64..9, 0..20),
        ) {
            let workers = [&a, &b].map(|pairs| kept(1_000, 5, pairs.clone().into_iter().collect()));
            let merged = merge(workers.to_vec());
            for value in 1..50 {
                let count = a.get(&value).unwrap_or(&0) + b.get(&value).unwrap_or(&0);
                let found = merged.latency.iter().find(|(at, _)| *at == value).map_or(0, |p| p.1);
                prop_assert_eq!(found, count);
            }
            prop_assert!(merged.latency.is_sorted());
            prop_assert_eq!(merged.requests, merged.latency.iter().map(|pair| pair.1).sum::<u64>());
        }
    }

    #[test]
    fn time_goes_from_the_first_start_to_the_last_end() {
        let workers = vec![kept(1_000, 500, vec![(7, 2)]), kept(1_200, 400, vec![(9, 1)])];
        let punctuality = Punctuality::of(&workers);
        assert_eq!(punctuality, Punctuality { skew_ns: 200, late_ns: 200 });
        let merged = merge(workers);
        assert_eq!((merged.elapsed_ns, merged.requests, merged.errors["reset"]), (600, 3, 2));
        assert_eq!((merged.tuples_spent, merged.peak_rss_bytes), (5, 500));
    }
}
