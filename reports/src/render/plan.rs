// SPDX-License-Identifier: Apache-2.0
//! Which charts a report has, from what is in the record.

use std::f64::consts::LOG10_2;

use record::{Histogram, IterationRecord, Leg, Quantiles, Run, StageRecord};

use crate::analysis::curve::curve;
use crate::analysis::group::{Group, Series, groups};
use crate::analysis::kernel;
use crate::analysis::number::{prose_list, shorten};
use crate::analysis::slope::{Family, Line, Metric, Part, Point, families};
use crate::analysis::stage::{of_leg, of_the_ends, rows};
use crate::render::chart::{
    Along, Bar, Chart, Curve, Fitted, LatencyChart, PlotChart, Quantity, Row, SERIES_MAX, Spot,
    Spread, StagePart, StagesChart, ThroughputChart, Trail,
};
use crate::render::palette;
use crate::render::pen::Dash;

/// Columns a latency curve is thinned to: about one for four canvas pixels.
const CURVE_COLUMNS: usize = 250;
/// Longest name lettered in a chart; the tables have it whole.
const NAME_MAX: usize = 28;

/// Longest line under a chart's title; what is too wide for its canvas is cut there.
const TITLE_MAX: usize = 120;

/// Lines over Services that one chart draws: every mode at every position.
const LINES_MAX: usize = 18;
/// Pieces that a fitted line is drawn in.
const FIT_STEPS: u32 = 48;

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
    let of_families = families
        .iter()
        .flat_map(|family| charted(family).into_iter().map(move |metric| services(family, metric)));
    of_families.chain(of_groups).collect()
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
                mode: one.case.mode.clone(),
                colour: palette::mode(&one.case.mode),
                spreads: spreads(&one.case.iterations, &histogram),
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
             a curve ends at its slowest request, and its last step rests on few of them. Strokes reach \
             from the least to the most of the iterations.{missing}"
        ),
        chart: if curves.is_empty() {
            Err(format!("no case has a latency histogram ({})", without.join("; ")))
        } else {
            Ok(Chart::Latency(LatencyChart { subtitle: shorten(&group.title, TITLE_MAX), curves }))
        },
    }
}

/// The percentiles that iterations keep, as far as the histogram can tell them from its largest value.
fn spreads(iterations: &[IterationRecord], histogram: &Histogram) -> Vec<Spread> {
    let of = |name, nines: f64, q, of: fn(&Quantiles) -> u64| {
        let values = iterations.iter().filter_map(|i| i.latency_ns.as_ref().map(of));
        let values: Vec<u64> = values.collect();
        let range_ns = match (values.iter().min(), values.iter().max()) {
            (Some(least), Some(most)) if values.len() > 1 => Some((*least, *most)),
            _ => None,
        };
        let enough = nines <= (histogram.count() as f64).log10();
        enough.then(|| Some(Spread { name, nines, ns: histogram.quantile(q)?, range_ns })).flatten()
    };
    let all = [
        of("p50", LOG10_2, 0.5, |q| q.p50),
        of("p90", 1.0, 0.9, |q| q.p90),
        of("p99", 2.0, 0.99, |q| q.p99),
        of("p99.9", 3.0, 0.999, |q| q.p999),
    ];
    all.into_iter().flatten().collect()
}

