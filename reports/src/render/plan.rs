// SPDX-License-Identifier: Apache-2.0
//! Which charts a report has, from what is in the record.

use record::{Leg, Run, StageRecord};

use crate::analysis::curve::curve;
use crate::analysis::group::{Group, Series, groups};
use crate::analysis::kernel;
use crate::analysis::number::{prose_list, shorten};
use crate::analysis::slope::{Family, Line, Metric, families};
use crate::analysis::stage::{of_leg, of_the_ends, rows};
use crate::render::chart::{
    Bar, Chart, Curve, LatencyChart, Part, Row, SERIES_MAX, ServicesChart, StagesChart,
    ThroughputChart,
};
use crate::render::palette;

/// Columns a latency curve is thinned to: about one for four canvas pixels.
const CURVE_COLUMNS: usize = 250;
/// Longest name lettered in a chart; the tables have it whole.
const NAME_MAX: usize = 28;

/// Longest line under a chart's title; what is too wide for its canvas is cut there.
const TITLE_MAX: usize = 120;

/// A chart to draw, or why there is none.
pub(crate) struct Planned {
    /// What it shows, for its file's name.
    pub(crate) name: String,
    /// What it shows, for readers who do not see it.
    pub(crate) alt: String,
    /// What to know when reading it.
    pub(crate) caption: String,
    pub(crate) chart: Result<Chart, String>,
}

/// Groups of cases, and the families over Service counts.
pub(crate) fn plan(runs: &[Run]) -> (Vec<Group<'_>>, Vec<Family<'_>>) {
    (groups(runs), families(runs))
}

/// Charts of a group with times.
pub(crate) const CHARTS_PER_GROUP: usize = 4;

/// Charts of a family come first, then [`CHARTS_PER_GROUP`] for each group with times: cases
/// that were measured on a processor that is not emulated.
pub(crate) fn figures(groups: &[Group<'_>], families: &[Family<'_>]) -> Vec<Planned> {
    let of_groups = groups.iter().filter(|g| g.timed().count() > 0).flat_map(|group| {
        let mut series = group.series();
        series.truncate(SERIES_MAX);
        let charts: [Planned; CHARTS_PER_GROUP] = [
            latency(group, &series),
            throughput(group, &series),
            stages(group, &series),
            datapath(group, &series),
        ];
        charts
    });
    families.iter().map(services).chain(of_groups).collect()
}

/// A file name's stem: what, where.
fn name(what: &str, group: &Group<'_>) -> String {
    let key = &group.key;
    let mut parts = vec![what.to_owned()];
    if key.run > 0 {
        parts.push(format!("run{}", key.run + 1));
    }
    parts.extend(kernel_part(key.kernel));
    parts.extend([key.cni.to_owned(), key.route.to_owned(), format!("svc-{}", key.services)]);
    parts.extend((!key.variant.is_empty()).then(|| key.variant.clone()));
    parts.push(key.workload.to_owned());
    parts.join("-")
}

/// The kernel in a file's name, where it is not the host's.
fn kernel_part(label: &str) -> Option<String> {
    (label != kernel::HOST).then(|| label.to_owned())
}

fn latency(group: &Group<'_>, series: &[Series<'_>]) -> Planned {
    let mut curves = Vec::new();
    let mut without = Vec::new();
    for one in series {
        match group.run.histogram(&one.case.id, "latency") {
            Ok(Some(histogram)) if !histogram.is_empty() => curves.push(Curve {
                label: shorten(&one.label, NAME_MAX),
                colour: palette::mode(&one.case.mode),
                points: curve(&histogram, CURVE_COLUMNS),
            }),
            Ok(_) => without.push(format!("{}: no latency histogram in the record", one.label)),
            Err(error) => without.push(format!("{}: {error}", one.label)),
        }
    }
    let missing = if without.is_empty() {
        String::new()
    } else {
        format!(" Not drawn: {}.", without.join("; "))
    };
    Planned {
        name: name("latency", group),
        alt: format!("Latency by percentile, one curve per proxy mode, for {}", group.title),
        caption: format!(
            "Lower is better. Every nine has the same width, so the tail is as readable as the middle; \
             a curve ends at its slowest request, and its last step rests on few of them.{missing}"
        ),
        chart: if curves.is_empty() {
            Err(format!("no case has a latency histogram ({})", without.join("; ")))
        } else {
            Ok(Chart::Latency(LatencyChart { subtitle: shorten(&group.title, TITLE_MAX), curves }))
        },
    }
}

fn throughput(group: &Group<'_>, series: &[Series<'_>]) -> Planned {
    let usable = |rps: &f64| rps.is_finite() && *rps >= 0.0;
    let bars = series.iter().filter_map(|one| {
        Some(Bar {
            label: shorten(&one.label, NAME_MAX),
            colour: palette::mode(&one.case.mode),
            rps: one.case.throughput_rps.filter(usable)?,
            iterations_rps: one
                .case
                .iterations
                .iter()
                .map(|i| i.throughput_rps)
                .filter(usable)
                .collect(),
        })
    });
    let bars: Vec<Bar> = bars.collect();
    Planned {
        name: name("throughput", group),
        alt: format!("Requests per second by proxy mode, for {}", group.title),
        caption: "Higher is better. Dots are iterations in the order they ran; where they \
                  scatter more than two bars differ, the bars do not differ."
            .to_owned(),
        chart: if bars.is_empty() {
            Err("no case of this group has a throughput".to_owned())
        } else {
            Ok(Chart::Throughput(ThroughputChart {
                subtitle: shorten(&group.title, TITLE_MAX),
                bars,
            }))
        },
    }
}

