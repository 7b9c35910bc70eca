// SPDX-License-Identifier: Apache-2.0
//! A comparison as a table for a terminal.

use super::value::{p, ratio, value};
use crate::analysis::number::{one_line, plural};
use crate::judge::comparison::{Comparison, Row, Times, Word};
use crate::judge::metric::Kind;

const BETWEEN: &str = "  ";

/// The comparison: what gates first, then stages that differ, then what may not be said.
pub fn text(comparison: &Comparison) -> String {
    let mut lines = vec![one_line(&comparison.title)];
    let [a, b] = comparison.blocks;
    lines.push(format!(
        "A: {} ({})   B: {} ({})   {}",
        one_line(&comparison.a),
        plural(a, "block", "blocks"),
        one_line(&comparison.b),
        plural(b, "block", "blocks"),
        if comparison.paired { "side by side" } else { "not side by side" },
    ));
    let shown = |row: &&Row| row.metric.kind != Kind::Stage || row.word.is_difference();
    let mut table = vec![["metric", "A", "B", "B / A (interval)", "p", "B is"].map(str::to_owned)];
    table.extend(comparison.rows.iter().filter(shown).map(cells));
    lines.extend(aligned(&table));
    let stages = comparison.rows.iter().filter(|row| row.metric.kind == Kind::Stage);
    let (same, undecided) = stages.fold((0, 0), |(same, undecided), row| match row.word {
        Word::Same => (same + 1, undecided),
        Word::Undecided => (same, undecided + 1),
        _ => (same, undecided),
    });
    if same + undecided > 0 {
        lines.push(format!("further stages: {same} the same, {undecided} undecided"));
    }
    if let Times::NotJudged(why) = &comparison.times {
        lines.push(format!("times are not judged: {}", one_line(why)));
    }
    lines.extend(comparison.missing.iter().map(|name| format!("not compared: {}", one_line(name))));
    lines.join("\n")
}

fn cells(row: &Row) -> [String; 6] {
    let kind = row.metric.kind;
    [
        one_line(&row.metric.name),
        value(kind, row.a),
        value(kind, row.b),
        ratio(row),
        p(row),
        row.word.to_string(),
    ]
}

fn aligned(table: &[[String; 6]]) -> Vec<String> {
    let width = |column: usize| {
        table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| match column {
                0 | 5 => format!("{cell:<0$}", widths[column]),
                _ => format!("{cell:>0$}", widths[column]),
            })
            .collect();
        cells.join(BETWEEN).trim_end().to_owned()
    };
    table.iter().map(line).collect()
}
