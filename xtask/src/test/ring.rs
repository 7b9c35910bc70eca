// SPDX-License-Identifier: Apache-2.0
//! A ring: commands that need the same things of a machine.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::root;

/// Commands that need the same things of a machine.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What it takes at most on two quiet processors, minutes.
    pub(super) minutes: u64,
    /// Why it cannot run here.
    pub(super) missing: Option<String>,
    /// Program, arguments and environment, run in order; all of them, whatever the others said.
    pub(super) commands: Vec<Step>,
}

/// What has cargo build the labs of clusters.
pub(super) const WITH_CLUSTERS: [&str; 2] = ["--features", "harness/kind,xtask/kind"];

/// One command of a ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Step {
    /// A command without arguments of its own environment, split at spaces.
    pub(super) fn new(line: &str) -> Self {
        Self { arguments: line.split(' ').map(str::to_owned).collect(), ..Self::default() }
    }

    /// A command of this program's.
    pub(super) fn own(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let program = program.to_string_lossy().into_owned();
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        Self { arguments: std::iter::once(program).chain(arguments).collect(), ..Self::default() }
    }

    /// Has cargo build what it builds of ours with the labs of clusters.
    pub(super) fn with_clusters(&mut self) {
        let has =
            |words: &[&str]| words.iter().any(|word| self.arguments.iter().any(|a| a == word));
        if self.arguments[0] == "cargo" && has(&["test", "clippy", "doc"]) {
            self.arguments.splice(2..2, WITH_CLUSTERS.map(str::to_owned));
        }
    }

    pub(super) fn env(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((key, value.into()));
        self
    }
}

/// How a ring ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed { tests: u64, time: Duration },
    Failed { passed: u64, failed: u64, time: Duration, words: Vec<String> },
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { tests, time } => {
                write!(f, "passed   {tests:4} tests in {:4.0} s", time.as_secs_f64())
            }
            Self::Failed { failed, time, .. } => {
                write!(f, "FAILED   {failed:4} failures in {:.0} s", time.as_secs_f64())
            }
            Self::Skipped(reason) => write!(f, "skipped  {reason}"),
        }
    }
}

impl Ring {
    /// Runs every command, its output passed through.
    pub(super) fn run(&self) -> Outcome {
        if let Some(reason) = &self.missing {
            return Outcome::Skipped(reason.clone());
        }
        println!("\n== ring {}: {}", self.name, self.about);
        let start = Instant::now();
        let (mut passed, mut failed, mut good) = (0, 0, true);
        let mut words = Vec::new();
        for step in &self.commands {
            match command(step) {
                Ok(result) => {
                    passed += result.passed;
                    failed += result.failed;
                    good &= result.success;
                    words.extend(result.words);
                }
                Err(error) => {
                    eprintln!("error: {error:#}");
                    good = false;
                }
            }
        }
        let time = start.elapsed();
        if good {
            Outcome::Passed { tests: passed, time }
        } else {
            Outcome::Failed { passed, failed, time, words }
        }
    }
}

struct Counted {
    passed: u64,
    failed: u64,
    success: bool,
    /// What its failed tests said.
    words: Vec<String>,
}

fn command(step: &Step) -> Result<Counted> {
    let line = step.arguments.join(" ");
    println!("-- {line}");
    let mut child = Command::new(&step.arguments[0])
        .args(&step.arguments[1..])
        .envs(step.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(root::workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {line}"))?;
    let stdout = child.stdout.take().context("failed to read the command's output")?;
    let (mut passed, mut failed, mut words) = (0, 0, Failures::default());
    for text in BufReader::new(stdout).split(b'\n') {
        let text = text.context("failed to read the command's output")?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        if let Some((p, f)) = counts(&text) {
            passed += p;
            failed += f;
        }
        words.read(&text);
    }
    let status = child.wait().with_context(|| format!("failed to wait for {line}"))?;
    if !status.success() {
        eprintln!("-- {line}: {status}");
    }
    Ok(Counted { passed, failed, success: status.success(), words: words.lines })
}

/// Most that is kept of what the failed tests of a command said, lines.
const WORDS_MAX: usize = 200;

/// What failed tests said, out of the output of test binaries: from `---- name stdout ----` to the list of
/// their names.
#[derive(Debug, Default)]
struct Failures {
    within: bool,
    lines: Vec<String>,
}

impl Failures {
    fn read(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" ----") {
            self.within = true;
        } else if line == "failures:" {
            self.within = false;
        }
        if self.within && !line.is_empty() && self.lines.len() < WORDS_MAX {
            self.lines.push(line.to_owned());
        }
    }
}

/// The closing line of a test binary: `test result: ok. 12 passed; 0 failed; ...`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split(&format!(" {word}")).next()?;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::{Failures, Step, counts};

    #[test]
    fn what_is_ours_is_built_with_clusters_and_what_is_not_is_left_alone() {
        let with = |line: &str| {
            let mut step = Step::new(line);
            step.with_clusters();
            step.arguments.join(" ")
        };
        assert_eq!(
            with("cargo test --workspace --test kind"),
            "cargo test --features harness/kind,xtask/kind --workspace --test kind"
        );
        assert_eq!(
            with("cargo clippy --quiet --workspace"),
            "cargo clippy --features harness/kind,xtask/kind --quiet --workspace"
        );
        for other in ["cargo fmt --all", "target/xtask test"] {
            assert_eq!(with(other), other);
        }
    }

    #[test]
    fn a_closing_line_is_counted_and_others_are_not() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; finished in 0.1s";
        assert_eq!(counts(line), Some((12, 3)));
        assert_eq!(counts("test a ... ok"), None);
    }
    #[test]
    fn what_a_failed_test_said_is_kept_and_what_the_others_said_is_not() {
        let output = "test a ... FAILED\ntest b ... ok\n\nfailures:\n\n---- a stdout ----\nit broke\n\n\n\
                      failures:\n    a\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        assert_eq!(failures.lines, ["---- a stdout ----", "it broke"]);
    }
}
