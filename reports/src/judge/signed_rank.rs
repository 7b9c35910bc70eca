// SPDX-License-Identifier: Apache-2.0
//! Tests that assume no shape: Wilcoxon's signed ranks for pairs, Mann and Whitney's for two runs.

/// Differences up to this many are counted out exactly; beyond, the normal distribution is closer than
/// any verdict needs.
const EXACT_MAX: usize = 60;

/// Two-sided p of Wilcoxon's signed-rank test that paired differences are symmetric about zero
/// (Biometrics Bulletin 1, 1945). Ties share their mean rank; zeros take ranks and no part (Pratt,
/// JASA 54, 1959), as they do where a clock cannot tell two times apart. 1 where nothing differs.
pub fn signed_rank(differences: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = differences.to_vec();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let ranks = doubled_ranks(&sorted.iter().map(|d| d.abs()).collect::<Vec<_>>());
    let used: Vec<(f64, u64)> =
        sorted.iter().copied().zip(ranks).filter(|(difference, _)| *difference != 0.0).collect();
    let positive: u64 = used.iter().filter(|(d, _)| *d > 0.0).map(|(_, rank)| rank).sum();
    let ranks: Vec<u64> = used.iter().map(|(_, rank)| *rank).collect();
    let total: u64 = ranks.iter().sum();
    // The distribution is symmetric about half the total: the smaller tail, twice.
    let tail = positive.min(total - positive);
    if ranks.is_empty() {
        return 1.0;
    }
    let one_sided = if ranks.len() <= EXACT_MAX {
        exact_tail(&ranks, tail)
    } else {
        let variance: f64 = ranks.iter().map(|&rank| (rank as f64).powi(2)).sum::<f64>() / 4.0;
        // A step of the statistic is 2 in doubled ranks; half of it is the continuity correction.
        normal_tail((total as f64 / 2.0 - tail as f64 - 1.0).max(0.0) / variance.sqrt())
    };
    (2.0 * one_sided).min(1.0)
}

/// Two-sided p of the Mann-Whitney test that values of `a` and `b` come from one distribution
/// (Annals of Mathematical Statistics 18, 1947), by the normal distribution with corrections for ties and
/// continuity. 1 where either has no value.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let (m, n) = (a.len() as f64, b.len() as f64);
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|&v| (v, true)).chain(b.iter().map(|&v| (v, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let ranks = doubled_ranks(&all.iter().map(|(value, _)| *value).collect::<Vec<_>>());
    let of_a: u64 = all.iter().zip(&ranks).filter(|((_, a), _)| *a).map(|(_, rank)| rank).sum();
    let u = of_a as f64 / 2.0 - m * (m + 1.0) / 2.0;
    let total = m + n;
    let ties: f64 = runs_of_equals(&ranks).map(|t| t.powi(3) - t).sum();
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)).max(1.0));
    if variance <= 0.0 {
        return 1.0;
    }
    (2.0 * normal_tail(((u - m * n / 2.0).abs() - 0.5).max(0.0) / variance.sqrt())).min(1.0)
}

/// Ranks times two of ascending values, so that the mean rank of a tie is a whole number.
fn doubled_ranks(ascending: &[f64]) -> Vec<u64> {
    let mut ranks = Vec::with_capacity(ascending.len());
    for run in ascending.chunk_by(|a, b| a == b) {
        let first = ranks.len() as u64 + 1;
        let last = first + run.len() as u64 - 1;
        ranks.extend(std::iter::repeat_n(first + last, run.len()));
    }
    ranks
}

fn runs_of_equals(ranks: &[u64]) -> impl Iterator<Item = f64> {
    ranks.chunk_by(|a, b| a == b).map(|run| run.len() as f64)
}

/// Share of all assignments of signs whose positive ranks add up to at most `tail`.
fn exact_tail(ranks: &[u64], tail: u64) -> f64 {
    let mut share = vec![0.0; tail as usize + 1];
    share[0] = 1.0;
    for &rank in ranks {
        for sum in (0..share.len()).rev() {
            let without = share[sum];
            let with = sum.checked_sub(rank as usize).map_or(0.0, |rest| share[rest]);
            share[sum] = (without + with) / 2.0;
        }
    }
    share.iter().sum()
}

/// Upper tail of the standard normal distribution for `z >= 0`: the power series of Abramowitz and
/// Stegun, 26.2.11, and their continued fraction, 26.2.14, where that would lose its digits.
fn normal_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z > 3.0 {
        let mut fraction = z;
        for k in (1..=40).rev() {
            fraction = z + f64::from(k) / fraction;
        }
        return density / fraction;
    }
    // Series for the distribution function: converges fast for small z.
    let (mut term, mut sum) = (z, z);
    for k in 1..60 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 - density * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-3 * b.abs(), "{a} is not {b}");
    }

    #[test]
    fn signs_that_all_agree_are_as_rare_as_their_number_says() {
        for n in 1..=20 {
            let all: Vec<f64> = (1..=n).map(f64::from).collect();
            close(signed_rank(&all), 2.0 / 2f64.powi(n));
        }
    }

    #[test]
    fn the_table_of_signed_ranks_comes_out() {
        // n = 10: W = 8 is the two-sided 5 % point, with 24.5 of 1024 assignments on each side (0.0488).
        let mut differences: Vec<f64> = (1..=10).map(f64::from).collect();
        differences[7] = -8.0;
        close(signed_rank(&differences), 50.0 / 1024.0);
    }

    #[test]
    fn zeros_alone_and_nothing_at_all_show_nothing() {
        assert_eq!(signed_rank(&[]), 1.0);
        assert_eq!(signed_rank(&[0.0; 30]), 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
        assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 9]), 1.0);
    }

    #[test]
    fn beyond_the_exact_count_the_normal_distribution_is_as_good() {
        let n = EXACT_MAX as u64 + 1;
        let negative = |rank: u64| rank.is_multiple_of(3);
        let mixed: Vec<f64> =
            (1..=n).map(|rank| rank as f64 * if negative(rank) { -1.0 } else { 1.0 }).collect();
        let ranks: Vec<u64> = (1..=n).map(|rank| 2 * rank).collect();
        let tail = (1..=n).filter(|&rank| negative(rank)).map(|rank| 2 * rank).sum();
        let exact = 2.0 * exact_tail(&ranks, tail);
        assert!((signed_rank(&mixed) / exact - 1.0).abs() < 0.05, "{exact}");
    }

    #[test]
    fn the_normal_tail_is_the_tables() {
        for (z, p) in
            [(0.0, 0.5), (1.0, 0.158_655), (1.96, 0.024_998), (3.09, 0.001_001), (4.0, 3.167e-5)]
        {
            close(normal_tail(z), p);
        }
    }

    #[test]
    fn two_separate_samples_differ_and_two_mixed_ones_do_not() {
        let low: Vec<f64> = (0..15).map(f64::from).collect();
        let high: Vec<f64> = (100..115).map(f64::from).collect();
        assert!(mann_whitney(&low, &high) < 1e-5);
        let (even, odd): (Vec<f64>, Vec<f64>) =
            (0..40).map(f64::from).partition(|v| v % 2.0 == 0.0);
        assert!(mann_whitney(&even, &odd) > 0.5);
    }

    proptest! {
        #[test]
        fn turning_all_signs_changes_nothing(values in prop::collection::vec(-5i8..5, 0..80)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let turned: Vec<f64> = values.iter().map(|v| -v).collect();
            let p = signed_rank(&values);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!((p - signed_rank(&turned)).abs() < 1e-9);
        }
    }
}
