// SPDX-License-Identifier: Apache-2.0
//! Where a series of figures, one for each run, changed its level.
//!
//! A change is believed where figures before and after a place differ in rank (Mann and Whitney's
//! statistic in units of its own spread, at its largest over all places) by more than what all but one in
//! [`LEVEL`] random orders of the same figures show. Ranks and
//! permutations assume no shape of the noise and give an outlier no weight of its own. Both parts are then
//! looked at in the same way (binary segmentation; Scott and Knott, Biometrics 30, 1974). What is assumed
//! is that without a change runs could have come in any order: a machine that drifts has no level, and
//! will be marked.

use crate::analysis::random::Random;

/// One in so many series without a change is marked at most, for each time it is cut.
pub const LEVEL: usize = 200;

/// Random orders that are looked at.
const ORDERS: usize = 1999;

/// Fewest figures on either side of a change: of the 252 ways to part ten figures five by five, two are as
/// far apart as can be, which is too often for one in [`LEVEL`]; from eleven on it is rare enough.
pub const SIDE_MIN: usize = 5;

/// Smallest change that is worth a mark: the median after as a multiple of the one before, or the other
/// way round.
pub const EFFECT_MIN: f64 = 1.03;

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Place of the first figure of the new level.
    pub at: usize,
    /// Median from the change before, or the start, up to this one.
    pub before: f64,
    /// Median from this one up to the next, or the end.
    pub after: f64,
    /// Share of random orders that show as much; 0 for counts, whose every change is one.
    pub p: f64,
}

impl Change {
    /// The median after as a multiple of the one before.
    pub fn ratio(&self) -> f64 {
        self.after / self.before
    }
}

/// The changes of a series of times or rates, in order.
pub fn changes(values: &[f64]) -> Vec<Change> {
    if values.iter().any(|value| !value.is_finite()) {
        return Vec::new();
    }
    // The same figures give the same marks.
    let mut random = Random::new(values.len() as u64);
    let mut cuts = Vec::new();
    let mut open = vec![(0, values.len())];
    while let Some((from, to)) = open.pop() {
        if let Some((at, p)) = cut(&values[from..to], &mut random) {
            cuts.push((from + at, p));
            open.extend([(from, from + at), (from + at, to)]);
        }
    }
    cuts.sort_unstable_by_key(|(at, _)| *at);
    levels(values, &cuts)
}

/// The changes of an exact count: every figure that is not the one before it.
pub fn steps(values: &[f64]) -> Vec<Change> {
    let differ = (1..values.len()).filter(|&at| values[at] != values[at - 1]);
    differ.map(|at| Change { at, before: values[at - 1], after: values[at], p: 0.0 }).collect()
}

/// Medians on both sides of each cut; cuts below the least effect are none.
fn levels(values: &[f64], cuts: &[(usize, f64)]) -> Vec<Change> {
    let mut edges = vec![0];
    edges.extend(cuts.iter().map(|(at, _)| *at));
    edges.push(values.len());
    let of = |(place, &(at, p)): (usize, &(usize, f64))| {
        let before = median(&values[edges[place]..at]);
        let after = median(&values[at..edges[place + 2]]);
        Change { at, before, after, p }
    };
    let large = |change: &Change| {
        let ratio = change.ratio();
        ratio >= EFFECT_MIN || ratio <= 1.0 / EFFECT_MIN
    };
    cuts.iter().enumerate().map(of).filter(large).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The best place to part a series, and how many random orders part as well.
fn cut(values: &[f64], random: &mut Random) -> Option<(usize, f64)> {
    if values.len() < 2 * SIDE_MIN {
        return None;
    }
    let mut ranks = ranks(values);
    let strength = best(&ranks);
    let mut as_strong = 0;
    for _ in 0..ORDERS {
        random.shuffle(&mut ranks);
        as_strong += usize::from(best(&ranks) >= strength - 1e-9);
        // No need to go on once it cannot be rare any more.
        if as_strong > (ORDERS + 1) / LEVEL {
            return None;
        }
    }
    // The order that was measured counts as one of them (Phipson and Smyth, 2010).
    let p = (as_strong + 1) as f64 / (ORDERS + 1) as f64;
    (p <= 1.0 / LEVEL as f64).then(|| (place(values), p))
}

/// Where to part a series that has a change: where its figures are closest to the medians of their
/// sides. Ranks tell that there is one, but lean towards the middle of the series when asked where.
fn place(values: &[f64]) -> usize {
    let off = |part: &[f64]| {
        let middle = median(part);
        part.iter().map(|value| (value - middle).abs()).sum::<f64>()
    };
    let cost = |at: usize| off(&values[..at]) + off(&values[at..]);
    let places = SIDE_MIN..=values.len() - SIDE_MIN;
    places.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).expect("a series that is cut has a place")
}

