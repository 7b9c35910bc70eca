// SPDX-License-Identifier: Apache-2.0
//! The server in a pod: an agent that answers HTTP/1.1 and HTTP/2 on one thread and notes when it
//! read and wrote each request of the connections that are sampled.

mod marks;
mod pod;
mod serve;
pub(crate) mod tls;
mod websocket;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::rc::Rc;

use crate::agent::{self, AgentError, Lines};
use crate::door::Door;
use crate::protocol::{TargetCommand, TargetReply, TargetSpec};
use crate::socket;
use pod::Pod;
use serve::serve_until;

/// Runs the agent on standard input and output; see [`run`]. Exit code 0 at the end of the input,
/// 2 when a line is to be changed, 1 otherwise; one sentence on standard error says why.
pub fn main() -> ExitCode {
    agent::exit("target", run(BufReader::new(io::stdin()), io::stdout()))
}

/// Serves what `spec`, a [`TargetSpec`] as JSON, says, until the process is killed: for pods, whose
/// standard input is closed from the start. With a `token`, `POST /TOKEN/marks` is answered as
/// [`TargetCommand::Drain`] is. Its TLS, a [`crate::protocol::TargetTls`], may be said apart from it, where
/// others can read the one and not the other. Exit codes as of [`main`].
pub fn main_of(spec: &str, token: Option<&str>, tls: Option<&str>) -> ExitCode {
    agent::exit("target", run_of(spec, token, tls))
}

fn run_of(spec: &str, token: Option<&str>, tls: Option<&str>) -> Result<(), AgentError> {
    const SPEC: &str = "argument of --spec";
    let mut spec: TargetSpec = agent::parse(SPEC, spec)?;
    if let Some(tls) = tls {
        spec.tls = Some(agent::parse("TLS beside the spec", tls)?);
    }
    let refuse = |problem: String| AgentError::Value { what: SPEC, problem };
    let pod = Pod::asked(&spec.pod, token).map_err(refuse)?.behind_proxy(spec.proxy_protocol);
    agent::open_file_limit()?;
    let doors = open(&spec).map_err(refuse)?;
    let for_ever = std::future::pending::<()>();
    agent::runtime()?
        .block_on(serve_until(doors, pod, for_ever))
        .map_err(AgentError::system("serve"))
}

/// Runs the agent as a program's arguments say: [`main`] without any, and with `--socket PATH` one
/// [`run`] for each caller at that Unix socket, until the program is told to end.
pub fn program(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    socket::main("target", arguments, main, run)
}

/// Reads a [`TargetSpec`], answers [`TargetReply::Ready`] or [`TargetReply::Failed`], serves, and
/// answers [`TargetCommand`]s until the input ends.
///
/// # Errors
/// A line is not understood or out of range, or the input, the output or the runtime breaks.
pub fn run(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> Result<(), AgentError> {
    const SPEC: &str = "target spec";
    let line = agent::read_line(&mut input)?.ok_or(AgentError::Nothing { what: SPEC })?;
    let spec: TargetSpec = agent::parse(SPEC, &line)?;
    let pod = Pod::new(&spec.pod)
        .map_err(|error| AgentError::Value { what: SPEC, problem: error.to_string() })?
        .behind_proxy(spec.proxy_protocol);
    agent::open_file_limit()?;
    let doors = match open(&spec) {
        Ok(doors) => doors,
        Err(failed) => return agent::answer(&mut output, &TargetReply::Failed(failed)),
    };
    let commands = agent::lines(input)?;
    agent::runtime()?.block_on(async {
        let answering = answer_commands(commands, output, pod.clone());
        let serving = serve_until(doors, pod, answering);
        serving.await.map_err(AgentError::system("serve"))?
    })
}

/// Listens at every address, or says which one it cannot listen at and why.
fn open(spec: &TargetSpec) -> Result<Vec<Door>, String> {
    if spec.listen.is_empty() {
        return Err("`listen` is empty".to_owned());
    }
    Door::open(&spec.listen, spec.tls.as_ref())
}

async fn answer_commands(
    mut commands: Lines,
    mut output: impl Write,
    pod: Rc<Pod>,
) -> Result<(), AgentError> {
    agent::answer(&mut output, &TargetReply::Ready)?;
    while let Some(line) = commands.recv().await {
        let TargetCommand::Drain = agent::parse("target command", &line?)?;
        agent::answer(&mut output, &pod.drain())?;
    }
    output.flush().map_err(AgentError::Output)
}
