// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask gate`: a comparison whose outcome is an exit code.

pub(crate) mod baseline;
mod benches;
mod self_test;

use anyhow::{Context, Result, bail};
use record::Run;
use reports::judge::metric::{Replicates, comparable};
use reports::judge::say;

use crate::bench;
use crate::cli::{BenchArgs, GateArgs};
use crate::compare::{self, Judged, UsageError, output, records};
use crate::exit::Exit;

/// Runs the command.
pub(crate) fn run(args: &GateArgs) -> Result<Exit> {
    if args.self_test {
        return self_test::run(args);
    }
    let judged = match args.compare.rev.as_slice() {
        _ if args.benches => benches::judged(args)?,
        [] => against_baseline(args)?,
        [_, _] => compare::judge(&args.compare)?,
        _ => bail!(UsageError("--rev wants two revisions: --rev main --rev HEAD".into())),
    };
    if judged.ended != Exit::Ok {
        // A run that was cut short says nothing of what it left out, and a part of a verdict is none.
        eprintln!("no verdict: the measuring did not end well");
        return Ok(judged.ended);
    }
    output::write(&judged, &args.compare.judge.output, args.compare.bench.json)?;
    let regressions: usize =
        judged.comparisons.iter().map(|comparison| comparison.regressions().count()).sum();
    let judgements: usize =
        judged.comparisons.iter().map(|comparison| comparison.gating().count()).sum();
    eprintln!("gate: {regressions} regressions in {judgements} metrics");
    Ok(if regressions > 0 { Exit::Regression } else { Exit::Ok })
}

/// A run against a baseline: one that was made, or one that is made now with the baseline's profile.
fn against_baseline(args: &GateArgs) -> Result<Judged> {
    let terms =
        reports::judge::Terms { paired: false, looks: 1, ..compare::terms(&args.compare.judge)? };
    let a = baseline::open(&args.baseline)?;
    let (b, ended) = match args.compare.sides.as_slice() {
        [run] => (Run::open(run)?, Exit::Ok),
        [] => measure(&a, &args.compare.bench)?,
        _ => bail!(UsageError("one run is held against the baseline".into())),
    };
    figures(&b, args)?;
    let comparisons = if ended == Exit::Ok { records::runs(&a, &b, &terms)? } else { Vec::new() };
    Ok(Judged { comparisons, terms, ended })
}

/// Makes the baseline's run again.
fn measure(baseline: &Run, args: &BenchArgs) -> Result<(Run, Exit)> {
    let file =
        tempfile::Builder::new().suffix(".toml").tempfile().context("failed to make a file")?;
    std::fs::write(file.path(), &baseline.manifest.profile).context("failed to write a profile")?;
    let args =
        BenchArgs { profile: Some(file.path().to_string_lossy().into_owned()), ..args.clone() };
    let profile = bench::overrides::profile(&args, "gate")?;
    let measured = bench::measure(&args, &profile, &|plan| plan, &mut |_| false)?;
    let run = Run::open(&measured.dir)?;
    reports::render(std::slice::from_ref(&run), &measured.dir)?;
    eprintln!("report: {}", measured.dir.join("report.html").display());
    let failed = run.summary.cases.iter().any(|case| case.status == record::Status::Failed);
    let ended = match (measured.interrupted, failed) {
        (true, _) => Exit::Interrupted,
        (_, true) => Exit::Failed,
        _ => Exit::Ok,
    };
    Ok((run, ended))
}

/// Writes the figures of the run under test for other tools.
fn figures(run: &Run, args: &GateArgs) -> Result<()> {
    let measured = run.summary.cases.iter().filter(|case| comparable(case));
    let cases: Vec<Replicates> =
        measured.map(|case| Replicates::of_case(case.id.as_str(), case)).collect();
    if let Some(path) = &args.bencher {
        output::file(path, &format!("{:#}\n", say::bencher(&cases)))?;
    }
    if let Some(path) = &args.gobench {
        output::file(path, &say::gobench(&cases))?;
    }
    if let Some(path) = &args.openmetrics {
        output::file(path, &say::openmetrics(&cases))?;
    }
    Ok(())
}
