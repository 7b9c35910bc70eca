// SPDX-License-Identifier: Apache-2.0
//! The load client: an agent that sends requests on one thread and times each of them.
//!
//! One loop serves every workload: a slot waits for its next start (the arrival), sees to a
//! connection (the policy), sends, receives, records. Latency counts from the intended start,
//! always, so a slow server cannot hide behind the requests it kept from being sent.

mod arrivals;
mod exchange;
mod failure;
mod link;
mod memory;
mod phase;
mod recorder;
mod resolve;
mod slot;
mod spec;
mod tally;
mod tls;
mod tuples;
mod websocket;
mod worker;

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::rc::Rc;

use crate::agent::{self, AgentError};
use crate::protocol::{LoadCommand, LoadSpec, PhaseReport};
use crate::socket;
use exchange::Template;
use phase::Phase;
pub use recorder::Recorder;
use resolve::Resolver;
pub use resolve::tried;
use tls::Tls;
use tuples::Tuples;
pub use worker::worker;

/// Runs the agent on standard input and output; see [`run`]. Exit code 0 at the end of the input,
/// 2 when a line is to be changed, 1 otherwise; one sentence on standard error says why.
pub fn main() -> ExitCode {
    agent::exit("load", run(std::io::stdin().lock(), std::io::stdout().lock()))
}

/// Runs the agent as a program's arguments say: [`main`] without any, and with `--socket PATH` one
/// [`run`] for each caller at that Unix socket, until the program is told to end.
pub fn program(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    socket::main("load", arguments, main, run)
}

/// Reads a [`LoadSpec`] and then [`LoadCommand`]s, one JSON value per line, and answers each
/// command with one [`PhaseReport`] line, until the input ends.
///
/// # Errors
/// A line is not understood or out of range, a source address is not this host's, or the input,
/// the output or the runtime breaks.
pub fn run(mut input: impl BufRead, mut output: impl Write) -> Result<(), AgentError> {
    const SPEC: &str = "load spec";
    let line = agent::read_line(&mut input)?.ok_or(AgentError::Nothing { what: SPEC })?;
    let mut generator = Generator::new(agent::parse(SPEC, &line)?)?;
    while let Some(line) = agent::read_line(&mut input)? {
        let report = generator.run(&agent::parse("load command", &line)?)?;
        agent::answer(&mut output, &report)?;
    }
    Ok(())
}

/// A load client between phases: its spec, and the source tuples it has left.
#[derive(Debug)]
pub struct Generator {
    spec: Rc<LoadSpec>,
    template: Rc<Template>,
    resolver: Option<Rc<Resolver>>,
    tls: Option<Rc<Tls>>,
    tuples: Rc<RefCell<Tuples>>,
    runtime: tokio::runtime::LocalRuntime,
    phases: u64,
}

impl Generator {
    /// Checks a spec and makes ready for its phases.
    ///
    /// # Errors
    /// A value is out of its range, or the system refuses a runtime.
    pub fn new(spec: LoadSpec) -> Result<Self, AgentError> {
        spec::check(&spec)?;
        let refuse = |problem| AgentError::Value { what: "load spec", problem };
        let tls = |tls| Tls::new(tls, spec.protocol, spec::slots(spec.arrival));
        let resolver = |resolve| Resolver::new(resolve, &spec.sources, spec.seed);
        let resolver = spec.resolve.as_ref().map(resolver).transpose();
        Ok(Self {
            resolver: resolver.map_err(refuse)?.map(Rc::new),
            tls: spec.tls.as_ref().map(tls).transpose().map_err(refuse)?.map(Rc::new),
            template: Rc::new(Template::new(&spec)),
            tuples: Rc::new(RefCell::new(Tuples::new(&spec.sources))),
            runtime: agent::runtime()?,
            spec: Rc::new(spec),
            phases: 0,
        })
    }

    /// Runs one phase. Arrivals of the n-th phase are drawn from the spec's seed plus n.
    ///
    /// # Errors
    /// A value of the command is out of its range, or the system refuses a timer or
    /// `/proc/self/status`. What goes wrong with requests is in the report.
    pub fn run(&mut self, command: &LoadCommand) -> Result<PhaseReport, AgentError> {
        self.phase(command, None).map(|(report, _)| report)
    }

    /// Runs one phase that starts at `at_ns` of CLOCK_MONOTONIC, and returns when it did.
    fn phase(
        &mut self,
        command: &LoadCommand,
        at_ns: Option<u64>,
    ) -> Result<(PhaseReport, u64), AgentError> {
        spec::check_command(command)?;
        let seed = self.spec.seed.wrapping_add(self.phases);
        self.phases += 1;
        let Self { spec, template, resolver, tls, tuples, .. } = self;
        let phase = Phase::new(spec, template, resolver, tls, tuples, command);
        self.runtime.block_on(phase.run(seed, at_ns)).map_err(AgentError::system("run a phase"))
    }
}
