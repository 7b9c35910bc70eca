// SPDX-License-Identifier: Apache-2.0
//! The report's twin for pull requests and chats: headline, table, skips, top stages, host.

use std::fmt::Write;

use record::{CaseRecord, Leg, Run};

use crate::analysis::fidelity::{Notice, notices, or_emulated};
use crate::analysis::group::Group;
use crate::analysis::headline::headline;
use crate::analysis::lab::labs;
use crate::analysis::number::{
    NONE, digits, one_line, percent, plural, prose_list, ratio, time, time_or_none,
};
use crate::analysis::pair::matches;
use crate::analysis::probe::COUNTS;
use crate::analysis::slope::{Family, Part};
use crate::analysis::stage::{leg_mean_ns, of_leg};
use crate::analysis::summary::{errors, rows, status_word};
use crate::analysis::{host, kernel};
use crate::render::shell;
use crate::render::view::{
    CellView, CrossingsView, HostView, KERNEL_HEAD, LabsView, MatchView, PROBE_HEAD, Published,
    RowView, count_rows, failures, kernel_rows, probe_reasons, probe_rows, skips, views,
};

/// Stages named for each mode and leg.
const TOP_STAGES: usize = 3;

/// The whole text.
pub(crate) fn text(runs: &[Run], groups: &[Group<'_>], families: &[Family<'_>]) -> String {
    let mut out = String::new();
    push(&mut out, "# nic2pod\n");
    for sentence in headline(runs) {
        push(&mut out, &format!("{}\n", escape(&sentence)));
    }
    push(
        &mut out,
        &host::warning(runs).map(|w| format!("**More than one run.** {w}\n")).unwrap_or_default(),
    );
    for run in runs {
        let ran_on = kernel::sentence(run);
        if !ran_on.is_empty() {
            push(&mut out, &format!("> **Kernel.** {}\n", escape(&ran_on)));
        }
        for Notice { word, of, advice } in notices(run) {
            let (of, advice) = (escape(&of), escape(&advice));
            push(&mut out, &format!("> **Fidelity{of}: {word}.** {advice}\n"));
        }
        if let Some(how) = &run.manifest.interrupted {
            push(&mut out, &format!("> **Interrupted.** {}\n", escape(how)));
        }
    }
    profiles(&mut out, runs);
    summary(&mut out, groups);
    labs_compared(&mut out, runs, groups);
    kernels_compared(&mut out, runs, groups);
    refusals(&mut out, runs);
    slopes(&mut out, families);
    top_stages(&mut out, groups);
    per_case(&mut out, "## Counts of one request\n", &COUNTS, &count_rows(runs));
    probes(&mut out, runs);
    hosts(&mut out, runs);
    kernels(&mut out, runs);
    out
}

fn push(out: &mut String, block: &str) {
    if !block.is_empty() {
        out.push_str(block);
        out.push('\n');
    }
}

/// Appends a table; cells are escaped already.
pub(crate) fn table(out: &mut String, head: &[&str], align: &str, rows: &[Vec<String>]) {
    let rule = align.chars().map(|c| if c == 'r' { "---:" } else { "---" }).collect::<Vec<_>>();
    let _ = writeln!(out, "| {} |\n| {} |", head.join(" | "), rule.join(" | "));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out.push('\n');
}

/// What was asked, and how the profile says that its report is to be read.
fn profiles(out: &mut String, runs: &[Run]) {
    let mut told: Vec<String> = Vec::new();
    for host in runs.iter().map(HostView::new).filter(|host| !host.question.is_empty()) {
        let text = format!("**{}** {}", escape(&host.question), escape(&host.about));
        if !told.contains(&text) {
            push(out, &format!("{}\n", text.trim_end()));
            told.push(text);
        }
    }
}

