// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: every ring this machine can run, and why it cannot run the others.

mod kube_proxy;
mod programs;
mod ring;
mod rings;
mod uml;

use anyhow::{Result, bail};

use self::ring::Outcome;
use crate::cli::TestArgs;
use crate::exit::Exit;
use crate::packages;

pub(crate) use self::uml::run as in_uml;

/// Runs the command.
pub(crate) fn run(args: &TestArgs) -> Result<Exit> {
    let all = rings::all();
    if let Some(unknown) = args.ring.iter().find(|name| all.iter().all(|ring| ring.name != **name))
    {
        let mut names: Vec<_> = all.iter().map(|ring| ring.name).collect();
        names.dedup();
        bail!("--ring: `{unknown}` is not one of {}", names.join(", "));
    }
    packages::supply(&packages::FOR_TESTS, args.yes)?;
    let mut lines = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for ring in all.iter().filter(|r| args.ring.is_empty() || args.ring.iter().any(|n| n == r.name))
    {
        let outcome = ring.run();
        lines.push(format!("ring {:5} {outcome}   {}", ring.name, ring.about));
        match outcome {
            Outcome::Passed { tests, .. } => passed += tests,
            Outcome::Failed { passed: p, failed: f, .. } => {
                passed += p;
                // A ring can fail without a failed test: a lint, a build.
                failed += f.max(1);
            }
            Outcome::Skipped(_) => skipped += 1,
        }
    }
    println!("\n{}", lines.join("\n"));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed > 0 { Exit::Failed } else { Exit::Ok })
}
