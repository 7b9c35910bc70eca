// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: every ring this machine can run, and why it cannot run the others.

mod kube_proxy;
mod programs;
mod ring;
mod rings;
mod uml;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::units::Span;

use self::ring::{Outcome, Ring};
use crate::cli::TestArgs;
use crate::exit::Exit;
use crate::packages;

pub(crate) use self::uml::run as in_uml;

/// Runs the command.
pub(crate) fn run(args: &TestArgs) -> Result<Exit> {
    let (start, within) = (Instant::now(), within(args)?);
    let all = rings::all();
    if let Some(unknown) = args.ring.iter().find(|name| all.iter().all(|ring| ring.name != **name))
    {
        let mut names: Vec<_> = all.iter().map(|ring| ring.name).collect();
        names.dedup();
        bail!("--ring: `{unknown}` is not one of {}", names.join(", "));
    }
    packages::supply(&packages::FOR_TESTS, args.yes)?;
    let (mut lines, mut words) = (Vec::new(), Vec::new());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for ring in all.iter().filter(|r| args.ring.is_empty() || args.ring.iter().any(|n| n == r.name))
    {
        let outcome = match late(ring, start.elapsed(), within) {
            Some(reason) => Outcome::Skipped(reason),
            None => ring.run(),
        };
        lines.push(format!("ring {:5} {outcome}   {}", ring.name, ring.about));
        match outcome {
            Outcome::Passed { tests, .. } => passed += tests,
            Outcome::Failed { passed: p, failed: f, words: said, .. } => {
                words.extend(said);
                passed += p;
                // A ring can fail without a failed test: a lint, a build.
                failed += f.max(1);
            }
            Outcome::Skipped(_) => skipped += 1,
        }
    }
    println!("\n{}", lines.join("\n"));
    // Once more and last, after an hour of other output: of a log, it is the end that is looked at.
    if !words.is_empty() {
        println!("\nwhat failed said:\n{}\n", words.join("\n"));
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed > 0 { Exit::Failed } else { Exit::Ok })
}

/// Why a ring is not begun any more, `elapsed` from the start: it would not end in time.
fn late(ring: &Ring, elapsed: Duration, within: Option<Duration>) -> Option<String> {
    let within = within?;
    let usual = Duration::from_secs(60 * ring.minutes);
    (elapsed + usual > within).then(|| {
        format!(
            "{} min have passed and it takes up to {}: it would not end within {} min",
            elapsed.as_secs() / 60,
            ring.minutes,
            within.as_secs() / 60
        )
    })
}

/// When the last ring is to have ended, counted from now: as the flag says, or the environment.
fn within(args: &TestArgs) -> Result<Option<Duration>> {
    if let Some(Span(within)) = args.within {
        return Ok(Some(within));
    }
    let Some(text) = std::env::var_os("NIC2POD_TEST_WITHIN") else { return Ok(None) };
    let text = text.to_string_lossy();
    let span: Span = text.parse().map_err(anyhow::Error::msg).context("NIC2POD_TEST_WITHIN")?;
    Ok(Some(span.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_would_not_end_in_time_is_skipped_with_that_reason() {
        let ring =
            Ring { name: "3", about: "clusters", minutes: 25, missing: None, commands: Vec::new() };
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let late = |elapsed, within| late(&ring, minutes(elapsed), within);
        assert_eq!(late(500, None), None);
        assert_eq!(late(50, Some(minutes(80))), None);
        assert_eq!(
            late(60, Some(minutes(80))).unwrap(),
            "60 min have passed and it takes up to 25: it would not end within 80 min"
        );
    }
}
