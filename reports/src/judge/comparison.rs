// SPDX-License-Identifier: Apache-2.0
//! Two sides, metric by metric, with a word for each.

use std::fmt;

use crate::judge::family::holm;
use crate::judge::metric::{Kind, Metric, Replicates};
use crate::judge::ratio::{self, Ratio};
use crate::judge::signed_rank::{mann_whitney, signed_rank};
use crate::judge::terms::Terms;

/// What became of a metric, from A to B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// B takes less time, or answers more requests.
    Faster,
    /// B takes more time, or answers fewer requests.
    Slower,
    /// Shown to differ by less than the minimum effect; of a count, equal.
    Same,
    /// Neither shown.
    Undecided,
    /// A count fell.
    Fewer,
    /// A count rose.
    More,
    /// The figures may not be judged; [`Comparison::times`] says why.
    NotJudged,
}

impl Word {
    /// Whether a gate fails on it.
    pub fn is_regression(self) -> bool {
        matches!(self, Self::Slower | Self::More)
    }

    /// Whether it says that A and B differ.
    pub fn is_difference(self) -> bool {
        matches!(self, Self::Faster | Self::Slower | Self::Fewer | Self::More)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Undecided => "undecided",
            Self::Fewer => "fewer",
            Self::More => "more",
            Self::NotJudged => "not judged",
        })
    }
}

/// Whether the two sides' times may be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Times {
    /// They may.
    Judged,
    /// They may not, for this reason: half a sentence.
    NotJudged(String),
}

/// One metric of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What is compared.
    pub metric: Metric,
    /// Median over A's blocks.
    pub a: f64,
    /// Median over B's blocks.
    pub b: f64,
    /// B / A with its interval; `None` with too few blocks, and of counts.
    pub ratio: Option<Ratio>,
    /// Two-sided p, adjusted for the number of metrics; `None` of counts and of what is not judged.
    pub p: Option<f64>,
    /// What became of it.
    pub word: Word,
}

/// Two sides compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What both have in common, or the case's id.
    pub title: String,
    /// What A is.
    pub a: String,
    /// What B is.
    pub b: String,
    /// Blocks of either that were used.
    pub blocks: [usize; 2],
    /// Whether block i of A was held against block i of B.
    pub paired: bool,
    /// Whether times were judged.
    pub times: Times,
    /// Metrics that both have, in the order of their kinds.
    pub rows: Vec<Row>,
    /// Metrics that only one has, by name.
    pub missing: Vec<String>,
}

impl Comparison {
    /// Rows that a gate fails on: stages only say where.
    pub fn regressions(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.metric.kind != Kind::Stage && row.word.is_regression())
    }

    /// Whether more blocks could change a word that gates.
    pub fn is_undecided(&self) -> bool {
        self.gating().any(|row| row.word == Word::Undecided)
    }

    /// Rows that gate.
    pub fn gating(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.metric.kind != Kind::Stage)
    }
}

/// A row before the family is known.
struct Draft {
    row: Row,
    raw_p: Option<f64>,
}

/// Compares two sides. Each kind of metric is a family of its own for the correction: times and rates
/// together, stages together. Pairs are blocks of the same number.
pub fn judge(
    title: &str,
    a: &Replicates,
    b: &Replicates,
    terms: &Terms,
    times: &Times,
) -> Comparison {
    let mut drafts: Vec<Draft> = a
        .series
        .iter()
        .filter_map(|series| {
            let of_b = b.values(&series.metric)?;
            draft(&series.metric, &series.values, of_b, terms, times)
        })
        .collect();
    for stages in [false, true] {
        adjust(&mut drafts, terms, |kind| (kind == Kind::Stage) == stages);
    }
    let mut rows: Vec<Row> = drafts.into_iter().map(|draft| draft.row).collect();
    // A side that makes no requests (a bench) has no errors to count.
    if a.requests + a.errors > 0 && b.requests + b.errors > 0 {
        rows.push(errors(a, b));
    }
    let only = |some: &Replicates, other: &Replicates| -> Vec<String> {
        let absent = some.series.iter().filter(|series| other.values(&series.metric).is_none());
        absent.map(|series| format!("{} (only {})", series.metric.name, some.label)).collect()
    };
    Comparison {
        title: title.to_owned(),
        a: a.label.clone(),
        b: b.label.clone(),
        blocks: [a.blocks, b.blocks],
        paired: terms.paired,
        times: times.clone(),
        rows,
        missing: only(a, b).into_iter().chain(only(b, a)).collect(),
    }
}

