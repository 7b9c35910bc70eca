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
use harness::plan::{Engine, HOST_KERNEL, Plan, Profile};
use harness::run::Enough;
use record::{Run, RunWriter, Status, Summary};

use self::ground::Grounds;
use self::manifest::Made;
use self::terminal::Terminal;
use crate::cli::{BenchArgs, LabKind};
use crate::compare::UsageError;
use crate::exit::Exit;
use crate::feature;

/// Runs the command.
pub(crate) fn run(args: BenchArgs) -> Result<Exit> {
    let profile = overrides::profile(&args, "default")?;
    // Before the feature is looked for: a wrong matrix is no reason to build.
    Plan::new(&profile, &[HOST_KERNEL])?;
    if let Some(exit) = of_clusters(&args)? {
        return Ok(exit);
    }
    let measured = measure(&args, &profile, &|plan| plan, &mut |_| false)?;
    let exit = finish(&args, &measured)?;
    // Nothing ran because a kernel that was asked for could not: the record has its last lines.
    let nothing = matches!(exit, Exit::NothingRan | Exit::Failed) && !any_measured(&measured.dir)?;
    Ok(if nothing && measured.missed_a_kernel { Exit::Unavailable } else { exit })
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Whether it was stopped.
    pub(crate) interrupted: bool,
    /// Whether a kernel that was named could not be booted.
    missed_a_kernel: bool,
}

/// Measures a profile's plan, as `shape` changes it, each group until `enough`; writes the record.
///
/// # Errors
/// The plan cannot be run, a lab cannot be had, the record cannot be written.
pub(crate) fn measure(
    args: &BenchArgs,
    profile: &Profile,
    shape: &dyn Fn(Plan) -> Plan,
    enough: &mut Enough<'_>,
) -> Result<Measured> {
    // What is wrong with the matrix is said before anything is installed or booted.
    Plan::new(profile, &[HOST_KERNEL])?;
    let run_id = manifest::run_id();
    let grounds = Grounds::new(args, profile, &run_id)?;
    let plans = grounds
        .labs()
        .map(|ground| Ok((ground, ground.order(shape(Plan::new(profile, &ground.labels())?)))))
        .collect::<Result<Vec<_>>>()?;
    if let Some(reason) = grounds.reason() {
        eprintln!("{reason}");
    }
    let cancel = Cancel::default();
    stop_on_signal(cancel.clone(), "taking the lab down")?;
    let made = Made::new(profile, &grounds, run_id);
    let dir = out_dir(args, &made.run_id);
    let summary = Summary {
        schema_version: record::SCHEMA_VERSION,
        run_id: made.run_id.clone(),
        fidelity: made.fidelity,
        cases: Vec::new(),
    };
    let mut writer = RunWriter::create(&dir, &made.manifest, summary)?;
    let mut terminal = Terminal::new(profile);
    let mut outcome = Ok(());
    for (ground, plan) in &plans {
        // A record that cannot be written must not leave a cluster up.
        outcome = outcome.and_then(|()| {
            let lab = ground.lab();
            let (writer, terminal) = (&mut writer, &mut terminal);
            harness::run::run_until(profile, plan, lab, writer, terminal, &cancel, enough)
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
    Ok(Measured { dir, interrupted, missed_a_kernel })
}

/// Has the part that talks to clusters built and does the command with it, where this program lacks it
/// and the command asks for it.
///
/// # Errors
/// It cannot be built, or a flag is for another lab than was asked for.
pub(crate) fn of_clusters(args: &BenchArgs) -> Result<Option<Exit>> {
    probes(args)?;
    let clusters = [LabKind::Kind, LabKind::Kubeconfig];
    feature::kind(args.lab.iter().any(|lab| clusters.contains(lab)))
}

/// Whether probes are asked for where they can be.
fn probes(args: &BenchArgs) -> Result<(), UsageError> {
    let problem = match args.engine {
        _ if !args.cluster.probes => return Ok(()),
        _ if !args.lab.contains(&LabKind::Kubeconfig) => {
            "for --lab kubeconfig only: other labs have probes without it"
        }
        Some(Engine::Client | Engine::Tap) => {
            "the engine they are of is bpf, not the one of --engine"
        }
        Some(Engine::Bpf) | None => return Ok(()),
    };
    Err(UsageError(format!("--probes: {problem}")))
}

fn any_measured(dir: &Path) -> Result<bool> {
    let run = Run::open(dir)?;
    Ok(run.summary.cases.iter().any(|case| case.status == Status::Measured))
}

fn out_dir(args: &BenchArgs, run_id: &str) -> PathBuf {
    args.out.clone().unwrap_or_else(|| crate::root::workspace().join("reports/runs").join(run_id))
}

/// Draws the report, prints what was asked for, and chooses the exit code.
fn finish(args: &BenchArgs, measured: &Measured) -> Result<Exit> {
    let Measured { dir, interrupted, .. } = measured;
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
    if *interrupted {
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