fn stages(group: &Group<'_>, series: &[Series<'_>]) -> Planned {
    let without: Vec<String> =
        series.iter().filter(|s| s.case.stages.is_empty()).map(|s| s.label.clone()).collect();
    let missing = match without.as_slice() {
        [] => String::new(),
        some => format!(" No stages were recorded for {}.", prose_list(some)),
    };
    let chart = stacked("Where the time goes", group, series, |_| true);
    Planned {
        name: name("stages", group),
        alt: format!(
            "Mean time in each stage, stacked, per proxy mode and leg, for {}",
            group.title
        ),
        caption: format!(
            "Means, because means of stages add up to the mean of the leg and medians do not; a few slow \
             requests weigh on them. What the stages leave unexplained is the residual in the table below.{missing}"
        ),
        chart: chart.ok_or_else(|| {
            "no case of this group has stages: its probes saw only the client's calls".to_owned()
        }),
    }
}

/// The same without the stages of client and server, which are long and alike in every mode and
/// would press what the modes and CNIs differ in into a few pixels.
fn datapath(group: &Group<'_>, series: &[Series<'_>]) -> Planned {
    let title = "The network's part";
    Planned {
        name: name("datapath", group),
        alt: format!(
            "Mean time in each stage outside client and server, stacked, per proxy mode and leg, for {}",
            group.title
        ),
        caption: "The chart above without the stages that pass in the client (connect, handover, \
                  client_tx, client_rx, body) and in which the server is woken and works (wakeup, app), \
                  on a scale of its own. What connecting costs the node is in the first packet, not \
                  here."
            .to_owned(),
        chart: stacked(title, group, series, |stage| !of_the_ends(stage))
            .ok_or_else(|| "no case of this group has stages of the network".to_owned()),
    }
}

/// Bars of the stages wanted; none where no case has any.
fn stacked(
    title: &'static str,
    group: &Group<'_>,
    series: &[Series<'_>],
    wanted: fn(&str) -> bool,
) -> Option<Chart> {
    let part = |stage: &StageRecord| Part {
        name: shorten(&stage.name, 64),
        mean_ns: if stage.mean_ns.is_finite() { stage.mean_ns.max(0.0) } else { 0.0 },
    };
    let leg = |one: &Series<'_>, leg| -> Vec<Part> {
        of_leg(one.case, leg).filter(|stage| wanted(&stage.name)).map(part).collect()
    };
    let bars: Vec<Row> = series
        .iter()
        .map(|one| Row {
            label: shorten(&one.label, NAME_MAX),
            request: leg(one, Leg::Request),
            response: leg(one, Leg::Response),
        })
        .filter(|row| !row.request.is_empty() || !row.response.is_empty())
        .collect();
    let mut legend: Vec<String> = Vec::new();
    for row in rows(series).iter().filter(|row| wanted(row.name)) {
        let name = shorten(row.name, 64);
        if !legend.contains(&name) {
            legend.push(name);
        }
    }
    let subtitle = shorten(&group.title, 120);
    (!bars.is_empty()).then_some(Chart::Stages(StagesChart { title, subtitle, rows: bars, legend }))
}

fn services(family: &Family<'_>) -> Planned {
    let metric = Metric::ALL.into_iter().find(|m| family.lines.iter().any(|l| l.metric == *m));
    let metric = metric.expect("a family has at least one line, and a line has a metric");
    let lines = family.lines.iter().filter(|line| line.metric == metric).take(SERIES_MAX);
    let lines: Vec<Line> =
        lines.map(|l| Line { mode: shorten(&l.mode, NAME_MAX), ..l.clone() }).collect();
    let (title, y_title) = match metric {
        Metric::FirstPacket => (
            "First packet of a new connection against Services",
            "median first packet, node's NIC to pod",
        ),
        Metric::Connect => ("Connecting against Services", "median connect() to connected"),
        Metric::Latency => {
            ("Latency of a new connection's request against Services", "median latency")
        }
    };
    let key = &family.key;
    let run = if key.run > 0 { format!("run{}-", key.run + 1) } else { String::new() };
    let kernel = kernel_part(key.kernel).map(|label| label + "-").unwrap_or_default();
    let variant = if key.variant.is_empty() { String::new() } else { format!("{}-", key.variant) };
    Planned {
        name: format!("services-{run}{kernel}{}-{}-{variant}{}", key.cni, key.route, key.workload),
        alt: format!("{title}, one line per proxy mode, for {}", family.title),
        caption: "Lower is better, and a level line means that Services cost nothing. Both axes start at \
                  zero. The slopes are in the table."
            .to_owned(),
        chart: Ok(Chart::Services(ServicesChart {
            title: title.to_owned(),
            subtitle: shorten(&family.title, TITLE_MAX),
            y_title,
            lines,
        })),
    }
}
