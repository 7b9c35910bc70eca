// SPDX-License-Identifier: Apache-2.0
//! Distributions of nanoseconds as sorted buckets: exact to merge, readable with jq.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Quantiles;

/// Counts by value, nanoseconds. A value is the upper edge of the recorder's bucket, so a
/// quantile is at most one bucket (0.1 % with three significant digits) above the truth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// `[value_ns, count]`, ascending, counts above zero.
    buckets: Vec<(u64, u64)>,
}

impl Histogram {
    /// Builds a histogram from `(value, count)` pairs in any order; equal values are added up.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut by_value = BTreeMap::new();
        for (value, count) in pairs {
            if count > 0 {
                *by_value.entry(value).or_insert(0) += count;
            }
        }
        Self { buckets: by_value.into_iter().collect() }
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Self) {
        *self = Self::from_pairs(self.buckets.iter().chain(&other.buckets).copied());
    }

    /// The `(value, count)` pairs, ascending.
    pub fn buckets(&self) -> &[(u64, u64)] {
        &self.buckets
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Smallest recorded value at or below which a share `q` (0 to 1) of the values lie.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total = self.count();
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.buckets.iter().find_map(|&(value, count)| {
            seen += count;
            (seen >= rank).then_some(value)
        })
    }

    /// The percentiles a record keeps; `None` when empty.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let count = self.count();
        let sum: f64 = self.buckets.iter().map(|&(v, c)| v as f64 * c as f64).sum();
        Some(Quantiles {
            count,
            p50: self.quantile(0.50)?,
            p90: self.quantile(0.90)?,
            p99: self.quantile(0.99)?,
            p999: self.quantile(0.999)?,
            max: self.buckets.last()?.0,
            mean: sum / count as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_one_to_a_hundred_are_the_numbers_themselves() {
        let histogram = Histogram::from_pairs((1..=100).map(|v| (v, 1)));
        let q = histogram.quantiles().unwrap();
        assert_eq!((q.p50, q.p90, q.p99, q.p999, q.max), (50, 90, 99, 100, 100));
        assert_eq!(q.mean, 50.5);
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(Histogram::default().quantiles(), None);
    }

    proptest! {
        #[test]
        fn merging_is_the_same_as_recording_together(
            a in prop::collection::vec((0u64..1000, 0u64..5), 0..50),
            b in prop::collection::vec((0u64..1000, 0u64..5), 0..50),
        ) {
            let mut merged = Histogram::from_pairs(a.clone());
            merged.merge(&Histogram::from_pairs(b.clone()));
            prop_assert_eq!(merged, Histogram::from_pairs(a.into_iter().chain(b)));
        }
    }
}
