// SPDX-License-Identifier: Apache-2.0
//! Comparisons as JUnit XML, which CI systems show: a suite a comparison, a test a metric.

use std::fmt::Write;

use super::value::{p, ratio, value};
use crate::judge::comparison::{Comparison, Row, Times, Word};

/// The document. What may not be judged, and what stays undecided, is a skipped test: neither passed.
pub fn junit(comparisons: &[Comparison]) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"nic2pod\">\n");
    for comparison in comparisons {
        let rows: Vec<&Row> = comparison.gating().collect();
        let failed = comparison.regressions().count();
        let skipped = rows.iter().filter(|row| skipped(row)).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\">",
            attribute(&comparison.title),
            rows.len()
        );
        for row in rows {
            test(&mut out, comparison, row);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn skipped(row: &Row) -> bool {
    matches!(row.word, Word::Undecided | Word::NotJudged)
}

fn test(out: &mut String, comparison: &Comparison, row: &Row) {
    let said = format!(
        "{}: A {}, B {}, B / A {}, p {}",
        row.word,
        value(row.metric.kind, row.a),
        value(row.metric.kind, row.b),
        ratio(row),
        p(row)
    );
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\"",
        attribute(&comparison.title),
        attribute(&row.metric.name)
    );
    let body = match (row.word.is_regression(), row.word, &comparison.times) {
        (true, ..) => format!("<failure message=\"{}\"/>", attribute(&said)),
        (_, Word::NotJudged, Times::NotJudged(why)) => {
            format!("<skipped message=\"{}\"/>", attribute(why))
        }
        _ if skipped(row) => format!("<skipped message=\"{}\"/>", attribute(&said)),
        _ => format!("<system-out>{}</system-out>", attribute(&said)),
    };
    let _ = writeln!(out, ">{body}</testcase>");
}

/// Text that may stand in an attribute or between tags. Characters that XML 1.0 cannot carry (section
/// 2.2) become the replacement character.
fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
