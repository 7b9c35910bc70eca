// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: profile to plan, plan to record, record to report.

#[cfg(feature = "kind")]
pub(crate) mod clusters;
mod ground;
mod manifest;
pub(crate) mod overrides;
mod terminal;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::Cancel;
use harness::plan::{HOST_KERNEL, Plan};
use record::{Run, RunWriter, Status, Summary};

use self::ground::Grounds;
use self::manifest::Made;
use self::terminal::Terminal;
use crate::cli::{BenchArgs, LabKind};
use crate::exit::Exit;
use crate::feature;

/// Runs the command.
pub(crate) fn run(args: BenchArgs) -> Result<Exit> {
    let profile = overrides::profile(&args)?;
    // What is wrong with the matrix is said before anything is installed or booted.
    Plan::new(&profile, &[HOST_KERNEL])?;
    let clusters = [LabKind::Kind, LabKind::Kubeconfig];
    if let Some(exit) = feature::kind(args.lab.iter().any(|lab| clusters.contains(lab)))? {
        return Ok(exit);
    }
    let run_id = manifest::run_id();
    let grounds = Grounds::new(&args, &profile, &run_id)?;
    let plans = grounds
        .labs()
        .map(|ground| Ok((ground, ground.order(Plan::new(&profile, &ground.labels())?))))
        .collect::<Result<Vec<_>>>()?;
    if let Some(reason) = grounds.reason() {
        eprintln!("{reason}");
    }
    let cancel = Cancel::default();
    stop_on_signal(cancel.clone(), "taking the lab down")?;
    let made = Made::new(&profile, &grounds, run_id);
    let dir = out_dir(&args, &made.run_id);
    let summary = Summary {
        schema_version: record::SCHEMA_VERSION,
        run_id: made.run_id.clone(),
        fidelity: made.fidelity,
        cases: Vec::new(),
    };
    let mut writer = RunWriter::create(&dir, &made.manifest, summary)?;
    let mut terminal = Terminal::new(&profile);
    let mut outcome = Ok(());
    for (ground, plan) in &plans {
        // A record that cannot be written must not leave a cluster up.
        outcome = outcome.and_then(|()| {
            harness::run::run(&profile, plan, ground.lab(), &mut writer, &mut terminal, &cancel)
        });
    }
    let (kernels, missed_a_kernel) = (grounds.kernels(), grounds.missed_a_kernel());
    drop(plans);
    for message in grounds.down() {
        eprintln!("warning: {message}");
    }
    outcome?;
    let interrupted = cancel.requested();
    writer.write_manifest(&made.ended(interrupted.then(|| "Ctrl-C".to_owned()), kernels))?;
    let exit = finish(&args, &dir, interrupted)?;
    // Nothing ran because a kernel that was asked for could not: the record has its last lines.
    let nothing = matches!(exit, Exit::NothingRan | Exit::Failed) && !any_measured(&dir)?;
    Ok(if nothing && missed_a_kernel { Exit::Unavailable } else { exit })
}

fn any_measured(dir: &Path) -> Result<bool> {
    let run = Run::open(dir)?;
    Ok(run.summary.cases.iter().any(|case| case.status == Status::Measured))
}

fn out_dir(args: &BenchArgs, run_id: &str) -> PathBuf {
    args.out.clone().unwrap_or_else(|| crate::root::workspace().join("reports/runs").join(run_id))
}

/// Draws the report, prints what was asked for, and chooses the exit code.
fn finish(args: &BenchArgs, dir: &Path, interrupted: bool) -> Result<Exit> {
    let run = Run::open(dir)?;
    let rendered = reports::render(std::slice::from_ref(&run), dir)?;
    if args.json {
        let path = dir.join("summary.json");
        let mut file =
            File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
        std::io::copy(&mut file, &mut std::io::stdout().lock())
            .context("failed to print the summary")?;
    } else {
        println!("{}", terminal::table(&run));
    }
    eprintln!("report: {}", rendered.html.display());
    if interrupted {
        let cases = run.summary.cases.len();
        eprintln!("stopped by Ctrl-C: the lab is down, {cases} cases are kept");
        return Ok(Exit::Interrupted);
    }
    let count = |status| run.summary.cases.iter().filter(|case| case.status == status).count();
    Ok(match (count(Status::Measured), count(Status::Failed)) {
        (_, failed) if failed > 0 => Exit::Failed,
        (0, _) => Exit::NothingRan,
        _ => Exit::Ok,
    })
}

/// A thread waits for SIGINT and SIGTERM, says what it is `doing` about them, and asks for a stop
/// through `cancel`, which the run looks at between two steps. A second
/// signal ends the process at once: nothing of the lab outlives it.
pub(crate) fn stop_on_signal(cancel: Cancel, doing: &'static str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the signal thread")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if cancel.requested() {
                        std::process::exit(i32::from(Exit::Interrupted as u8));
                    }
                    eprintln!("stopping: {doing} (once more to stop at once)");
                    cancel.request();
                }
            });
        })
        .context("failed to start the signal thread")?;
    Ok(())
}
