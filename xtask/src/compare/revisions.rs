// SPDX-License-Identifier: Apache-2.0
//! Two git revisions of this project: both are built, and their runs take turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use record::{CaseRecord, Run, Status};
use reports::analysis::fidelity;
use reports::judge::comparison::Times;
use reports::judge::looks::looks;
use reports::judge::metric::Replicates;
use reports::judge::{Comparison, Terms, judge};

use super::commit::{Commit, cache, target};
use super::{Judged, UsageError, lab_flag};
use crate::bench::{overrides, stop_on_signal};
use crate::cargo::cargo;
use crate::cli::CompareArgs;
use crate::exit::Exit;

/// A revision that is built.
struct Revision {
    commit: Commit,
    program: PathBuf,
}

/// Runs are the replicates: each makes its lab anew, and A B, B A take turns.
pub(super) fn compare(args: &CompareArgs, names: [&String; 2], terms: Terms) -> Result<Judged> {
    lab_flag(&args.bench)?;
    // Both are looked up before the first is built: that takes minutes.
    let [a, b] = [Commit::find(names[0])?, Commit::find(names[1])?];
    let both = [build(a, args)?, build(b, args)?];
    let scratch = tempfile::tempdir().context("failed to make a folder for the runs")?;
    let profile = profile(args, scratch.path())?;
    let cancel = harness::Cancel::default();
    stop_on_signal(cancel.clone(), "ending after the run under way")?;
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    let began = Instant::now();
    let budget = args.judge.budget.0;
    let mut at = Vec::new();
    loop {
        let pairs = runs[0].len();
        let order = if pairs.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for side in order {
            let out = scratch.path().join(format!("{pairs}-{side}"));
            let run = once(&both[side], &profile, args, &out)?;
            // Only its figures are kept: hundreds of runs are compared, not their histograms.
            std::fs::remove_dir_all(&out).context("failed to remove a run that was read")?;
            runs[side].push(run);
        }
        let pairs = runs[0].len();
        let elapsed = began.elapsed();
        let per_pair = elapsed / u32::try_from(pairs).unwrap_or(u32::MAX);
        if at.is_empty() {
            let fit = budget.as_nanos() / per_pair.as_nanos().max(1);
            at = looks(usize::try_from(fit).unwrap_or(usize::MAX).clamp(2, 10_000));
        }
        eprintln!("{pairs} pairs of runs, {} s of {} s", elapsed.as_secs(), budget.as_secs());
        let last = cancel.requested()
            || elapsed + per_pair > budget
            || at.last().is_some_and(|&last| pairs >= last);
        if last || at.contains(&pairs) {
            let terms = Terms { looks: at.len() as u32, ..terms };
            let comparisons = judge_all(&both, &runs, &terms)?;
            if last || comparisons.iter().all(|comparison| !comparison.is_undecided()) {
                let ended = if cancel.requested() { Exit::Interrupted } else { Exit::Ok };
                return Ok(Judged { comparisons, terms, ended });
            }
        }
    }
}

/// The profile that both revisions run, flags laid over it, in a file: a run has one block, since each
/// is a replicate.
fn profile(args: &CompareArgs, folder: &Path) -> Result<PathBuf> {
    let mut profile = overrides::profile(&args.bench, "gate")?;
    profile.run.blocks = 1;
    profile.run.unprobed = false;
    // Those that are not asked for may say what an older revision does not know.
    let asked = &profile.matrix.workload;
    profile.workload.retain(|name, _| asked.contains(name));
    let path = folder.join("profile.toml");
    std::fs::write(&path, profile.resolved()).context("failed to write the profile")?;
    Ok(path)
}

/// One run of a revision.
fn once(revision: &Revision, profile: &Path, args: &CompareArgs, out: &Path) -> Result<Run> {
    let mut command = Command::new(&revision.program);
    command.arg("bench").arg("--profile").arg(profile).arg("--out").arg(out).arg("--json");
    command.args(lab_flag(&args.bench)?);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start {}", revision.program.display()))?;
    let run = Run::open(out);
    match (run, output.status.success()) {
        (Ok(run), true) => Ok(run),
        _ => bail!(
            "the run of {} failed ({}): {}",
            revision.commit.label(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

fn judge_all(both: &[Revision; 2], runs: &[Vec<Run>; 2], terms: &Terms) -> Result<Vec<Comparison>> {
    let by_id = |runs: &'_ [Run]| {
        let mut cases: BTreeMap<String, Vec<(bool, CaseRecord)>> = BTreeMap::new();
        for run in runs {
            for case in run.summary.cases.iter().filter(|case| case.status == Status::Measured) {
                let timed = fidelity::times_count(run, case);
                cases.entry(case.id.clone()).or_default().push((timed, case.clone()));
            }
        }
        cases
    };
    let (of_a, of_b) = (by_id(&runs[0]), by_id(&runs[1]));
    let whole = |cases: &BTreeMap<String, Vec<(bool, CaseRecord)>>, runs: usize| {
        cases.values().all(|case| case.len() == runs)
    };
    if !of_a.keys().eq(of_b.keys())
        || !whole(&of_a, runs[0].len())
        || !whole(&of_b, runs[1].len())
        || of_a.is_empty()
    {
        bail!(UsageError(format!(
            "the revisions do not measure the same cases in every run: {} and {}",
            list(&of_a),
            list(&of_b)
        )));
    }
    Ok(of_a
        .iter()
        .map(|(id, a)| {
            let b = &of_b[id];
            let timed = a.iter().chain(b).all(|(timed, _)| *timed);
            let times = match timed {
                true => Times::Judged,
                false => Times::NotJudged("the kernel's processor is emulated".to_owned()),
            };
            let label = |side: usize| both[side].commit.label();
            let of_a = Replicates::of_runs(label(0), a.iter().map(|(_, case)| case));
            let of_b = Replicates::of_runs(label(1), b.iter().map(|(_, case)| case));
            judge(id, &of_a, &of_b, terms, &times)
        })
        .collect())
}

fn list<T>(cases: &BTreeMap<String, T>) -> String {
    if cases.is_empty() {
        return "none".to_owned();
    }
    cases.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// Builds a revision in a folder of the user's cache, where its next comparison finds it.
fn build(commit: Commit, args: &CompareArgs) -> Result<Revision> {
    let profile = args.cargo_profile.as_str();
    let folder = cache()?.join(format!("{}-{profile}", commit.short));
    let program = folder.join("xtask");
    if !program.exists() {
        eprintln!("building {}", commit.label());
        let scratch = tempfile::tempdir().context("failed to make a folder for the sources")?;
        let sources = commit.export(scratch.path())?;
        // Both revisions share what they depend on alike.
        let target = target()?;
        let status = cargo()
            .args(["build", "--locked", "--quiet", "--package", "xtask", "--profile", profile])
            .current_dir(&sources)
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .context("failed to start cargo")?;
        anyhow::ensure!(status.success(), "{} does not build ({status})", commit.label());
        let built = target.join(if profile == "dev" { "debug" } else { profile }).join("xtask");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        // Whole or not at all: a copy cut short must not be taken for the program.
        let part = folder.join("xtask.part");
        std::fs::copy(&built, &part).context("failed to keep the program that was built")?;
        std::fs::rename(&part, &program).context("failed to keep the program that was built")?;
    }
    Ok(Revision { commit, program })
}