/// Ranks from 1; equal figures share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    for same in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = from as f64 + (same.len() as f64 + 1.0) / 2.0;
        same.iter().for_each(|&place| ranks[place] = rank);
        from += same.len();
    }
    ranks
}

/// How far the sum of ranks before a place is from what chance would make it, in units of its standard
/// deviation, at the place where that is furthest.
fn best(ranks: &[f64]) -> f64 {
    let n = ranks.len() as f64;
    let mut sum: f64 = ranks[..SIDE_MIN - 1].iter().sum();
    let mut best = 0.0f64;
    for at in SIDE_MIN..=ranks.len() - SIDE_MIN {
        sum += ranks[at - 1];
        let m = at as f64;
        let strength = (sum - m * (n + 1.0) / 2.0).abs() / (m * (n - m) * (n + 1.0) / 12.0).sqrt();
        best = best.max(strength);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around `level` with 2 % of noise that has a tail: now and then a run is 20 % slow.
    fn noisy(random: &mut Random, level: f64, n: usize) -> Vec<f64> {
        let mut uniform = || random.below(1 << 20) as f64 / f64::from(1 << 20);
        let mut one = || {
            let stall = if uniform() < 0.05 { 1.2 } else { 1.0 };
            level * stall * (1.0 + 0.04 * (uniform() + uniform() - 1.0))
        };
        (0..n).map(|_| one()).collect()
    }

    /// Share in percent of 200 series with a step of 10 % whose one mark is at most `off` from it.
    fn found(off: usize, stalls: bool) -> usize {
        let hit = |seed: &u64| {
            let mut random = Random::new(*seed);
            let mut values = noisy(&mut random, 100.0, 14);
            values.extend(noisy(&mut random, 110.0, 12));
            if !stalls {
                let stalled = |i: usize, v: f64| v > if i < 14 { 105.0 } else { 115.0 };
                values
                    .iter_mut()
                    .enumerate()
                    .filter(|(i, v)| stalled(*i, **v))
                    .for_each(|(_, v)| *v /= 1.2);
            }
            let found = changes(&values);
            found.len() == 1 && found[0].at.abs_diff(14) <= off
        };
        (0..200).filter(hit).count() / 2
    }

    #[test]
    fn a_step_is_found_at_its_place() {
        assert!(found(0, false) >= 95, "{} %", found(0, false));
        assert!(found(1, false) >= 97, "{} %", found(1, false));
        // Outliers beside a step move its mark.
        assert!(found(1, true) >= 80, "{} %", found(1, true));
    }

    #[test]
    fn two_steps_are_two_changes_with_their_levels() {
        let mut random = Random::new(5);
        let mut values = noisy(&mut random, 100.0, 12);
        values.extend(noisy(&mut random, 130.0, 12));
        values.extend(noisy(&mut random, 90.0, 12));
        let found = changes(&values);
        let places: Vec<_> = found.iter().map(|change| change.at).collect();
        assert_eq!(places, [12, 24]);
        assert!((found[0].ratio() - 1.3).abs() < 0.05 && found[1].ratio() < 0.75, "{found:?}");
    }

    #[test]
    fn noise_alone_is_marked_as_rarely_as_stated() {
        // The least effect is left out of it: `cut` alone, which is what the level is about.
        let marked = (0..2000).filter(|seed| {
            let mut random = Random::new(1_000_000 + seed);
            cut(&noisy(&mut random, 100.0, 30), &mut random).is_some()
        });
        // One in 200 are 10 of 2,000; 22 are nearly four standard deviations above.
        let marked = marked.count();
        assert!(marked <= 22, "{marked} of 2000");
        let whole = (0..1000).filter(|seed| {
            !changes(&noisy(&mut Random::new(2_000_000 + seed), 100.0, 30)).is_empty()
        });
        let whole = whole.count();
        assert!(whole <= 10, "{whole} of 1000 with the least effect");
    }

    #[test]
    fn a_step_below_the_least_effect_is_none() {
        let values: Vec<f64> = (0..40).map(|i| if i < 20 { 100.0 } else { 102.0 }).collect();
        assert!(changes(&values).is_empty());
    }

    #[test]
    fn a_single_outlier_is_no_change() {
        let mut values = noisy(&mut Random::new(9), 100.0, 30);
        values[17] = 900.0;
        assert!(changes(&values).is_empty());
    }

    #[test]
    fn few_runs_and_broken_figures_are_never_marked() {
        assert!(changes(&[1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0]).is_empty());
        assert!(changes(&[]).is_empty());
        assert!(changes(&[f64::NAN; 30]).is_empty());
    }

    #[test]
    fn every_change_of_a_count_is_one() {
        let found: Vec<_> = steps(&[7.0, 7.0, 8.0, 8.0, 7.0]).iter().map(|c| c.at).collect();
        assert_eq!(found, [2, 4]);
    }
}
