// SPDX-License-Identifier: Apache-2.0
//! The history of a folder of runs: a page and its markdown twin.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use askama::Template;
use record::Run;

use crate::ReportError;
use crate::analysis::change::{EFFECT_MIN, LEVEL, SIDE_MIN};
use crate::analysis::number::{plural, ratio, shorten};
use crate::history::{Found, Hosted, Metric, Over, Series, find, hosts, overs};
use crate::render::chart::{Along, Chart, PlotChart, Quantity, Spot, Trail};
use crate::render::figure::{Figure, draw};
use crate::render::markdown::{escape, table};
use crate::render::pen::Dash;
use crate::render::plan::Planned;
use crate::render::script::{POLICY, SCRIPT};
use crate::render::{io, palette, pen, write};

/// What [`history`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The page.
    pub html: PathBuf,
    /// Its markdown twin.
    pub markdown: PathBuf,
    /// Runs that are in it.
    pub runs: usize,
    /// Runs that could not be read; the page says why.
    pub unreadable: usize,
}

/// Draws every metric of every case over the runs in `dir`, into `out_dir`, which is made if need be.
///
/// # Errors
/// The folder cannot be read, or the disk refuses. Runs that cannot be read are listed on the page.
pub fn history(dir: &Path, out_dir: &Path) -> Result<History, ReportError> {
    pen::load_fonts()?;
    let found = find(dir)?;
    fs::create_dir_all(out_dir).map_err(io("create", out_dir))?;
    let views: Vec<HostedView> = hosts(&found.runs).iter().map(HostedView::new).collect();
    let page = Page::new(&found, views);
    let made = History {
        html: out_dir.join("history.html"),
        markdown: out_dir.join("history.md"),
        runs: found.runs.len(),
        unreadable: found.unreadable.len(),
    };
    let html = page.render().map_err(|source| ReportError::Template { source })?;
    write(&made.html, &html)?;
    write(&made.markdown, &page.markdown())?;
    Ok(made)
}

#[derive(Template)]
#[template(path = "history.html")]
struct Page {
    policy: &'static str,
    script: &'static str,
    lead: String,
    method: String,
    hosts: Vec<HostedView>,
    /// Folder and reason.
    unreadable: Vec<(String, String)>,
    version: &'static str,
}

/// Runs of one machine, kernel and profile.
struct HostedView {
    title: String,
    runs: String,
    changes: Vec<ChangeView>,
    cases: Vec<CaseView>,
    counts: String,
}

/// A change of level.
struct ChangeView {
    run: String,
    mode: String,
    colour: String,
    case: String,
    metric: &'static str,
    before: String,
    after: String,
    ratio: String,
    p: String,
}

/// Charts of cases that differ only by mode.
struct CaseView {
    title: String,
    figures: Vec<Figure>,
}

