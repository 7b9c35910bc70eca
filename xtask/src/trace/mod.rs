// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask trace`: one request, explained, under one proxy mode or several in turn.

mod files;
mod lab;

use anyhow::{Context, Result};
use harness::plan::{Case, HOST_KERNEL, Plan, Profile};
use harness::{Cancel, Unavailable};
use record::Walk;

use self::lab::TraceLab;
use crate::cli::{LabKind, TraceArgs};
use crate::exit::Exit;
use crate::{bench, feature, kernels, look, profile};

/// A walk, the mode it went through, and its packets where they were asked for.
struct Traced {
    mode: String,
    walk: Walk,
    pcap: Option<Vec<u8>>,
}

/// Runs the command.
pub(crate) fn run(args: &TraceArgs) -> Result<Exit> {
    let profile = narrowed(args)?;
    Plan::new(&profile, &[HOST_KERNEL])?;
    if let Some(exit) = feature::kind(args.lab == LabKind::Kind)? {
        return Ok(exit);
    }
    let lab = TraceLab::new(args, &profile)?;
    let cases: Vec<Case> = Plan::new(&profile, &lab.labels())?
        .groups
        .into_iter()
        .flat_map(|group| group.cases)
        .collect();
    let cancel = Cancel::default();
    bench::stop_on_signal(cancel.clone(), "taking the lab down")?;
    let mut traced = Vec::new();
    let (mut skipped, mut failed) = (0, 0);
    for case in &cases {
        if cancel.requested() {
            break;
        }
        match lab.walks(case, &cancel) {
            Ok(walks) => traced.extend(walks.into_iter().map(|(walk, pcap)| Traced {
                mode: case.mode_label(),
                walk,
                pcap,
            })),
            // One mode that this machine lacks must not hide the others.
            Err(error) => {
                let mode = case.mode_label();
                if let Some(Unavailable { need, found, remedy }) = kernels::lacking(&error) {
                    eprintln!("skipped {mode}: needs {need}; found {found}; try {remedy}");
                    skipped += 1;
                } else if !cancel.requested() {
                    eprintln!("failed {mode}: {error:#}");
                    failed += 1;
                }
            }
        }
    }
    for message in lab.down() {
        eprintln!("warning: {message}");
    }
    show(args, &traced)?;
    Ok(match (cancel.requested(), failed, traced.len(), skipped) {
        (true, ..) => Exit::Interrupted,
        (_, 1.., ..) => Exit::Failed,
        (_, _, 0, _) => Exit::NothingRan,
        _ => Exit::Ok,
    })
}

/// The profile narrowed to one case for each mode.
fn narrowed(args: &TraceArgs) -> Result<Profile> {
    let mut profile = profile::read(&args.profile)?;
    let matrix = &mut profile.matrix;
    if let Some(kernel) = &args.kernel {
        matrix.kernel = vec![kernel.clone()];
    }
    matrix.mode = args.mode.clone();
    if let Some(ip) = args.ip {
        matrix.ip = vec![ip];
    }
    matrix.cni = vec![args.cni.clone()];
    matrix.route = vec![args.route];
    matrix.services = vec![args.services];
    matrix.position.truncate(1);
    matrix.workload = vec![args.workload.clone()];
    profile.run.engine = args.engine.unwrap_or(profile.run.engine);
    args.proxy.lay_over(&mut profile);
    args.between.lay_over(&mut profile);
    bench::overrides::cni_files(&mut profile, &args.kind.cni_files);
    profile.read_conflists()?;
    Ok(profile)
}

/// Standard output is the walk's; where files went is said beside it.
fn show(args: &TraceArgs, traced: &[Traced]) -> Result<()> {
    let walks: Vec<&Walk> = traced.iter().map(|one| &one.walk).collect();
    if args.json {
        print!("{}", json(&walks)?);
    } else {
        let texts: Vec<_> =
            walks.iter().map(|walk| reports::trace::text(walk, look::of_stdout())).collect();
        print!("{}", texts.join("\n"));
    }
    if traced.is_empty() {
        return Ok(());
    }
    for path in files::write(args, traced)? {
        eprintln!("wrote {}", path.display());
    }
    if (args.pcap.is_some() || args.out.is_some()) && traced.iter().all(|one| one.pcap.is_none()) {
        eprintln!("no packets were captured, so there is no pcapng");
    }
    Ok(())
}

/// An array of walks, as `walks.json` has them.
fn json<T: serde::Serialize>(walks: &[T]) -> Result<String> {
    let text = serde_json::to_string_pretty(walks).context("failed to write the walks as JSON")?;
    Ok(text + "\n")
}
