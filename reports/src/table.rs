// SPDX-License-Identifier: Apache-2.0
//! The summary as a plain text table, for the end of a bench on a terminal.

use std::collections::BTreeSet;

use record::{CaseRecord, Run, Status};

use crate::analysis::fidelity::{or_emulated, times_count};
use crate::analysis::number::{NONE, digits, one_line, percent, plural, time_or_none};
use crate::analysis::summary::{errors, status_word};
use crate::analysis::{group, kernel, lab, skip};
pub use crate::look::Look;

/// One row for each case, and the reasons of those that have no figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<(Status, Vec<String>)>,
    above: Vec<String>,
    under: Vec<String>,
}

/// First column that holds figures; those before it are names.
const NUMBERS_FROM: &str = "req/s";
const BETWEEN: &str = "  ";

impl Table {
    /// The table of some runs, in plan order.
    pub fn of(runs: &[Run]) -> Self {
        let mut head = vec!["mode", "cni", "route", "services", "workload", "status", NUMBERS_FROM];
        head.extend(["p50", "p99", "first packet p50", "joined", "errors"]);
        let guests = kernel::any_guest(runs);
        if guests {
            head.insert(0, "kernel");
        }
        let labs = runs.iter().flat_map(lab::of_run).collect::<BTreeSet<_>>().len() > 1;
        if labs {
            head.insert(0, "lab");
        }
        let several = runs.len() > 1;
        if several {
            head.insert(0, "run");
        }
        let mut rows = Vec::new();
        for run in runs {
            for case in &run.summary.cases {
                let mut row = row(case, times_count(run, case));
                if guests {
                    row.insert(0, one_line(&case.kernel));
                }
                if labs {
                    row.insert(0, one_line(&case.lab));
                }
                if several {
                    row.insert(0, one_line(&run.manifest.run_id));
                }
                rows.push((case.status, row));
            }
        }
        let mut above = Vec::new();
        if guests {
            above.extend(runs.iter().map(kernel::sentence).filter(|text| !text.is_empty()));
            let emulated =
                runs.iter().any(|run| run.summary.cases.iter().any(|case| !times_count(run, case)));
            if emulated {
                above.push("emulated: times of an emulated processor mean nothing".to_owned());
            }
        }
        Self { head, rows, above, under: under(runs) }
    }

    /// Lays it out. Every line ends with a newline. Where the table is wider than the terminal, what
    /// all cases have in common is told once above it instead.
    pub fn text(&self, look: Look) -> String {
        let mut table = self.clone();
        let mut out = String::new();
        for line in &self.above {
            out.push_str(&look.paint("1", line));
            out.push('\n');
        }
        if look.width.is_some_and(|width| self.width() > width) {
            out.push_str(&table.fold_common());
        }
        let widths = table.widths();
        out.push_str(&look.paint(
            "1",
            &table.line(&table.head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>(), &widths),
        ));
        out.push('\n');
        for (status, row) in &table.rows {
            let line = table.line(row, &widths);
            out.push_str(&match status {
                Status::Measured => line,
                Status::Skipped => look.paint("2", &line),
                Status::Failed => look.paint("31", &line),
            });
            out.push('\n');
        }
        if !table.under.is_empty() {
            out.push('\n');
        }
        for line in &table.under {
            out.push_str(line);
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|text| text.chars().count()).collect();
        for (_, row) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + BETWEEN.len() * widths.len().saturating_sub(1)
    }

    /// Takes out the names all rows have in common and returns a line that tells them.
    fn fold_common(&mut self) -> String {
        let mut told = Vec::new();
        let names = self.head.iter().position(|h| *h == NUMBERS_FROM).unwrap_or(0);
        for column in (0..names).rev() {
            let Some((_, first)) = self.rows.first() else { break };
            let value = first[column].clone();
            if self.rows.iter().all(|(_, row)| row[column] == value) {
                told.push(format!("{} {value}", self.head.remove(column)));
                for (_, row) in &mut self.rows {
                    row.remove(column);
                }
            }
        }
        told.reverse();
        if told.is_empty() { String::new() } else { format!("all cases: {}\n", told.join(", ")) }
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let numbers = self.head.iter().position(|h| *h == NUMBERS_FROM).unwrap_or(0);
        let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column >= numbers || self.head[column] == "services" {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        padded.collect::<Vec<_>>().join(BETWEEN).trim_end().to_owned()
    }
}

fn row(case: &CaseRecord, timed: bool) -> Vec<String> {
    let said = |text: String| {
        // A case without figures has none of an emulator either.
        or_emulated(timed || case.status != Status::Measured, text)
    };
    // A case that never got to its load has no errors of requests to count.
    let ran = case.status == Status::Measured || case.requests + case.errors > 0;
    vec![
        one_line(&case.mode),
        one_line(&case.cni),
        one_line(&case.route),
        case.services.to_string(),
        one_line(&case.workload),
        status_word(case.status).to_owned(),
        said(case.throughput_rps.map_or_else(|| NONE.to_owned(), digits)),
        said(time_or_none(case.latency_ns.map(|q| q.p50))),
        said(time_or_none(case.latency_ns.map(|q| q.p99))),
        said(time_or_none(case.first_packet_ns.map(|q| q.p50))),
        case.joined_ratio.map_or_else(|| NONE.to_owned(), percent),
        if ran { errors(case) } else { NONE.to_owned() },
    ]
}

fn under(runs: &[Run]) -> Vec<String> {
    let mut lines = Vec::new();
    for one in lab::labs(&group::groups(runs), runs) {
        let [first, second] = one.labs.map(one_line);
        for block in &one.blocks {
            lines.push(format!("lab {second} against {first}: {}", one_line(&block.title)));
            lines.push(format!("  {}", block.sentence(one.labs)));
        }
    }
    for skip in skip::skips(runs) {
        let cases = plural(skip.cases.len(), "case", "cases");
        lines.push(format!("skipped: {} ({cases})", one_line(&skip.modes.join(", "))));
        match skip.reason {
            Some(reason) => {
                lines.push(format!("  needs  {}", one_line(&reason.need)));
                lines.push(format!("  found  {}", one_line(&reason.found)));
                lines.push(format!("  try    {}", one_line(&reason.r#try)));
            }
            None => {
                lines.push("  the record gives no reason, which is a bug of nic2pod".to_owned())
            }
        }
    }
    for case in runs.iter().flat_map(|run| &run.summary.cases) {
        if let (Status::Failed, Some(failure)) = (case.status, &case.failure) {
            lines.push(format!("failed: {}", one_line(&case.id)));
            lines.push(format!("  {}", one_line(&failure.message)));
            // The tool's last words are the telling ones.
            let last = failure.stderr.as_deref().and_then(|text| text.trim_end().lines().last());
            lines.extend(last.map(|line| format!("  {}", one_line(line))));
        }
    }
    lines
}