impl Page {
    fn new(found: &Found, hosts: Vec<HostedView>) -> Self {
        let changes: usize = hosts.iter().map(|host| host.changes.len()).sum();
        let changes = match changes {
            0 => "No level changed".to_owned(),
            n => format!("{} of level", plural(n, "change", "changes")),
        };
        let runs = plural(found.runs.len(), "run", "runs");
        let unread = match found.unreadable.len() {
            0 => String::new(),
            n => format!(
                " {} could not be read; the reasons are at the foot.",
                plural(n, "run", "runs")
            ),
        };
        let unreadable =
            found.unreadable.iter().map(|one| (one.dir.display().to_string(), one.reason.clone()));
        Self {
            policy: &POLICY,
            script: &SCRIPT,
            lead: format!("{changes} in {runs}.{unread}"),
            method: format!(
                "Counts are exact: every difference from the run before is marked. Times and rates are \
                 marked where the figures before and after a place differ in rank by so much that at most \
                 one in {LEVEL} random orders of the same runs does, the medians are at least {} % apart, \
                 and {SIDE_MIN} runs or more stand on either side; both parts are then looked at in the \
                 same way. No shape of the noise is assumed, but that the machine was the same throughout: \
                 a machine that drifts is marked too. Only runs of the same processor, memory, kernel, \
                 rights and profile stand on one line. A mark is a reason to look, not a verdict, which \
                 needs both sides interleaved in one run.",
                ((EFFECT_MIN - 1.0) * 100.0).round()
            ),
            hosts,
            unreadable: unreadable.collect(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn markdown(&self) -> String {
        let mut out = format!("# nic2pod: history\n\n{}\n\n", escape(&self.lead));
        for host in &self.hosts {
            let _ = writeln!(out, "## {}\n\n{}\n", escape(&host.title), escape(&host.runs));
            let row = |c: &ChangeView| {
                let texts =
                    [&c.run, &c.case, &c.mode, c.metric, &c.before, &c.after, &c.ratio, &c.p];
                texts.map(escape).to_vec()
            };
            let rows: Vec<_> = host.changes.iter().map(row).collect();
            if !rows.is_empty() {
                let head = ["run", "case", "mode", "metric", "before", "after", "ratio", "p"];
                table(&mut out, &head, "llllrrrr", &rows);
            }
            let _ = writeln!(out, "{}\n", escape(&host.counts));
        }
        if !self.unreadable.is_empty() {
            out.push_str("## Not read\n\n");
            for (dir, reason) in &self.unreadable {
                let _ = writeln!(out, "- {}: {}", escape(dir), escape(reason));
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{}", escape(&self.method));
        out
    }
}

/// A run as an axis names it: day, time and revision.
fn name(run: &Run) -> String {
    let started = run.manifest.started_at.get(5..16).unwrap_or_default().replace('T', " ");
    match &run.manifest.revision {
        Some(revision) => format!("{started} {}", shorten(revision, 8)),
        None => started,
    }
}

impl HostedView {
    fn new(hosted: &Hosted<'_>) -> Self {
        let overs = overs(hosted);
        let names: Vec<String> = hosted.runs.iter().map(|run| name(run)).collect();
        let changes = overs.iter().flat_map(|over| changes(hosted, over));
        let mut titles: Vec<&str> = overs.iter().map(|over| over.title.as_str()).collect();
        titles.dedup();
        let case = |title: &&str| {
            let of = overs.iter().filter(|over| over.title == *title && charted(over));
            let planned: Vec<Planned> = of.map(|over| plan(over, &names)).collect();
            CaseView { title: (*title).to_owned(), figures: draw(planned, None) }
        };
        let level = overs.iter().filter(|over| over.metric.counted() && !charted(over)).count();
        let first =
            hosted.runs.first().map(|run| run.manifest.started_at.as_str()).unwrap_or_default();
        let last =
            hosted.runs.last().map(|run| run.manifest.started_at.as_str()).unwrap_or_default();
        Self {
            title: hosted.title.clone(),
            runs: format!("{} from {first} to {last}", plural(hosted.runs.len(), "run", "runs")),
            changes: changes.collect(),
            cases: titles.iter().map(case).filter(|case| !case.figures.is_empty()).collect(),
            counts: match level {
                0 => String::new(),
                n => format!(
                    "{} of exact counts never changed and have no chart.",
                    plural(n, "series", "series")
                ),
            },
        }
    }
}

/// Counts that never change are a sentence and not a chart.
fn charted(over: &Over) -> bool {
    !over.metric.counted() || over.series.iter().any(|series| !series.changes.is_empty())
}

fn quantity(metric: Metric) -> Quantity {
    match metric {
        Metric::Throughput => Quantity::Rate,
        metric if metric.counted() => Quantity::Count,
        _ => Quantity::Time,
    }
}

fn changes<'a>(hosted: &'a Hosted<'_>, over: &'a Over) -> impl Iterator<Item = ChangeView> + 'a {
    let view = move |series: &'a Series| {
        series.changes.iter().map(move |change| {
            let text = |value| quantity(over.metric).text(value);
            let made = hosted.runs[series.points[change.at].run];
            ChangeView {
                run: format!("{} ({})", made.manifest.run_id, name(made)),
                mode: series.mode.clone(),
                colour: palette::css(palette::mode(&series.mode)),
                case: over.title.clone(),
                metric: over.metric.name(),
                before: text(change.before),
                after: text(change.after),
                ratio: if change.before > 0.0 { ratio(change.ratio()) } else { String::new() },
                p: if over.metric.counted() {
                    "exact".to_owned()
                } else {
                    format!("{:.4}", change.p)
                },
            }
        })
    };
    over.series.iter().flat_map(view)
}

fn plan(over: &Over, names: &[String]) -> Planned {
    let trail = |series: &Series| Trail {
        label: shorten(&series.mode, 28),
        mode: series.mode.clone(),
        colour: palette::mode(&series.mode),
        dash: Dash::Solid,
        spots: series
            .points
            .iter()
            .enumerate()
            .map(|(place, point)| Spot {
                x: point.run as f64,
                y: point.value,
                range: point.range,
                changed: series.changes.iter().any(|change| change.at == place),
            })
            .collect(),
        fit: Vec::new(),
    };
    Planned {
        name: format!("history-{}-{}", over.metric.name(), over.title),
        alt: format!(
            "{} over runs, one line per proxy mode, for {}",
            over.metric.name(),
            over.title
        ),
        caption:
            "The upright axis starts at zero. Strokes reach from the least to the most of the \
                  iterations; an upright line marks a change of level."
                .to_owned(),
        chart: Ok(Chart::Plot(PlotChart {
            title: over.metric.name().to_owned(),
            subtitle: shorten(&over.title, 120),
            x_title: "run",
            y_title: over.metric.name().to_owned(),
            along: Along::Names(names.to_vec()),
            quantity: quantity(over.metric),
            trails: over.series.iter().map(trail).collect(),
        })),
    }
}
