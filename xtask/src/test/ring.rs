// SPDX-License-Identifier: Apache-2.0
//! A ring: commands that need the same things of a machine.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cargo::forget_package;
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

/// What has cargo build the labs of clusters; and this program of what it runs in, where it was built so.
pub(super) const WITH_CLUSTERS: [&str; 2] = [
    "--features",
    if cfg!(feature = "as-tests") {
        "harness/kind,xtask/kind,xtask/as-tests"
    } else {
        "harness/kind,xtask/kind"
    },
];

/// One command of a ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// Exit status of a finding that counts if it is found twice.
    pub(super) confirmed: Option<i32>,
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

    /// Runs it once more where it ends with this status: what a busy machine made it find once in a hundred
    /// runs, it finds twice in ten thousand.
    pub(super) fn confirmed(mut self, status: i32) -> Self {
        self.confirmed = Some(status);
        self
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
            let mut result = command(step);
            if result
                .as_ref()
                .is_ok_and(|found| found.status.is_some() && found.status == step.confirmed)
            {
                println!("-- once more, whether it finds that again");
                result = command(step);
            }
            match result {
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
    /// Exit status; `None` if a signal ended it.
    status: Option<i32>,
    /// What its failed tests said.
    words: Vec<String>,
}

fn command(step: &Step) -> Result<Counted> {
    let line = step.arguments.join(" ");
    println!("-- {line}");
    // One pipe for both: what went wrong is kept with what led to it, in order.
    let (output, input) = std::io::pipe().context("failed to make a pipe")?;
    let mut command = Command::new(&step.arguments[0]);
    forget_package(&mut command);
    command
        .args(&step.arguments[1..])
        .envs(step.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(root::workspace())
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("failed to make a pipe")?)
        .stderr(input);
    let mut child = command.spawn().with_context(|| format!("failed to run {line}"))?;
    // Its ends of the pipe are the child's alone from here on: the output ends with it.
    drop(command);
    let (mut passed, mut failed, mut words) = (0, 0, Failures::default());
    for text in BufReader::new(output).split(b'\n') {
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
    let success = status.success();
    let words = if success { Vec::new() } else { words.said(&line) };
    Ok(Counted { passed, failed, success, status: status.code(), words })
}

/// Most that is kept of what the failed tests of a command said, lines.
const WORDS_MAX: usize = 200;

/// Most that is kept of what a command said that failed without a failed test, lines: its last.
const LAST_MAX: usize = 40;

/// Most that is kept of one panic, lines.
const PANIC_MAX: usize = 12;

/// What failed tests said, out of the output of test binaries: between the first `failures:` and the second,
/// which begins the list of their names. Where tests speak for themselves (`--nocapture`) nothing stands
/// there, and each panic is kept where it was.
#[derive(Debug, Default)]
struct Failures {
    within: bool,
    lines: Vec<String>,
    /// Lines that are left of a panic's.
    of_panic: usize,
    panics: Vec<String>,
    last: VecDeque<String>,
}

impl Failures {
    fn read(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.of_panic = PANIC_MAX;
        } else if ["stack backtrace:", "note: run with ", "test "]
            .iter()
            .any(|w| line.starts_with(w))
        {
            self.of_panic = 0;
        }
        if self.of_panic > 0 && self.panics.len() < WORDS_MAX {
            self.of_panic -= 1;
            self.panics.push(line.to_owned());
        }
        if line == "failures:" {
            self.within = !self.within;
        } else if line.starts_with("test result: ") {
            self.within = false;
        } else if self.within && self.lines.len() < WORDS_MAX {
            self.lines.push(line.to_owned());
        }
    }

    /// What is worth saying once more of a command that failed.
    fn said(self, command: &str) -> Vec<String> {
        if let Some(lines) = [self.lines, self.panics].into_iter().find(|lines| !lines.is_empty()) {
            return lines;
        }
        std::iter::once(format!("---- {command} ----")).chain(self.last).collect()
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
    use super::{Failures, Step, WITH_CLUSTERS, counts};

    #[test]
    fn what_is_ours_is_built_with_clusters_and_what_is_not_is_left_alone() {
        let with = |line: &str| {
            let mut step = Step::new(line);
            step.with_clusters();
            step.arguments.join(" ")
        };
        let features = WITH_CLUSTERS.join(" ");
        assert_eq!(
            with("cargo test --workspace --test kind"),
            format!("cargo test {features} --workspace --test kind")
        );
        assert_eq!(
            with("cargo clippy --quiet --workspace"),
            format!("cargo clippy {features} --quiet --workspace")
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
        assert_eq!(failures.said("cargo test"), ["---- a stdout ----", "it broke"]);
    }

    #[test]
    fn what_a_test_said_that_passed_is_not_taken_for_a_failed_ones() {
        let output = "successes:\n\n---- b stdout ----\nfine\n\nsuccesses:\n    b\n\nfailures:\n\n\
                      ---- a stdout ----\nit broke\n\nfailures:\n    a\n\n\
                      test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        assert_eq!(failures.said("cargo test"), ["---- a stdout ----", "it broke"]);
    }

    #[test]
    fn of_tests_that_are_not_captured_the_panics_are_kept() {
        let output = "test a ... \nthread 'a' (12) panicked at a.rs:1:2:\nit broke\nstack backtrace:\n   0: f\n\
                      test a ... FAILED\ntest b ... fine\nok\n\nfailures:\n\nfailures:\n    a\n\n\
                      test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        let said = failures.said("cargo test");
        assert_eq!(said, ["thread 'a' (12) panicked at a.rs:1:2:", "it broke"]);
    }

    #[test]
    fn of_a_command_that_fails_without_a_failed_test_the_last_lines_are_kept() {
        let mut failures = Failures::default();
        (0..100).for_each(|line| failures.read(&line.to_string()));
        let said = failures.said("xtask gate");
        assert_eq!(said[..2], ["---- xtask gate ----", "60"]);
        assert_eq!(said.last().map(String::as_str), Some("99"));
    }
}
