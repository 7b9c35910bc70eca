// SPDX-License-Identifier: Apache-2.0
//! nic2pod on the command line: parses, dispatches, maps errors to exit codes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the terminal's side")]

#[cfg(feature = "kind")]
mod agents;
mod bench;
mod bpf;
mod cargo;
mod cli;
mod compare;
mod exit;
mod feature;
mod gate;
mod kernels;
mod lab;
mod look;
mod packages;
mod profile;
mod report;
mod root;
mod test;
mod trace;

use std::process::ExitCode;

use clap::Parser;
use cli::{Agent, Cli, Command, LabCommand};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(args),
        Command::Compare(args) => compare::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Baseline(args) => gate::baseline::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Profiles(command) => profile::run(&command),
        Command::Lab(LabCommand::Doctor) => lab::doctor(),
        Command::Lab(LabCommand::Gc) => lab::gc(),
        Command::Lab(LabCommand::Up(args)) => lab::up(&args),
        Command::Lab(LabCommand::Image { file, probes }) => lab::image(&file, probes),
        Command::Lab(LabCommand::Ls) => lab::ls(),
        Command::Lab(LabCommand::Down { names }) => lab::down(&names),
        Command::Lab(LabCommand::Kernel(command)) => lab::kernel(&command),
        Command::Test(args) => test::run(&args),
        Command::Bpf(args) => bpf::run(&args),
        Command::Agent(Agent::TestInUml(args)) => test::in_uml(&args),
        Command::Agent(Agent::Load) => return workloads::load::main(),
        Command::Agent(Agent::Target) => return workloads::target::main(),
        Command::Agent(Agent::Ingress) => return workloads::ingress::main(),
        Command::Agent(Agent::Dns) => return workloads::dns::main(),
        Command::Agent(Agent::Proxy) => return harness::relay::program::main(),
        #[cfg(feature = "bpf")]
        Command::Agent(Agent::Probe { listen }) => {
            return harness::probe::main(&listen, &harness::probe::token());
        }
        Command::Agent(Agent::Guest { port }) => {
            harness::kernel::init::run(&port).map(|never| match never {}).map_err(Into::into)
        }
        Command::Agent(Agent::GuestLab { port }) => {
            harness::kernel::serve::run(&port).map(|()| exit::Exit::Ok).map_err(Into::into)
        }
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::of(&error).into()
        }
    }
}
