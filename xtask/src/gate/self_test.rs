// SPDX-License-Identifier: Apache-2.0
//! `gate --self-test`: how often this machine's gate cries wolf, and which slowdowns it catches.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::plan::{Case, Plan, Profile};
use harness::units::Span;
use record::{CaseRecord, Run, Status};
use reports::judge::metric::Replicates;
use reports::judge::power::{PowerCurve, PowerLine, PowerPoint, try_out};
use reports::judge::{Terms, ratio};

use crate::bench::{self, overrides};
use crate::cli::{BenchArgs, GateArgs};
use crate::compare::{self, UsageError};
use crate::exit::Exit;

/// Slowdowns that are injected, percent of the median latency.
const SLOWDOWNS: [u64; 4] = [1, 2, 5, 10];
/// Budgets that are tried, seconds.
const BUDGETS: [u64; 2] = [60, 180];
/// Most pairs of blocks that a run is taken to have, where blocks take no time.
const PAIRS_MAX: usize = 500;
/// Blocks that tell how long a request takes, before anything is injected.
const PILOT_BLOCKS: u32 = 3;

/// Measures one case beside itself and beside slower selves, and tries the gate out on the blocks.
pub(super) fn run(args: &GateArgs) -> Result<Exit> {
    let terms = compare::terms(&args.compare.judge)?;
    let bench = &args.compare.bench;
    let mut profile = overrides::profile(bench, "gate")?;
    profile.matrix.mode.truncate(1);
    profile.run.unprobed = false;
    let [workload] = profile.matrix.workload.as_slice() else {
        bail!(UsageError("--self-test tries one workload out: --workload NAME".into()));
    };
    let workload = workload.clone();
    profile.run.blocks = PILOT_BLOCKS;
    let pilot = child(bench, &profile)?;
    let Some(p50_ns) = pilot.latency_ns.map(|latency| latency.p50) else {
        bail!("the pilot run answered no request");
    };
    inject(&mut profile, &workload, p50_ns);
    profile.run.blocks = 10_000;
    let budget = args.compare.judge.budget.0;
    let (mut began, mut blocks, mut seconds) = (Instant::now(), 0, 0.0);
    let plan = |plan: Plan| with_slower_selves(plan);
    let measured = bench::measure(bench, &profile, &plan, &mut |progress| {
        blocks += 1;
        if blocks == 1 {
            began = Instant::now();
            return false;
        }
        seconds = began.elapsed().as_secs_f64() / f64::from(blocks - 1);
        began.elapsed() + Duration::from_secs_f64(seconds) > budget || progress.len() < 2
    })?;
    if measured.interrupted {
        return Ok(Exit::Interrupted);
    }
    let run = Run::open(&measured.dir)?;
    let cases: Vec<&CaseRecord> =
        run.summary.cases.iter().filter(|case| case.status == Status::Measured).collect();
    if cases.len() != SLOWDOWNS.len() + 2 {
        bail!("{} of {} cases were measured", cases.len(), SLOWDOWNS.len() + 2);
    }
    // A comparison of two has two sides' blocks to make, where this run had six.
    let per_pair = seconds * 2.0 / cases.len() as f64;
    let curve = curve(&cases, per_pair, args.runs, &terms);
    println!("{}", told(&curve, &cases, per_pair, &terms));
    reports::render(std::slice::from_ref(&run), &measured.dir)?;
    let chart = measured.dir.join("power.png");
    reports::render_power(&curve, &chart)?;
    eprintln!("report: {}", measured.dir.join("report.html").display());
    eprintln!("power curve: {}", chart.display());
    Ok(Exit::Ok)
}

