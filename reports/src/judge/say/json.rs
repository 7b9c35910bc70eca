// SPDX-License-Identifier: Apache-2.0
//! Comparisons as JSON.

use serde_json::{Value, json};

use crate::judge::comparison::{Comparison, Times};
use crate::judge::metric::Kind;
use crate::judge::terms::Terms;

/// `{"terms", "comparisons": [{"title", "a", "b", "blocks", "not_judged", "rows": [...], "missing"}]}`;
/// times in nanoseconds, ratios B / A.
pub fn json(comparisons: &[Comparison], terms: &Terms) -> Value {
    let row = |row: &crate::judge::Row| {
        let kind = match row.metric.kind {
            Kind::Time => "time_ns",
            Kind::Rate => "per_second",
            Kind::Stage => "stage_ns",
            Kind::Count => "count",
        };
        json!({
            "metric": row.metric.name, "kind": kind, "a": row.a, "b": row.b,
            "ratio": row.ratio.map(|r| json!({
                "estimate": r.estimate,
                "low": r.low,
                // JSON has no infinity; few blocks of which some agree have no upper end.
                "high": r.high.is_finite().then_some(r.high),
            })),
            "p": row.p, "word": row.word.to_string(),
        })
    };
    let comparison = |c: &Comparison| {
        let not_judged = match &c.times {
            Times::Judged => None,
            Times::NotJudged(why) => Some(why),
        };
        json!({
            "title": c.title, "a": c.a, "b": c.b, "blocks": c.blocks, "paired": c.paired, "not_judged": not_judged,
            "rows": c.rows.iter().map(row).collect::<Vec<_>>(), "missing": c.missing,
        })
    };
    json!({
        "terms": {
            "alpha": terms.alpha, "minimum_effect": terms.minimum_effect, "looks": terms.looks,
        },
        "comparisons": comparisons.iter().map(comparison).collect::<Vec<_>>(),
    })
}
