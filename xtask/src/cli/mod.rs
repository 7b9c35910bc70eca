// SPDX-License-Identifier: Apache-2.0
//! The command line.

mod agent;
mod bench;
mod between;
mod clusters;
mod judge;
mod lab;
mod proxy;
mod trace;
mod words;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use harness::units::Span;

pub(crate) use self::agent::{Agent, InUmlArgs};
pub(crate) use self::bench::BenchArgs;
pub(crate) use self::between::BetweenArgs;
pub(crate) use self::clusters::{ClusterArgs, CniArgs, KindArgs};
pub(crate) use self::judge::{BaselineArgs, CompareArgs, GateArgs, JudgeArgs, OutputArgs};
pub(crate) use self::lab::{KernelBuildArgs, KernelCommand, LabCommand, LabUpArgs};
pub(crate) use self::proxy::ProxyArgs;
pub(crate) use self::trace::TraceArgs;
pub(crate) use self::words::LabKind;
use self::words::engine;

/// What does a Kubernetes Service really cost, and where?
///
/// Builds a lab of network namespaces on this machine, drives HTTP through a node's NIC under each
/// proxy mode, and shows where every microsecond went.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done; skipped cases are in the record with their reasons
  1    a case failed, or a bug in nic2pod
  2    a flag or a profile cannot be used
  3    a gate found a regression
  4    no case could be measured
  69   the lab cannot be had on this machine
  130  stopped by Ctrl-C; the cases measured so far are kept";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure: build the lab, drive load through it, write a record and a report
    Bench(BenchArgs),
    /// Follow one request through every place it passes, there and back
    Trace(TraceArgs),
    /// Compare two modes, two records or two revisions, metric by metric, with a word for each
    Compare(CompareArgs),
    /// Fail on a regression against a baseline or between two revisions
    Gate(GateArgs),
    /// Measure a baseline for the gate, and keep it with where it was made
    Baseline(BaselineArgs),
    /// Draw the report of one run or several again
    Report(ReportArgs),
    /// Questions that a run can answer: the profiles there are
    #[command(subcommand)]
    Profiles(ProfilesCommand),
    /// Look at what this machine can do, or clean up after a killed run
    #[command(subcommand)]
    Lab(LabCommand),
    /// Run every test this machine can run, ring by ring
    Test(TestArgs),
    /// Build the committed BPF objects again; needs clang
    Bpf(BpfArgs),
    /// Programs that run on the lab's hosts; they speak JSON lines
    #[command(subcommand, hide = true)]
    Agent(Agent),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfilesCommand {
    /// Every profile's name, question, cases and time
    Ls,
    /// A profile's text and all its settings, every default filled in
    Show {
        /// Profile: a name that `ls` shows or a path
        #[arg(value_name = "NAME|FILE")]
        profile: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run folders
    #[arg(required_unless_present = "history", value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// Draw every metric over all runs in a folder instead, and mark where its level changed
    #[arg(long, value_name = "DIR", conflicts_with = "runs")]
    pub(crate) history: Option<PathBuf>,
    /// Where to write [default: the run's own folder, or the first one's; a history's own]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BpfArgs {
    /// Only show that objects and sources agree
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Rings to run: house, 0, 1, 2, 3, 4, 5
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) ring: Vec<String>,
    /// Begin no ring that would not end within this time, with its unit: 80m [default: NIC2POD_TEST_WITHIN, else
    /// each]
    #[arg(long, value_name = "TIME")]
    pub(crate) within: Option<Span>,
    /// Install missing packages without asking (Debian or Ubuntu, as root)
    #[arg(long)]
    pub(crate) yes: bool,
}