fn throughput(group: &Group<'_>, series: &[Series<'_>]) -> Planned {
    let usable = |rps: &f64| rps.is_finite() && *rps >= 0.0;
    let bars = series.iter().filter_map(|one| {
        Some(Bar {
            label: shorten(&one.label, NAME_MAX),
            mode: one.case.mode.clone(),
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
    let part = |stage: &StageRecord| StagePart {
        name: shorten(&stage.name, 64),
        mean_ns: if stage.mean_ns.is_finite() { stage.mean_ns.max(0.0) } else { 0.0 },
    };
    let leg = |one: &Series<'_>, leg| -> Vec<StagePart> {
        of_leg(one.case, leg).filter(|stage| wanted(&stage.name)).map(part).collect()
    };
    let bars: Vec<Row> = series
        .iter()
        .map(|one| Row {
            label: shorten(&one.label, NAME_MAX),
            mode: one.case.mode.clone(),
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

/// The times of a family that are drawn; at least one, since a family has a line.
pub(crate) fn charted(family: &Family<'_>) -> Vec<Metric> {
    let has = |metric: &Metric| family.of(*metric, Part::P50).next().is_some();
    let mut metrics: Vec<Metric> = [Metric::FirstPacket, Metric::Latency, Metric::PerRequest]
        .into_iter()
        .filter(has)
        .collect();
    if metrics.is_empty() {
        metrics.extend([Metric::Connect, Metric::Install].into_iter().find(has));
    }
    metrics
}

fn services(family: &Family<'_>, metric: Metric) -> Planned {
    let (title, y_title, quantity) = match metric {
        Metric::FirstPacket => (
            "First packet of a new connection against Services",
            "median first packet, entry node's first interface to pod",
            Quantity::Time,
        ),
        Metric::Connect => {
            ("Connecting against Services", "median connect() to connected", Quantity::Time)
        }
        Metric::Latency => (
            "Latency of a new connection's request against Services",
            "median latency from the intended send time",
            Quantity::Time,
        ),
        Metric::PerRequest => {
            ("Throughput against Services", "new connections' requests per second", Quantity::Rate)
        }
        Metric::Install => {
            ("Full install against Services", "programming all Services", Quantity::Time)
        }
    };
    let of_rate = "The curve is what the straight line through 1 / throughput makes of it";
    let of_time = "A straight line bends on a logarithmic axis";
    let key = &family.key;
    let run = if key.run > 0 { format!("run{}-", key.run + 1) } else { String::new() };
    let kernel = kernel_part(key.kernel).map(|label| label + "-").unwrap_or_default();
    let variant = if key.variant.is_empty() { String::new() } else { format!("{}-", key.variant) };
    let what = match metric {
        Metric::FirstPacket => String::new(),
        other => format!("{}-", other.name().replace(' ', "").replace("1/", "")),
    };
    Planned {
        name: format!(
            "services-{what}{run}{kernel}{}-{}-{variant}{}",
            key.cni, key.route, key.workload
        ),
        alt: format!("{title}, one line per proxy mode, for {}", family.title),
        caption: format!(
            "{} A level line means that Services cost nothing. Dots are medians of all requests, strokes \
             reach from the least to the most of the iterations, and the shade is the fit’s 95 % \
             confidence. {}; the upright axis starts at zero.{}",
            if metric == Metric::PerRequest { "Higher is better." } else { "Lower is better." },
            if metric == Metric::PerRequest { of_rate } else { of_time },
            if family.positions() {
                " Solid lines have the measured Service last among the others, dashed ones in the \
                 middle, dotted ones first."
            } else {
                ""
            },
        ),
        chart: Ok(Chart::Plot(PlotChart {
            title: title.to_owned(),
            subtitle: shorten(&family.title, TITLE_MAX),
            x_title: "Services programmed",
            y_title: y_title.to_owned(),
            along: Along::Services,
            quantity,
            trails: family
                .of(metric, Part::P50)
                .take(LINES_MAX)
                .map(|line| trail(line, family.positions()))
                .collect(),
        })),
    }
}

fn trail(line: &Line, positions: bool) -> Trail {
    // Throughput is drawn as itself, and fitted as its inverse.
    let rate = line.metric == Metric::PerRequest;
    let shown = |ns: f64| if rate { 1e9 / ns } else { ns };
    let between = |(a, b): (f64, f64)| {
        let (a, b) = (shown(a), shown(b));
        (a.min(b), a.max(b))
    };
    let spots = line.points.iter().map(|point| {
        let least = point.replicates.iter().copied().fold(f64::MAX, f64::min);
        let most = point.replicates.iter().copied().fold(f64::MIN, f64::max);
        let range = (point.replicates.len() > 1).then(|| between((least, most)));
        Spot { x: f64::from(point.services), y: shown(point.ns), range, changed: false }
    });
    let fitted = |x: f64| {
        // A time of zero or less, which noise can put into an interval, has no rate.
        let band = line.fit.interval_at(x).filter(|(low, _)| !rate || *low > 0.0).map(between);
        Fitted { x, y: shown(line.fit.at(x)), band }
    };
    let name = shorten(&line.mode, NAME_MAX);
    Trail {
        label: if positions { format!("{name}, {}", line.position) } else { name },
        mode: line.mode.clone(),
        colour: palette::mode(&line.mode),
        dash: match line.position {
            "first" => Dash::Dotted,
            "middle" => Dash::Dashed,
            _ => Dash::Solid,
        },
        spots: spots.collect(),
        fit: places(line).map(fitted).filter(|f| f.y.is_finite() && f.y >= 0.0).collect(),
    }
}

/// Service counts at which a fitted line is drawn: evenly over a logarithmic axis.
fn places(line: &Line) -> impl Iterator<Item = f64> {
    let ends = (line.points.first(), line.points.last());
    let of = |point: Option<&Point>| point.map_or(1.0, |point| f64::from(point.services.max(1)));
    let (from, to) = (of(ends.0), of(ends.1));
    (0..=FIT_STEPS).map(move |i| from * (to / from).powf(f64::from(i) / f64::from(FIT_STEPS)))
}
