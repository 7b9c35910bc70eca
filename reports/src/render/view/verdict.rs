// SPDX-License-Identifier: Apache-2.0
//! What blocks of a run say of each other, for the page.

use record::Run;

use crate::analysis::number::percent;
use crate::judge::comparison::{Comparison, Row, Times};
use crate::judge::metric::Kind;
use crate::judge::say::{p, ratio, value};
use crate::judge::within::{AGAIN, within};
use crate::judge::{Terms, comparison::Word};

/// One comparison.
pub(crate) struct VerdictView {
    pub(crate) title: String,
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) blocks: usize,
    /// Why times have no word; empty where they have.
    pub(crate) not_judged: String,
    /// What was found between a case and itself; empty of other comparisons.
    pub(crate) alarms: String,
    pub(crate) rows: Vec<VerdictRow>,
    pub(crate) stages: Vec<VerdictRow>,
}

/// One metric.
pub(crate) struct VerdictRow {
    pub(crate) metric: String,
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) ratio: String,
    pub(crate) p: String,
    pub(crate) word: String,
    /// `good`, `bad` or nothing.
    pub(crate) class: &'static str,
}

/// All comparisons of some runs, and what they were held to.
pub(crate) fn verdicts(runs: &[Run]) -> (Vec<VerdictView>, String) {
    let terms = Terms::default();
    let views = runs.iter().flat_map(|run| within(run, &terms)).map(|c| view(&c)).collect();
    let words = format!(
        "Blocks took turns, each on hosts made anew. Slower and faster need a change of {} that chance \
         would make in less than {} of comparisons without a difference, over all metrics and looks; \
         same needs the whole interval within {} either way.",
        percent(terms.minimum_effect),
        percent(terms.alpha),
        percent(terms.minimum_effect)
    );
    (views, words)
}

fn view(comparison: &Comparison) -> VerdictView {
    let rows = |stages: bool| {
        let of_kind = move |row: &&Row| (row.metric.kind == Kind::Stage) == stages;
        comparison.rows.iter().filter(of_kind).map(row).collect()
    };
    let again = AGAIN.replace('-', ", ");
    let judged = comparison.rows.iter().filter(|row| row.word != Word::NotJudged).count();
    let alarms = comparison.rows.iter().filter(|row| row.word.is_difference()).count();
    VerdictView {
        title: comparison.title.clone(),
        a: comparison.a.clone(),
        b: comparison.b.clone(),
        blocks: comparison.blocks[0].min(comparison.blocks[1]),
        not_judged: match &comparison.times {
            Times::Judged => String::new(),
            Times::NotJudged(why) => why.clone(),
        },
        alarms: match comparison.b.ends_with(&again) {
            true => format!("{alarms} false alarms in {judged} metrics"),
            false => String::new(),
        },
        rows: rows(false),
        stages: rows(true),
    }
}

fn row(row: &Row) -> VerdictRow {
    let kind = row.metric.kind;
    VerdictRow {
        metric: row.metric.name.clone(),
        a: value(kind, row.a),
        b: value(kind, row.b),
        ratio: ratio(row),
        p: p(row),
        word: row.word.to_string(),
        class: match row.word {
            Word::Slower | Word::More => "bad",
            Word::Faster | Word::Fewer => "good",
            _ => "",
        },
    }
}
