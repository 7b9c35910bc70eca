// SPDX-License-Identifier: Apache-2.0
//! A distribution of nanoseconds of fixed size, however many values it takes.

use hdrhistogram::Histogram;

use crate::protocol::Pairs;

/// Largest value told apart, nanoseconds: two minutes, twice the longest timeout.
const MAX_NS: u64 = 120_000_000_000;
/// Significant digits: a value is at most 0.1 % above the truth.
const DIGITS: u8 = 3;

/// A histogram of nanoseconds, 230 KiB.
#[derive(Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("constant bounds are valid");
        Self { histogram }
    }
}

impl Recorder {
    /// Records one value, nanoseconds; one above two minutes counts as two minutes.
    pub fn record(&mut self, value_ns: u64) {
        self.histogram.saturating_record(value_ns);
    }

    /// The values as ascending `(upper edge of bucket, count)` pairs.
    pub fn pairs(&self) -> Pairs {
        self.histogram
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_is_in_the_pairs_within_a_thousandth(
            values in prop::collection::vec(0..MAX_NS, 1..200),
        ) {
            let mut recorder = Recorder::default();
            values.iter().for_each(|&value| recorder.record(value));
            let pairs = recorder.pairs();
            prop_assert!(pairs.is_sorted_by_key(|pair| pair.0));

            let mut sorted = values;
            sorted.sort_unstable();
            let expanded: Vec<u64> = pairs
                .iter()
                .flat_map(|&(value, count)| std::iter::repeat_n(value, count as usize))
                .collect();
            prop_assert_eq!(expanded.len(), sorted.len());
            for (edge, value) in expanded.iter().zip(&sorted) {
                prop_assert!(edge >= value && edge - value <= value / 1000, "{} {}", edge, value);
            }
        }

        #[test]
        fn pairs_recorded_again_are_the_same_pairs(
            values in prop::collection::vec(0..2 * MAX_NS, 0..200),
        ) {
            let mut first = Recorder::default();
            values.iter().for_each(|&value| first.record(value));
            let mut second = Recorder::default();
            for (value, count) in first.pairs() {
                (0..count).for_each(|_| second.record(value));
            }
            prop_assert_eq!(first.pairs(), second.pairs());
        }
    }

    #[test]
    fn a_value_out_of_range_is_counted_at_its_end() {
        let mut recorder = Recorder::default();
        recorder.record(0);
        recorder.record(u64::MAX);
        let pairs = recorder.pairs();
        assert_eq!(pairs.iter().map(|pair| pair.1).sum::<u64>(), 2);
        assert_eq!(pairs[0], (0, 1));
        assert!(pairs[1].0 >= MAX_NS);
    }
}
