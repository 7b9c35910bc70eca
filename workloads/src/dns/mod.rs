// SPDX-License-Identifier: Apache-2.0
//! Names of a cluster. The server of them is an agent that answers queries by UDP on one thread, as
//! the Kubernetes DNS specification (version 1.1.0) has it for Services with a cluster address: A by
//! their own names, no data for AAAA, and NXDOMAIN for what has no name. It refuses names that are not the
//! cluster's, which CoreDNS would ask others for.

mod lookup;
mod names;
mod question;
mod serve;
mod zone;

use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;

use tokio::sync::oneshot;

use crate::agent::{self, AgentError};
use crate::protocol::{DnsReply, DnsSpec};
pub use lookup::lookup;
pub(crate) use question::{ANSWER_BYTES_MAX, Both, Questions, name};
use serve::{open, serve};
use zone::Zone;

/// Longest spec, bytes: names and addresses of as many Services as a table can hold.
const SPEC_LIMIT: u64 = 128 << 20;

/// Runs the agent on standard input and output; see [`run`]. Exit code 0 at the end of the input,
/// 2 when a line is to be changed, 1 otherwise; one sentence on standard error says why.
pub fn main() -> ExitCode {
    agent::exit("dns", run(BufReader::new(io::stdin()), io::stdout()))
}

/// Reads a [`DnsSpec`], answers [`DnsReply::Ready`] or [`DnsReply::Failed`], and serves until the
/// input ends.
///
/// # Errors
/// A line is not understood or out of range, or the input, the output or the runtime breaks.
pub fn run(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> Result<(), AgentError> {
    const SPEC: &str = "dns spec";
    let line = agent::read_line_up_to(SPEC_LIMIT, &mut input)?;
    let spec: DnsSpec = agent::parse(SPEC, &line.ok_or(AgentError::Nothing { what: SPEC })?)?;
    let refuse = |problem| AgentError::Value { what: SPEC, problem };
    let zone = Zone::of(&spec).map_err(refuse)?;
    let runtime = agent::runtime()?;
    runtime.block_on(async {
        let sockets = match open(&spec.listen) {
            Ok(sockets) => sockets,
            Err(failed) => return agent::answer(&mut output, &DnsReply::Failed(failed)),
        };
        let ended = end_of(input)?;
        agent::answer(&mut output, &DnsReply::Ready)?;
        tokio::select! {
            // Whoever held the other end reads no more: that is the end, too.
            ended = ended => ended.unwrap_or(Ok(())),
            served = serve(sockets, zone) => served.map_err(AgentError::system("serve")),
        }
    })
}

/// Resolves when the input ends. Reading blocks, so a thread of its own does it.
fn end_of(
    mut input: impl BufRead + Send + 'static,
) -> Result<oneshot::Receiver<Result<(), AgentError>>, AgentError> {
    let (tell, ended) = oneshot::channel();
    let read = move || {
        let end = match agent::read_line(&mut input) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let problem = "there are no commands behind the spec".to_owned();
                Err(AgentError::Value { what: "dns command", problem })
            }
            Err(error) => Err(error),
        };
        // Nobody waits for it any more where serving failed first.
        let _ = tell.send(end);
    };
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(read)
        .map_err(AgentError::system("start the thread that reads the input"))?;
    Ok(ended)
}
