// SPDX-License-Identifier: Apache-2.0
//! A reverse proxy in a pod, as an ingress controller is one: an agent that ends TLS, chooses a backend by
//! host and path, and asks it on a connection that it keeps, by TLS again or in the clear. Or it passes TLS
//! through, and chooses by the name that the client asks for.

mod forward;
mod passthrough;
mod pool;
mod rules;
mod tunnel;

use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::rc::Rc;

use crate::agent::{self, AgentError, Lines};
use crate::door::Door;
use crate::protocol::{IngressCommand, IngressReply, IngressSpec};
use forward::Forwarder;

/// Runs the agent on standard input and output; see [`run`]. Exit code 0 at the end of the input,
/// 2 when a line is to be changed, 1 otherwise; one sentence on standard error says why.
pub fn main() -> ExitCode {
    agent::exit("ingress", run(BufReader::new(io::stdin()), io::stdout()))
}

/// Reads an [`IngressSpec`], answers [`IngressReply::Ready`] or [`IngressReply::Failed`], serves, and
/// answers [`IngressCommand`]s until the input ends.
///
/// # Errors
/// A line is not understood or out of range, or the input, the output or the runtime breaks.
pub fn run(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> Result<(), AgentError> {
    const SPEC: &str = "ingress spec";
    let line = agent::read_line(&mut input)?.ok_or(AgentError::Nothing { what: SPEC })?;
    let spec: IngressSpec = agent::parse(SPEC, &line)?;
    agent::open_file_limit()?;
    let opened = Forwarder::new(&spec).and_then(|forwarder| {
        let doors = Door::open(&spec.listen, spec.tls.as_ref())?;
        Ok((forwarder, doors, Door::open(&spec.passthrough, None)?))
    });
    let (forwarder, doors, through) = match opened {
        Ok(opened) => opened,
        Err(failed) => return agent::answer(&mut output, &IngressReply::Failed(failed)),
    };
    let commands = agent::lines(input)?;
    agent::runtime()?.block_on(async {
        let mut accepting = Vec::with_capacity(doors.len() + through.len());
        for door in doors {
            let accept = forward::accept(door, forwarder.clone());
            accepting.push(accept.map_err(AgentError::system("serve"))?);
        }
        for door in through {
            let accept = passthrough::accept(door, forwarder.clone());
            accepting.push(accept.map_err(AgentError::system("serve"))?);
        }
        let answered = answer_commands(commands, output, &forwarder).await;
        accepting.iter().for_each(|task| task.abort());
        answered
    })
}

async fn answer_commands(
    mut commands: Lines,
    mut output: impl Write,
    forwarder: &Rc<Forwarder>,
) -> Result<(), AgentError> {
    agent::answer(&mut output, &IngressReply::Ready)?;
    while let Some(line) = commands.recv().await {
        let IngressCommand::Count = agent::parse("ingress command", &line?)?;
        agent::answer(&mut output, &IngressReply::Carried(forwarder.carried()))?;
    }
    output.flush().map_err(AgentError::Output)
}
