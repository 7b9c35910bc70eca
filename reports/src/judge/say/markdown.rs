// SPDX-License-Identifier: Apache-2.0
//! Comparisons for a pull request.

use std::fmt::Write;

use super::value::{p, ratio, value};
use crate::analysis::number::{one_line, percent};
use crate::judge::comparison::{Comparison, Row, Times};
use crate::judge::metric::Kind;
use crate::judge::terms::Terms;

/// A table for each comparison, stages folded away.
pub fn markdown(comparisons: &[Comparison], terms: &Terms) -> String {
    let mut out = String::new();
    for comparison in comparisons {
        let Comparison { title, a, b, blocks, .. } = comparison;
        let _ = writeln!(out, "### {}\n", escaped(title));
        let _ = writeln!(
            out,
            "A: {} ({} blocks), B: {} ({} blocks)\n",
            escaped(a),
            blocks[0],
            escaped(b),
            blocks[1]
        );
        table(&mut out, comparison.gating());
        let stages: Vec<&Row> =
            comparison.rows.iter().filter(|row| row.metric.kind == Kind::Stage).collect();
        if !stages.is_empty() {
            let _ = writeln!(out, "\n<details><summary>stages</summary>\n");
            table(&mut out, stages.into_iter());
            let _ = writeln!(out, "\n</details>");
        }
        if let Times::NotJudged(why) = &comparison.times {
            let _ = writeln!(out, "\nTimes are not judged: {}.", escaped(why));
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(
        out,
        "Intervals cover {} of a look's resamples; p is adjusted for the number of metrics and \
         looks; changes below {} have no word.",
        percent(1.0 - terms.alpha_of_look()),
        percent(terms.minimum_effect)
    );
    out
}

fn table<'a>(out: &mut String, rows: impl Iterator<Item = &'a Row>) {
    let _ = writeln!(out, "| metric | A | B | B / A | p | B is |\n|---|--:|--:|--:|--:|---|");
    for row in rows {
        let kind = row.metric.kind;
        let word = match row.word.is_regression() {
            true => format!("**{}**", row.word),
            false => row.word.to_string(),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {word} |",
            escaped(&row.metric.name),
            value(kind, row.a),
            value(kind, row.b),
            ratio(row),
            p(row)
        );
    }
}

/// Text from a record as text: neither markup, nor HTML, nor the end of a cell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '#' | '@' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}
