// SPDX-License-Identifier: Apache-2.0
//! How often a comparison raises a false alarm, and how often it catches a slowdown, from blocks that
//! were measured.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::judge::family::holm;
use crate::judge::looks::looks;
use crate::judge::metric::{Kind, Replicates};
use crate::judge::ratio::estimate;
use crate::judge::signed_rank::signed_rank;
use crate::judge::terms::Terms;

/// What the gate of a machine catches.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerCurve {
    /// Id of the case that was slowed down.
    pub case: String,
    /// Runs drawn for each point.
    pub runs: u32,
    /// One for each budget, at least one.
    pub lines: Vec<PowerLine>,
}

/// The curve of one budget.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerLine {
    /// Seconds of measuring.
    pub budget_s: u64,
    /// Pairs of blocks that fit into it.
    pub pairs: usize,
    /// By slowdown, at least one.
    pub points: Vec<PowerPoint>,
}

/// The share of runs that call one slowdown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerPoint {
    /// Work injected, percent of the median latency; 0 for the case beside itself.
    pub injected_percent: f64,
    /// Share of the runs, and its 95 % interval: of those with any word at 0, of those that call the
    /// median slower elsewhere.
    pub share: [f64; 3],
}

/// What many runs of a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Runs.
    pub runs: u32,
    /// Runs in which a gating metric was called slower or faster.
    pub alarms: u32,
    /// Runs in which median latency was called slower.
    pub p50_slower: u32,
}

impl Tried {
    /// A share of the runs with its 95 % interval (Wilson, JASA 22, 1927).
    pub fn share(&self, of: u32) -> [f64; 3] {
        let (n, share) = (f64::from(self.runs.max(1)), f64::from(of) / f64::from(self.runs.max(1)));
        let z2 = 1.96f64.powi(2);
        let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = 1.96 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
        [share, (middle - half).max(0.0), (middle + half).min(1.0)]
    }
}

/// Draws `runs` runs of at most `blocks_max` pairs of blocks each from those that were measured, with
/// replacement, and has each looked at as a comparison that extends itself is. What a run of hours
/// would show, as far as the measured blocks are typical; blocks are drawn whole and in pairs, so that
/// what metrics and sides have in common stays. Where there is no difference by construction (`null`),
/// the sides of a pair are swapped by chance: what the measured blocks have of one by chance is not to
/// be every drawn run's.
pub fn try_out(
    a: &Replicates,
    b: &Replicates,
    blocks_max: usize,
    runs: u32,
    terms: &Terms,
    null: bool,
) -> Tried {
    let terms = &Terms { looks: looks(blocks_max).len() as u32, ..*terms };
    let metrics: Vec<(bool, bool, Vec<f64>)> = a
        .series
        .iter()
        .filter(|series| matches!(series.metric.kind, Kind::Time | Kind::Rate))
        .filter_map(|series| {
            let of_b = b.values(&series.metric)?;
            let pairs = series.values.iter().zip(of_b);
            let logs = pairs.map(|(a, b)| Some(((*b)? / (*a)?).ln()));
            let logs: Option<Vec<f64>> = logs.collect();
            let rate = series.metric.kind == Kind::Rate;
            Some((rate, series.metric.name == "latency p50", logs?))
        })
        .collect();
    let measured = a.blocks.min(b.blocks);
    let mut tried = Tried { runs, alarms: 0, p50_slower: 0 };
    if measured == 0 || metrics.is_empty() {
        return Tried { runs: 0, ..tried };
    }
    let mut rng = SmallRng::seed_from_u64(terms.seed);
    for _ in 0..runs {
        let drawn: Vec<(usize, bool)> = (0..blocks_max)
            .map(|_| (rng.random_range(0..measured), null && rng.random::<bool>()))
            .collect();
        let words = run(&metrics, &drawn, terms);
        tried.alarms += u32::from(words.iter().any(|word| *word != 0));
        let p50 = metrics.iter().zip(&words).any(|((_, p50, _), word)| *p50 && *word > 0);
        tried.p50_slower += u32::from(p50);
    }
    tried
}

/// One run: 1 for each metric that is slower, -1 for faster, 0 for neither, at the look that ends it, as a
/// comparison's own words are: the first at which every metric has one, or the last. (A comparison ends, too,
/// where what has no word is shown to be the same.)
fn run(metrics: &[(bool, bool, Vec<f64>)], drawn: &[(usize, bool)], terms: &Terms) -> Vec<i8> {
    let mut words = Vec::new();
    for blocks in looks(drawn.len()) {
        words = vec![0; metrics.len()];
        let logs: Vec<Vec<f64>> = metrics
            .iter()
            .map(|(_, _, logs)| {
                let value = |&(index, swapped): &(usize, bool)| {
                    if swapped { -logs[index] } else { logs[index] }
                };
                drawn[..blocks].iter().map(value).collect()
            })
            .collect();
        let p: Vec<f64> = logs.iter().map(|logs| signed_rank(logs)).collect();
        for (index, p) in holm(&p).into_iter().enumerate() {
            let Some(ratio) = estimate(&logs[index]) else { continue };
            if p <= terms.alpha_of_look() && ratio.ln().abs() >= terms.margin() {
                words[index] = if (ratio > 1.0) == metrics[index].0 { -1 } else { 1 };
            }
        }
        if words.iter().all(|word| *word != 0) {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_while_a_metric_has_no_word() {
        let at_once = vec![0.5; 60];
        let later = (0..60).map(|block| match block {
            0..16 => [0.05, -0.05][block % 2],
            _ => 0.1,
        });
        let metrics = [(false, false, at_once), (false, true, later.collect())];
        let drawn: Vec<_> = (0..60).map(|block| (block, false)).collect();
        assert_eq!(run(&metrics, &drawn[..16], &Terms::default()), [1, 0]);
        assert_eq!(run(&metrics, &drawn, &Terms::default()), [1, 1]);
    }
}
