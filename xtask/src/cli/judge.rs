// SPDX-License-Identifier: Apache-2.0
//! The arguments of commands that judge: compare, gate, baseline.

use std::path::PathBuf;

use clap::Args;
use harness::units::Span;

use super::BenchArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask compare --mode iptables,nftables --budget 2m
  cargo xtask compare --rev main --rev HEAD
  cargo xtask compare reports/runs/A reports/runs/B

Blocks of both sides take turns, each on hosts made anew; the comparison goes on until no metric is
undecided or the time is up. docs/judgement.md says what the words mean.")]
pub(crate) struct CompareArgs {
    /// Two run folders, or two folders of cases in them; without, modes are measured and compared
    #[arg(value_name = "RUN", num_args = 1..=2)]
    pub(crate) sides: Vec<PathBuf>,
    /// Git revisions of this project, twice; both are built
    #[arg(long, value_name = "REV", conflicts_with = "sides")]
    pub(crate) rev: Vec<String>,
    /// How cargo builds revisions
    #[arg(long, value_name = "PROFILE", default_value = "release", hide = true)]
    pub(crate) cargo_profile: String,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask baseline main && cargo xtask gate --baseline main
  cargo xtask gate --rev origin/main --rev HEAD --budget 5m --junit gate.xml --github
  cargo xtask gate --self-test --budget 10m

Counts are held against a baseline exactly. Times are judged where both sides ran side by side, or where
both were made at fidelity absolute on one machine; docs/judgement.md says why.")]
pub(crate) struct GateArgs {
    /// Baseline: a name in reports/baselines/ or a folder
    #[arg(long, value_name = "NAME|DIR", default_value = "default")]
    pub(crate) baseline: String,
    /// Show how often this machine's gate raises a false alarm, and which slowdowns it catches
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Compare the project's own hot paths of two revisions, measured by criterion
    #[arg(long, conflicts_with = "self_test")]
    pub(crate) benches: bool,
    /// Runs that the self-test draws from its blocks for every figure
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) runs: u32,
    /// Write the run's figures in Bencher Metric Format
    #[arg(long, value_name = "FILE")]
    pub(crate) bencher: Option<PathBuf>,
    /// Write the run's figures as lines of Go's benchmarks, for benchstat
    #[arg(long, value_name = "FILE")]
    pub(crate) gobench: Option<PathBuf>,
    /// Write the run's figures in OpenMetrics' text format
    #[arg(long, value_name = "FILE")]
    pub(crate) openmetrics: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BaselineArgs {
    /// Its name in reports/baselines/, or a folder with a slash in it
    #[arg(value_name = "NAME|DIR", default_value = "default")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
}

/// What a comparison is held to.
#[derive(Debug, Args)]
pub(crate) struct JudgeArgs {
    /// Time to measure in, at most
    #[arg(long, value_name = "TIME", default_value = "3m")]
    pub(crate) budget: Span,
    /// Smallest change worth a word, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub(crate) minimum_effect: f64,
    /// Share of comparisons without a difference that may raise a false alarm
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub(crate) alpha: f64,
    /// Measure the first case twice and compare it with itself, too: what is found there is false
    #[arg(long = "a-a")]
    pub(crate) again: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where a judgement goes besides the terminal.
#[derive(Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Write tables for a pull request
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print annotations for GitHub Actions
    #[arg(long)]
    pub(crate) github: bool,
}
