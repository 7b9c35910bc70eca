// SPDX-License-Identifier: Apache-2.0
//! What the probes do to what they observe.

use record::{Histogram, ProbeEffect};
use workloads::protocol::PhaseReport;

/// Two neighbouring blocks of load, the same but for the probes.
#[derive(Clone, Copy, Debug)]
struct Pair {
    p50_ns: [f64; 2],
    throughput_rps: [f64; 2],
}

/// Pairs of blocks of one case.
#[derive(Clone, Debug, Default)]
pub(super) struct Effect {
    pairs: Vec<Pair>,
}

impl Effect {
    /// Adds a pair. A block in which nothing was answered says nothing.
    pub(super) fn add(&mut self, on: &PhaseReport, off: &PhaseReport) {
        let figures = |report: &PhaseReport| {
            let p50 = Histogram::from_pairs(report.latency.iter().copied()).quantiles()?.p50;
            let seconds = report.elapsed_ns as f64 / 1e9;
            (seconds > 0.0).then(|| (p50 as f64, report.requests as f64 / seconds))
        };
        if let (Some((on_ns, on_rps)), Some((off_ns, off_rps))) = (figures(on), figures(off)) {
            self.pairs.push(Pair { p50_ns: [on_ns, off_ns], throughput_rps: [on_rps, off_rps] });
        }
    }

    /// For the record; `None` without a pair.
    pub(super) fn record(&self) -> Option<ProbeEffect> {
        let of = |value: &dyn Fn(&Pair) -> f64| median(self.pairs.iter().map(value).collect());
        Some(ProbeEffect {
            blocks: self.pairs.len() as u32,
            p50_on_ns: of(&|pair| pair.p50_ns[0])?,
            p50_off_ns: of(&|pair| pair.p50_ns[1])?,
            p50_ratio: of(&|pair| pair.p50_ns[0] / pair.p50_ns[1])?,
            throughput_on_rps: of(&|pair| pair.throughput_rps[0])?,
            throughput_off_rps: of(&|pair| pair.throughput_rps[1])?,
            throughput_ratio: of(&|pair| pair.throughput_rps[0] / pair.throughput_rps[1])?,
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(p50_ns: u64, requests: u64) -> PhaseReport {
        PhaseReport {
            latency: vec![(p50_ns, requests)],
            requests,
            elapsed_ns: 1_000_000_000,
            ..PhaseReport::default()
        }
    }

    #[test]
    fn ratios_are_of_neighbours_so_that_a_drift_between_pairs_says_nothing() {
        let mut effect = Effect::default();
        effect.add(&block(102, 980), &block(100, 1000));
        effect.add(&block(306, 490), &block(300, 500));
        let record = effect.record().unwrap();
        assert_eq!(record.blocks, 2);
        assert!((record.p50_ratio - 1.02).abs() < 1e-9, "{record:?}");
        assert!((record.throughput_ratio - 0.98).abs() < 1e-9, "{record:?}");
        assert_eq!((record.p50_on_ns, record.p50_off_ns), (204.0, 200.0));
    }

    #[test]
    fn a_block_without_an_answer_says_nothing() {
        let mut effect = Effect::default();
        effect.add(&block(102, 980), &block(0, 0));
        effect.add(&PhaseReport::default(), &block(100, 1000));
        assert_eq!(effect.record(), None);
    }
}
