// SPDX-License-Identifier: Apache-2.0
//! `gate --benches`: the project's own hot paths, by criterion, of two revisions in turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use reports::judge::comparison::Times;
use reports::judge::looks::looks;
use reports::judge::metric::{Kind, Metric, Replicates, Series};
use reports::judge::{Comparison, Terms, judge};
use serde::Deserialize;

use crate::cargo::cargo;
use crate::cli::GateArgs;
use crate::compare::commit::{Commit, cache, target};
use crate::compare::{self, Judged, UsageError};
use crate::exit::Exit;

/// Bench programs, by package; those of labs need root and a quiet machine, and are left to people.
const PROGRAMS: [(&str, &str); 4] =
    [("workloads", "recording"), ("harness", "join"), ("harness", "render"), ("reports", "report")];
/// Benches that are judged, as criterion's filter: one of each hot path, since every one more takes
/// from the others' share of the budget.
const FILTER: &str = "^recorder/record$|^join/local/new/1000000$|^render/nftables/10000$|^report/";

/// Builds the benches of two revisions and compares their medians.
pub(super) fn judged(args: &GateArgs) -> Result<Judged> {
    let terms = compare::terms(&args.compare.judge)?;
    let [a, b] = args.compare.rev.as_slice() else {
        bail!(UsageError("--benches wants two revisions: --rev HEAD~1 --rev HEAD".into()));
    };
    let commits = [Commit::find(a)?, Commit::find(b)?];
    let programs = [build(&commits[0])?, build(&commits[1])?];
    let scratch = tempfile::tempdir().context("failed to make a folder for the runs")?;
    let mut medians: [Vec<BTreeMap<String, f64>>; 2] = [Vec::new(), Vec::new()];
    let budget = args.compare.judge.budget.0;
    let (began, mut at) = (Instant::now(), Vec::new());
    loop {
        let pairs = medians[0].len();
        let order = if pairs.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for side in order {
            medians[side]
                .push(once(&programs[side], &scratch.path().join(format!("{pairs}-{side}")))?);
        }
        let pairs = medians[0].len();
        let elapsed = began.elapsed();
        let per_pair = elapsed / u32::try_from(pairs).unwrap_or(u32::MAX);
        if at.is_empty() {
            let fit = budget.as_nanos() / per_pair.as_nanos().max(1);
            at = looks(usize::try_from(fit).unwrap_or(usize::MAX).clamp(2, 10_000));
        }
        let last = elapsed + per_pair > budget || at.last().is_some_and(|&last| pairs >= last);
        if last || at.contains(&pairs) {
            let terms = Terms { looks: at.len() as u32, ..terms };
            let comparison = judge_medians(&commits, &medians, &terms);
            if last || !comparison.is_undecided() {
                return Ok(Judged { comparisons: vec![comparison], terms, ended: Exit::Ok });
            }
        }
    }
}

fn judge_medians(
    commits: &[Commit; 2],
    medians: &[Vec<BTreeMap<String, f64>>; 2],
    terms: &Terms,
) -> Comparison {
    let side = |index: usize| {
        let blocks = &medians[index];
        let names: std::collections::BTreeSet<&String> =
            blocks.iter().flat_map(BTreeMap::keys).collect();
        let series = names.into_iter().map(|name| Series {
            metric: Metric { kind: Kind::Time, name: name.clone() },
            values: blocks.iter().map(|block| block.get(name).copied()).collect(),
        });
        Replicates {
            label: commits[index].label(),
            blocks: blocks.len(),
            series: series.collect(),
            errors: 0,
            requests: 0,
        }
    };
    judge("benches", &side(0), &side(1), terms, &Times::Judged)
}

/// Runs a revision's benches once, shortly: the block is the replicate, and there are many.
fn once(programs: &[PathBuf], home: &Path) -> Result<BTreeMap<String, f64>> {
    for program in programs {
        let output = Command::new(program)
            .args(["--bench", "--noplot", "--quick"])
            .args(["--warm-up-time", "0.1", "--measurement-time", "0.3", FILTER])
            .env("CRITERION_HOME", home)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("failed to start {}", program.display()))?;
        ensure!(
            output.status.success(),
            "{} failed ({}): {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let mut medians = BTreeMap::new();
    collect(home, &mut medians)?;
    std::fs::remove_dir_all(home).context("failed to remove what criterion wrote")?;
    ensure!(!medians.is_empty(), "no bench has a name that is judged");
    Ok(medians)
}

/// What criterion writes beside its samples, as far as it is needed.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
}

/// Reads `**/new/{benchmark,estimates}.json`: nanoseconds of one iteration, by the bench's name.
fn collect(folder: &Path, medians: &mut BTreeMap<String, f64>) -> Result<()> {
    let read = |path: PathBuf| {
        std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?
    {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            let estimates: Estimates = serde_json::from_slice(&read(path.join("estimates.json"))?)?;
            let bench: Benchmark = serde_json::from_slice(&read(path.join("benchmark.json"))?)?;
            medians.insert(bench.full_id, estimates.median.point_estimate);
        } else {
            collect(&path, medians)?;
        }
    }
    Ok(())
}

/// A line of `cargo bench --message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds a revision's bench programs, or finds them in the user's cache.
fn build(commit: &Commit) -> Result<Vec<PathBuf>> {
    let folder = cache()?.join(format!("{}-benches", commit.short));
    let kept = || -> Vec<PathBuf> { PROGRAMS.iter().map(|(_, name)| folder.join(name)).collect() };
    if kept().iter().all(|program| program.exists()) {
        return Ok(kept());
    }
    eprintln!("building the benches of {}", commit.label());
    let scratch = tempfile::tempdir().context("failed to make a folder for the sources")?;
    let sources = commit.export(scratch.path())?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    // All at once: of each package alone, cargo would build the dependencies with other features.
    let wanted =
        PROGRAMS.iter().flat_map(|(package, name)| ["--package", package, "--bench", name]);
    let output = cargo()
        .args(["bench", "--locked", "--quiet", "--no-run", "--message-format=json"])
        .args(wanted)
        .current_dir(&sources)
        // One for all revisions: what they depend on is built once.
        .env("CARGO_TARGET_DIR", target()?)
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    ensure!(output.status.success(), "the benches of {} do not build", commit.label());
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let programs: BTreeMap<String, PathBuf> = messages
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| Some((message.target?, message.executable?)))
        // Other programs of the packages are built beside their benches.
        .filter(|(target, _)| target.kind == ["bench"])
        .map(|(target, program)| (target.name, program))
        .collect();
    for (_, name) in PROGRAMS {
        let Some(built) = programs.get(name) else {
            bail!("cargo named no program of bench {name}")
        };
        let part = folder.join(format!("{name}.part"));
        std::fs::copy(built, &part).context("failed to keep the program that was built")?;
        std::fs::rename(&part, folder.join(name))
            .context("failed to keep the program that was built")?;
    }
    Ok(kept())
}
