// SPDX-License-Identifier: Apache-2.0
//! Intended starts of an open loop's requests.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::protocol::Schedule;

const NS_PER_S: f64 = 1e9;

/// Endless intended starts, nanoseconds of CLOCK_MONOTONIC, ascending.
#[derive(Debug)]
pub(super) struct Arrivals {
    start_ns: u64,
    rate: f64,
    schedule: Schedule,
    random: SmallRng,
    count: u64,
    /// Of the last Poisson arrival, after the start.
    offset_ns: f64,
}

impl Arrivals {
    /// Arrivals from `start_ns` on, `rate` per second, above zero.
    pub(super) fn new(start_ns: u64, rate: f64, schedule: Schedule, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { start_ns, rate, schedule, random, count: 0, offset_ns: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let offset_ns = match self.schedule {
            // Multiplied, not added up, so that rounding does not drift.
            Schedule::Uniform => self.count as f64 * NS_PER_S / self.rate,
            Schedule::Poisson => {
                // The gap of a Poisson process by inversion; 1 - u is in (0, 1], so the logarithm
                // is finite.
                let u: f64 = self.random.random();
                self.offset_ns -= (1.0 - u).ln() * NS_PER_S / self.rate;
                self.offset_ns
            }
        };
        self.count += 1;
        Some(self.start_ns + offset_ns.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn uniform_gaps_are_equal_to_a_nanosecond(rate in 0.1f64..1e6, start in 0u64..1 << 50) {
            let gap_ns = NS_PER_S / rate;
            for (n, at) in Arrivals::new(start, rate, Schedule::Uniform, 0).take(1000).enumerate() {
                prop_assert!(((at - start) as f64 - n as f64 * gap_ns).abs() <= 1.0);
            }
        }

        #[test]
        fn poisson_gaps_have_the_mean_and_spread_of_independent_users(seed: u64, rate in 1f64..1e5) {
            const COUNT: usize = 20_000;
            let all: Vec<_> = Arrivals::new(0, rate, Schedule::Poisson, seed).take(COUNT).collect();
            prop_assert!(all.is_sorted());
            let gaps: Vec<_> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64 * rate / NS_PER_S;
            // The mean of 20,000 exponential gaps has a standard error of 0.7 %; seven of them.
            prop_assert!((0.95..1.05).contains(&mean), "mean {mean}");
            let longer = gaps.iter().filter(|&&gap| gap > NS_PER_S / rate).count();
            // A share of 1/e of exponential gaps is longer than the mean, 0.5 % of them none at all.
            let share = longer as f64 / gaps.len() as f64;
            prop_assert!((0.34..0.395).contains(&share), "share {share}");
        }

        #[test]
        fn the_same_seed_gives_the_same_arrivals(seed: u64) {
            let of = |seed| -> Vec<u64> {
                Arrivals::new(5, 1000.0, Schedule::Poisson, seed).take(50).collect()
            };
            prop_assert_eq!(of(seed), of(seed));
            prop_assert_ne!(of(seed), of(seed.wrapping_add(1)));
        }
    }
}
