// SPDX-License-Identifier: Apache-2.0
//! Regressions as annotations of GitHub Actions: workflow commands on standard output.

use super::value::{ratio, value};
use crate::judge::comparison::Comparison;

/// One `::error` line for each regression, and a `::notice` where times could not be judged.
pub fn github(comparisons: &[Comparison]) -> String {
    let mut lines = Vec::new();
    for comparison in comparisons {
        for row in comparison.regressions() {
            let kind = row.metric.kind;
            let said = format!(
                "{} is {}: {} -> {}, {}",
                row.metric.name,
                row.word,
                value(kind, row.a),
                value(kind, row.b),
                ratio(row)
            );
            let title = property(&comparison.title);
            lines.push(format!("::error title={title}::{}", data(&said)));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Escapes as the runner's toolkit does (actions/toolkit, `command.ts`).
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
