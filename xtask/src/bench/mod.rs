// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: profile to plan, plan to record, record to report.

mod manifest;
mod overrides;
mod terminal;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::Cancel;
use harness::lab::Lab;
use harness::lab::fake::FakeLab;
use harness::lab::netns::NetnsBeds;
use harness::net::privilege;
use harness::plan::{HOST_KERNEL, Plan, Profile};
use record::{Run, RunWriter, Status, Summary};

use self::manifest::Made;
use self::terminal::Terminal;
use crate::cli::{BenchArgs, LabKind};
use crate::exit::Exit;
use crate::packages;

/// Runs the command.
pub(crate) fn run(args: BenchArgs) -> Result<Exit> {
    let profile = overrides::profile(&args)?;
    let plan = Plan::new(&profile, &[HOST_KERNEL])?;
    // Before the process leaves the host's network: installing needs it.
    let privilege = match args.lab {
        LabKind::Fake => "none".to_owned(),
        LabKind::Netns => {
            packages::supply(&packages::for_modes(&profile.matrix.mode), args.yes)?;
            privilege::enter_private_namespaces()?.to_string()
        }
    };
    let cancel = Cancel::default();
    stop_on_signal(cancel.clone(), "taking the lab down")?;
    let made = Made::new(&profile, &privilege);
    let dir = out_dir(&args, &made.run_id);
    let lab = lab(&args, &profile)?;
    let summary = Summary {
        schema_version: record::SCHEMA_VERSION,
        run_id: made.run_id.clone(),
        fidelity: made.fidelity,
        cases: Vec::new(),
    };
    let mut writer = RunWriter::create(&dir, &made.manifest, summary)?;
    let mut terminal = Terminal::new(&profile);
    harness::run::run(&profile, &plan, lab.as_ref(), &mut writer, &mut terminal, &cancel)?;
    drop(lab);
    let interrupted = cancel.requested();
    writer.write_manifest(&made.ended(interrupted.then(|| "Ctrl-C".to_owned())))?;
    finish(&args, &dir, interrupted)
}

fn lab(args: &BenchArgs, profile: &Profile) -> Result<Box<dyn Lab>> {
    Ok(match args.lab {
        LabKind::Fake => Box::new(FakeLab::new(profile)),
        LabKind::Netns => {
            let program = std::env::current_exe().context("failed to find this program's file")?;
            Box::new(NetnsBeds::new(profile, &program, args.pcap)?)
        }
    })
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