fn draft(
    metric: &Metric,
    a: &[Option<f64>],
    b: &[Option<f64>],
    terms: &Terms,
    times: &Times,
) -> Option<Draft> {
    let known = |values: &[Option<f64>]| values.iter().flatten().copied().collect::<Vec<f64>>();
    let (of_a, of_b) = (known(a), known(b));
    let (median_a, median_b) = (median(&of_a)?, median(&of_b)?);
    let row = |ratio, word| Row {
        metric: metric.clone(),
        a: median_a,
        b: median_b,
        ratio,
        p: None,
        word,
    };
    if metric.kind == Kind::Count {
        return Some(Draft { row: row(None, count_word(&of_a, &of_b)), raw_p: None });
    }
    let alpha = terms.alpha_of_look();
    let (ratio, p) = if terms.paired {
        let logs: Vec<f64> = a.iter().zip(b).filter_map(|(a, b)| log_ratio((*a)?, (*b)?)).collect();
        (ratio::paired(&logs, alpha, terms.seed), signed_rank(&logs))
    } else {
        let logs = |values: &[f64]| -> Vec<f64> {
            values.iter().filter(|value| **value > 0.0).map(|value| value.ln()).collect()
        };
        let (a, b) = (logs(&of_a), logs(&of_b));
        (ratio::unpaired(&a, &b, alpha, terms.seed), mann_whitney(&a, &b))
    };
    if *times != Times::Judged {
        return Some(Draft { row: row(ratio, Word::NotJudged), raw_p: None });
    }
    Some(Draft { row: row(ratio, Word::Undecided), raw_p: Some(p) })
}

/// Adjusts the p values of a family, and says its words.
fn adjust(drafts: &mut [Draft], terms: &Terms, of_family: impl Fn(Kind) -> bool) {
    let mut members: Vec<&mut Draft> = drafts
        .iter_mut()
        .filter(|draft| of_family(draft.row.metric.kind) && draft.raw_p.is_some())
        .collect();
    let raw: Vec<f64> = members.iter().filter_map(|draft| draft.raw_p).collect();
    for (draft, p) in members.iter_mut().zip(holm(&raw)) {
        draft.row.p = Some(p);
        draft.row.word = word(draft.row.metric.kind, draft.row.ratio, p, terms);
    }
}

fn word(kind: Kind, ratio: Option<Ratio>, p: f64, terms: &Terms) -> Word {
    let Some(ratio) = ratio else { return Word::Undecided };
    let margin = terms.margin();
    if p <= terms.alpha_of_look() && ratio.estimate.ln().abs() >= margin {
        let more = ratio.estimate > 1.0;
        return if more == (kind == Kind::Rate) { Word::Faster } else { Word::Slower };
    }
    if ratio.low.ln() > -margin && ratio.high.ln() < margin {
        return Word::Same;
    }
    Word::Undecided
}

/// Counts are equal in all blocks of a side, or they are no counts.
fn count_word(a: &[f64], b: &[f64]) -> Word {
    let constant = |values: &[f64]| values.windows(2).all(|pair| pair[0] == pair[1]);
    if !constant(a) || !constant(b) {
        return Word::Undecided;
    }
    match b[0].total_cmp(&a[0]) {
        std::cmp::Ordering::Less => Word::Fewer,
        std::cmp::Ordering::Equal => Word::Same,
        std::cmp::Ordering::Greater => Word::More,
    }
}

/// Requests without an answer. Where A has none, one is too many; where both have some, what a
/// machine under such load does is not this comparison's to say.
fn errors(a: &Replicates, b: &Replicates) -> Row {
    let word = match (a.errors, b.errors) {
        (0, 0) => Word::Same,
        (0, _) => Word::More,
        (_, 0) => Word::Fewer,
        _ => Word::Undecided,
    };
    Row {
        metric: Metric { kind: Kind::Count, name: "errors".to_owned() },
        a: a.errors as f64,
        b: b.errors as f64,
        ratio: None,
        p: None,
        word,
    }
}

fn log_ratio(a: f64, b: f64) -> Option<f64> {
    (a > 0.0 && b > 0.0).then(|| (b / a).ln())
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}