/// A short run of the case alone, in a process of its own: a lab cannot be had twice in one.
fn child(args: &BenchArgs, profile: &Profile) -> Result<CaseRecord> {
    let scratch = tempfile::tempdir()?;
    let (file, out) = (scratch.path().join("pilot.toml"), scratch.path().join("run"));
    std::fs::write(&file, profile.resolved())?;
    let mut command = std::process::Command::new(crate::kernels::program()?);
    command.args(["bench", "--json", "--profile"]).arg(&file).arg("--out").arg(&out);
    command.args(compare::lab_flag(&BenchArgs { out: None, ..args.clone() })?);
    let output = command.output()?;
    if !output.status.success() {
        bail!("the pilot run failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let run = Run::open(&out)?;
    let Some(case) = run.summary.cases.into_iter().find(|case| case.status == Status::Measured)
    else {
        bail!("the pilot run measured nothing");
    };
    Ok(case)
}

/// Workloads that are the first one again, and that one with work for the server.
fn inject(profile: &mut Profile, name: &str, p50_ns: u64) {
    let Some(plain) = profile.workload.get(name).cloned() else { return };
    for percent in injected() {
        let mut slower = plain.clone();
        let work_ns = slower.server_work.nanos() + p50_ns * percent / 100;
        slower.server_work = Span(Duration::from_nanos(work_ns));
        profile.workload.insert(slower_name(name, percent), slower);
    }
}

fn slower_name(workload: &str, percent: u64) -> String {
    format!("{workload}-plus-{percent}")
}

fn with_slower_selves(mut plan: Plan) -> Plan {
    for group in &mut plan.groups {
        let first = group.cases[0].clone();
        let others = injected().map(|percent| Case {
            workload: slower_name(&first.workload, percent),
            ..first.clone()
        });
        group.cases.extend(others);
    }
    plan
}

/// Tries the gate out with every budget on every slowdown.
fn curve(cases: &[&CaseRecord], per_pair: f64, runs: u32, terms: &Terms) -> PowerCurve {
    let sides = replicates(cases);
    let (a, others) = sides.split_first().expect("there are six");
    let line = |budget_s: u64| {
        let pairs = (budget_s as f64 / per_pair).floor() as usize;
        let pairs = pairs.clamp(ratio::BLOCKS_MIN, PAIRS_MAX);
        let point = |(percent, b): (u64, &Replicates)| {
            let tried = try_out(a, b, pairs, runs, terms, percent == 0);
            // Without a difference every word is an alarm, faster ones too.
            let of = if percent == 0 { tried.alarms } else { tried.p50_slower };
            PowerPoint { injected_percent: percent as f64, share: tried.share(of) }
        };
        PowerLine { budget_s, pairs, points: injected().zip(others).map(point).collect() }
    };
    let lines = BUDGETS.into_iter().map(line).collect();
    PowerCurve { case: cases[0].id.as_str().to_owned(), runs, lines }
}

fn injected() -> impl Iterator<Item = u64> {
    std::iter::once(0).chain(SLOWDOWNS)
}

fn replicates(cases: &[&CaseRecord]) -> Vec<Replicates> {
    cases.iter().map(|case| Replicates::of_case(case.id.as_str(), case)).collect()
}

/// The curve as a table.
fn told(curve: &PowerCurve, cases: &[&CaseRecord], per_pair: f64, terms: &Terms) -> String {
    let sides = replicates(cases);
    let (a, others) = sides.split_first().expect("there are six");
    let mut lines = vec![format!(
        "{}: {} blocks of each of {} cases, {per_pair:.2} s for a pair of blocks\n\
         {} runs are drawn from these for every figure; each has the looks, the correction and the \
         minimum effect ({:.0} %) of the gate",
        curve.case,
        a.blocks,
        cases.len(),
        curve.runs,
        terms.minimum_effect * 100.0
    )];
    let mut head = format!("{:>9}  {:>26}", "injected", "measured (p50, interval)");
    for line in &curve.lines {
        let _ = write!(
            head,
            "  {:<46}",
            format!("slower in {} s ({} pairs)", line.budget_s, line.pairs)
        );
    }
    lines.push(head);
    for (row, (percent, b)) in injected().zip(others).enumerate() {
        let mut text = format!("{percent:>7} %  {:>26}", measured(a, b, terms));
        for line in &curve.lines {
            let word = if percent == 0 { "false alarms" } else { "caught" };
            let _ = write!(text, "  {:<46}", shown(line.points[row].share, word));
        }
        lines.push(text);
    }
    lines.join("\n")
}

fn shown(share: [f64; 3], word: &str) -> String {
    let [share, low, high] = share.map(|share| share * 100.0);
    let bar = "#".repeat((share / 10.0).round() as usize);
    format!("{bar:10} {share:5.1} % {word} ({low:.1} to {high:.1})")
}

/// What the injected work did to the median, with the interval over all blocks.
fn measured(a: &Replicates, b: &Replicates, terms: &Terms) -> String {
    let p50 = |side: &Replicates| {
        let series = side.series.iter().find(|series| series.metric.name == "latency p50");
        series.map(|series| series.values.clone()).unwrap_or_default()
    };
    let pairs = p50(a).into_iter().zip(p50(b));
    let logs: Vec<f64> = pairs.filter_map(|(a, b)| Some((b? / a?).ln())).collect();
    ratio::paired(&logs, terms.alpha, terms.seed).map_or_else(
        || "too few blocks".to_owned(),
        |ratio| {
            let percent = |ratio: f64| (ratio - 1.0) * 100.0;
            format!(
                "{:+.1} % ({:+.1} to {:+.1})",
                percent(ratio.estimate),
                percent(ratio.low),
                percent(ratio.high)
            )
        },
    )
}