fn summary(out: &mut String, groups: &[Group<'_>]) {
    push(out, "## Summary\n");
    let mut lines = Vec::new();
    for group in groups {
        for row in rows(group) {
            let case = row.case;
            let said = |text: String| or_emulated(row.timed, text);
            let with = |ns: Option<u64>, times: Option<f64>| match times {
                Some(times) => format!("{} ({})", time_or_none(ns), ratio(times)),
                None => said(time_or_none(ns)),
            };
            lines.push(vec![
                escape(&group.title),
                escape(&case.mode),
                status_word(case.status).to_owned(),
                said(case.throughput_rps.map_or_else(|| NONE.to_owned(), digits)),
                with(case.latency_ns.map(|q| q.p50), row.latency_ratio),
                said(time_or_none(case.latency_ns.map(|q| q.p99))),
                with(case.first_packet_ns.map(|q| q.p50), row.first_packet_ratio),
                case.joined_ratio.map_or_else(|| NONE.to_owned(), percent),
                escape(&errors(case)),
            ]);
        }
    }
    if lines.is_empty() {
        return push(out, "No case ran, so there are no figures.\n");
    }
    let head =
        ["case", "mode", "status", "req/s", "p50", "p99", "first packet p50", "joined", "errors"];
    table(out, &head, "lllrrrrrr", &lines);
    let mut baselines: Vec<String> =
        groups.iter().filter_map(|g| g.baseline.as_ref()).map(|b| escape(&b.label)).collect();
    baselines.sort_unstable();
    baselines.dedup();
    if !baselines.is_empty() {
        push(out, &format!("×1 is {}, all else being equal.\n", prose_list(&baselines)));
    }
}

fn labs_compared(out: &mut String, runs: &[Run], groups: &[Group<'_>]) {
    for one in labs(groups, runs).iter().map(|one| LabsView::new(one, runs.len() > 1)) {
        push(out, &format!("## Lab {}\n", escape(&one.title)));
        push(out, &format!("{}\n", escape(&one.caution)));
        let names = ["case", "mode"].map(str::to_owned);
        let head: Vec<String> =
            names.into_iter().chain(one.head.iter().map(|text| escape(text))).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let lines = one.blocks.iter().flat_map(|block| {
            block.rows.iter().map(|row| {
                let names = [&block.title, &row.mode].into_iter();
                names.chain(&row.cells).map(|text| escape(text)).collect()
            })
        });
        let lines: Vec<Vec<String>> = lines.collect();
        table(out, &head, &format!("ll{}", "r".repeat(one.head.len())), &lines);
        for block in &one.blocks {
            for ranking in &block.rankings {
                let (title, verdict) = (escape(&block.title), escape(&ranking.verdict));
                let _ = writeln!(out, "- {title}: modes by {}: {verdict}", ranking.by);
            }
            for origin in &block.origins {
                let _ = writeln!(out, "- {}: rules of {}", escape(&block.title), escape(origin));
            }
        }
        out.push('\n');
    }
}

fn kernels_compared(out: &mut String, runs: &[Run], groups: &[Group<'_>]) {
    for one in matches(groups, runs).iter().map(|one| MatchView::new(one, runs.len() > 1)) {
        push(out, &format!("## Kernel {}\n", escape(&one.title)));
        push(out, &format!("{}\n", escape(&one.caution)));
        let names = ["case", "mode"].map(str::to_owned);
        let head: Vec<String> =
            names.into_iter().chain(one.head.iter().map(|text| escape(text))).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let lines = one.blocks.iter().flat_map(|block| {
            block.rows.iter().map(|row| {
                let names = [&block.title, &row.mode].into_iter();
                names.chain(&row.cells).map(|text| escape(text)).collect()
            })
        });
        let lines: Vec<Vec<String>> = lines.collect();
        table(out, &head, &format!("ll{}", "r".repeat(one.head.len())), &lines);
    }
}

fn refusals(out: &mut String, runs: &[Run]) {
    let skips = skips(runs);
    if !skips.is_empty() {
        push(out, "## Skipped\n");
        let row = |s: &crate::render::view::SkipView| {
            [&s.modes, &s.cases, &s.need, &s.found, &s.remedy].map(|text| escape(text)).to_vec()
        };
        let lines: Vec<_> = skips.iter().map(row).collect();
        table(out, &["mode", "cases", "needs", "found", "try"], "lllll", &lines);
    }
    let failures = failures(runs);
    if !failures.is_empty() {
        push(out, "## Failed\n");
        for failure in failures {
            let _ = writeln!(out, "- **{}**: {}", escape(&failure.id), escape(&failure.message));
        }
        out.push('\n');
    }
}

fn slopes(out: &mut String, families: &[Family<'_>]) {
    if families.is_empty() {
        return;
    }
    push(out, "## Cost of each further Service\n");
    let mut lines = Vec::new();
    for family in families {
        for view in
            [Part::P50, Part::P90, Part::P99].into_iter().flat_map(|part| views(family, part))
        {
            for line in &view.lines {
                let with = |text: &str, interval: &str| match interval {
                    "" => text.to_owned(),
                    interval => format!("{text} ({interval})"),
                };
                lines.push(vec![
                    escape(&family.title),
                    escape(&view.name),
                    escape(&line.mode),
                    line.position.to_owned(),
                    with(&line.slope, &line.slope_interval),
                    with(&line.per_rule, &line.per_rule_interval),
                    line.intercept.clone(),
                    line.r2.clone(),
                ]);
            }
        }
    }
    let head = ["cases", "time", "mode", "place", "per Service", "per rule", "at 0 Services", "R²"];
    table(out, &head, "llllrrrr", &lines);
    push(
        out,
        "In brackets: 95 % confidence. Place: where the measured Service stands among the others.\n",
    );
    for family in families {
        for crossings in CrossingsView::of(family) {
            for sentence in crossings.found.iter().chain(&crossings.none) {
                let (title, sentence) = (escape(&family.title), escape(sentence));
                let _ = writeln!(out, "- {title}: crossings in {}: {sentence}", crossings.name);
            }
        }
    }
    out.push('\n');
    published(out);
}

fn published(out: &mut String) {
    let Published { first_packets, source, per_service } = Published::new();
    push(out, "### Published, iptables\n");
    let rows: Vec<_> = first_packets.iter().map(|row| row.to_vec()).collect();
    table(out, &["Services", "first packet p50", "p90", "p99"], "rrrr", &rows);
    push(out, &format!("{}\n", escape(source)));
    let rows: Vec<_> =
        per_service.iter().map(|row| row.iter().map(|text| escape(text)).collect()).collect();
    table(out, &["per Service", "how", "source"], "rll", &rows);
}

fn top_stages(out: &mut String, groups: &[Group<'_>]) {
    let mut lines = Vec::new();
    for group in groups {
        for case in group.timed().filter(|case| !case.stages.is_empty()) {
            lines.push(vec![
                escape(&group.title),
                escape(&case.mode),
                largest(case, Leg::Request),
                largest(case, Leg::Response),
            ]);
        }
    }
    if !lines.is_empty() {
        push(out, "## Largest stages (means)\n");
        table(out, &["case", "mode", "request leg", "response leg"], "llll", &lines);
    }
}

fn largest(case: &CaseRecord, leg: Leg) -> String {
    let mut stages: Vec<_> = of_leg(case, leg).collect();
    stages.sort_by(|a, b| b.mean_ns.total_cmp(&a.mean_ns));
    let named = stages.iter().take(TOP_STAGES);
    let named: Vec<String> =
        named.map(|s| format!("{} {}", escape(&s.name), time(s.mean_ns))).collect();
    if named.is_empty() {
        return NONE.to_owned();
    }
    format!("{} of {}", named.join(", "), time(leg_mean_ns(case, leg)))
}

fn per_case<const N: usize>(out: &mut String, title: &str, head: &[&str; N], rows: &[RowView<N>]) {
    if rows.is_empty() {
        return;
    }
    push(out, title);
    let head: Vec<&str> = std::iter::once("case").chain(head.iter().copied()).collect();
    let cell = |cell: &CellView| match cell.small.as_str() {
        "" => escape(&cell.text),
        small => format!("{} ({})", escape(&cell.text), escape(small)),
    };
    let line = |row: &RowView<N>| {
        std::iter::once(escape(&row.id)).chain(row.cells.iter().map(cell)).collect()
    };
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    table(out, &head, &format!("l{}", "r".repeat(N)), &lines);
}

fn probes(out: &mut String, runs: &[Run]) {
    per_case(out, "## Probes\n", &PROBE_HEAD, &probe_rows(runs));
    for one in probe_reasons(runs) {
        let cases = plural(one.cases, "case", "cases");
        let (engine, reason) = (escape(&one.engine), escape(&one.reason));
        push(out, &format!("Engine {engine} in {cases}: {reason}\n"));
    }
}

fn hosts(out: &mut String, runs: &[Run]) {
    push(out, "## Host\n");
    for run in runs {
        let manifest = &run.manifest;
        let _ = writeln!(
            out,
            "- Run {}, {}: {}; seed {}, revision {}, {}. Made by: {}",
            escape(&manifest.run_id),
            escape(&manifest.started_at),
            escape(&host::line(run)),
            manifest.seed,
            escape(manifest.revision.as_deref().unwrap_or("unknown")),
            plural(run.summary.cases.len(), "case", "cases"),
            escape(&shell::command(&manifest.command)),
        );
    }
}

fn kernels(out: &mut String, runs: &[Run]) {
    let row = |row: [String; 11]| row.map(|text| escape(&text)).to_vec();
    let rows: Vec<_> = runs.iter().flat_map(kernel_rows).map(row).collect();
    if !rows.is_empty() {
        push(out, "\n## Kernels\n");
        table(out, &KERNEL_HEAD, "llllllllrrr", &rows);
    }
}

/// Text that markdown shows as it is: no markup, no HTML, no end of the cell or line.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_cell_or_start_markup() {
        assert_eq!(escape("a|b\n*c* <img> `d` [e](f)"), r"a\|b \*c\* &lt;img&gt; \`d\` \[e\](f)");
    }
}
