// SPDX-License-Identifier: Apache-2.0
//! B as a multiple of A, with an interval.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Resamples of an interval: its ends then move by less than a tenth of its width between seeds.
const RESAMPLES: usize = 2000;
/// Share cut off at either end before the mean is taken. On shared cores a few blocks of a run meet
/// another's work; the mean follows them, and the median wastes a third of the blocks.
const TRIM: f64 = 0.2;
/// Fewest blocks of either side that an interval is given for.
pub const BLOCKS_MIN: usize = 6;

/// An estimate and its interval, as ratios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// B / A.
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The ratio of blocks that ran side by side: `logs` are ln(b / a). Trimmed mean, with a bootstrap
/// interval of coverage `1 - alpha` from studentised resamples (Efron 1981; symmetric and with trimmed
/// means as in Wilcox, Introduction to Robust Estimation, 4.4.6). `None` with fewer than [`BLOCKS_MIN`].
pub fn paired(logs: &[f64], alpha: f64, seed: u64) -> Option<Ratio> {
    let whole = Trimmed::of(logs)?;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut resample = vec![0.0; logs.len()];
    let spread = spread(alpha, || {
        draw(logs, &mut resample, &mut rng);
        let again = Trimmed::of(&resample)?;
        Some(((again.mean - whole.mean).abs(), again.error))
    })?;
    Some(interval(whole.mean, spread * whole.error))
}

/// The ratio of blocks of two runs: logarithms of either side's figures, which are resampled apart.
pub fn unpaired(a: &[f64], b: &[f64], alpha: f64, seed: u64) -> Option<Ratio> {
    let (of_a, of_b) = (Trimmed::of(a)?, Trimmed::of(b)?);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut some_a, mut some_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
    let difference = of_b.mean - of_a.mean;
    let error = of_a.error.hypot(of_b.error);
    let spread = spread(alpha, || {
        draw(a, &mut some_a, &mut rng);
        draw(b, &mut some_b, &mut rng);
        let (of_a, of_b) = (Trimmed::of(&some_a)?, Trimmed::of(&some_b)?);
        Some(((of_b.mean - of_a.mean - difference).abs(), of_a.error.hypot(of_b.error)))
    })?;
    Some(interval(difference, spread * error))
}

fn draw(from: &[f64], into: &mut [f64], rng: &mut SmallRng) {
    into.iter_mut().for_each(|value| *value = from[rng.random_range(0..from.len())]);
}

/// The studentised distance that a share `1 - alpha` of resamples stay within.
fn spread(alpha: f64, mut resample: impl FnMut() -> Option<(f64, f64)>) -> Option<f64> {
    let mut distances = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let (distance, error) = resample()?;
        // A resample of one value again and again has no error, and says nothing of the distance.
        match (distance, error) {
            (_, error) if error > 0.0 => distances.push(distance / error),
            (0.0, _) => distances.push(0.0),
            _ => distances.push(f64::INFINITY),
        }
    }
    distances.sort_by(f64::total_cmp);
    let rank = ((1.0 - alpha) * RESAMPLES as f64).ceil() as usize;
    Some(distances[rank.clamp(1, RESAMPLES) - 1])
}

fn interval(mean: f64, half: f64) -> Ratio {
    // No error at all times an endless distance: all blocks agree.
    let half = if half.is_nan() { 0.0 } else { half };
    Ratio { estimate: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() }
}

/// A trimmed mean and its standard error, by the variance of the winsorised values (Tukey and
/// McLaughlin 1963).
struct Trimmed {
    mean: f64,
    error: f64,
}

impl Trimmed {
    fn of(values: &[f64]) -> Option<Self> {
        if values.len() < BLOCKS_MIN {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let cut = (TRIM * n as f64).floor() as usize;
        let kept = &sorted[cut..n - cut];
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        let (low, high) = (kept[0], kept[kept.len() - 1]);
        let winsorised = sorted.iter().map(|value| value.clamp(low, high));
        let middle = winsorised.clone().sum::<f64>() / n as f64;
        let squares: f64 = winsorised.map(|value| (value - middle).powi(2)).sum();
        let deviation = (squares / (n - 1) as f64).sqrt();
        Some(Self { mean, error: deviation / ((1.0 - 2.0 * TRIM) * (n as f64).sqrt()) })
    }
}

/// The trimmed mean alone, as a ratio; `None` with fewer than [`BLOCKS_MIN`] logarithms.
pub fn estimate(logs: &[f64]) -> Option<f64> {
    Some(Trimmed::of(logs)?.mean.exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise with heavy tails, as blocks on shared cores have it.
    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = SmallRng::seed_from_u64(seed);
        (0..n)
            .map(|_| {
                let even: f64 = (0..6).map(|_| rng.random::<f64>() - 0.5).sum::<f64>() * 0.02;
                if rng.random::<f64>() < 0.1 { even * 10.0 } else { even }
            })
            .collect()
    }

    #[test]
    fn too_few_blocks_have_no_interval() {
        assert_eq!(paired(&[0.0; 5], 0.01, 1), None);
        assert_eq!(unpaired(&[0.0; 9], &[0.0; 5], 0.01, 1), None);
    }

    #[test]
    fn blocks_that_all_agree_have_an_interval_of_no_width() {
        let ratio = paired(&[1.1f64.ln(); 12], 0.01, 1).unwrap();
        assert!((ratio.estimate - 1.1).abs() < 1e-9 && ratio.low == ratio.high, "{ratio:?}");
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let shift = 0.03;
        let runs = 300;
        let missed = (0..runs)
            .filter(|&seed| {
                let logs: Vec<f64> = noise(24, seed).iter().map(|v| v + shift).collect();
                let ratio = paired(&logs, 0.05, seed).unwrap();
                !(ratio.low..=ratio.high).contains(&shift.exp())
            })
            .count();
        // 5 % of 300 is 15; a count above 30 has a chance below 1 in 5,000.
        assert!(missed <= 30, "{missed} of {runs}");
        assert!(missed >= 2, "intervals are wider than they say: {missed} of {runs} missed");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let logs = noise(20, 7);
        assert_eq!(paired(&logs, 0.01, 3), paired(&logs, 0.01, 3));
    }

    #[test]
    fn one_wild_block_hardly_moves_the_estimate() {
        let mut logs = noise(20, 7);
        let before = estimate(&logs).unwrap();
        logs[3] = 2.0;
        assert!((estimate(&logs).unwrap() / before - 1.0).abs() < 0.01);
    }
}
