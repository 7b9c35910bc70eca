// SPDX-License-Identifier: Apache-2.0
//! The talk that both agents share.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// Longest line an agent reads, bytes: a spec with tens of thousands of source addresses fits.
const LINE_LIMIT: u64 = 4 << 20;
/// Lines read ahead.
const LINES_MAX: usize = 16;

/// An agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The input broke.
    #[error("failed to read the input: {0}")]
    Input(#[source] io::Error),
    /// The output broke.
    #[error("failed to answer: {0}")]
    Output(#[source] io::Error),
    /// A line is not what the agent expects there.
    #[error("failed to understand the {what} of the input: {source}")]
    Line {
        /// What was expected.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The input ended before the first line.
    #[error("failed to start: the input ended before the {what}")]
    Nothing {
        /// What was expected.
        what: &'static str,
    },
    /// A value of a line is out of its range.
    #[error("failed to accept the {what}: {problem}")]
    Value {
        /// Which line.
        what: &'static str,
        /// Names the key, what it has and what it may have.
        problem: String,
    },
    /// The system refused something the agent cannot do without.
    #[error("failed to {op}: {source}")]
    System {
        /// What was being done.
        op: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

impl AgentError {
    /// Shorthand for [`AgentError::System`], for `map_err`.
    pub(crate) fn system(op: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { op, source }
    }
}

/// Ends an agent: a failure is one sentence on standard error. 2 when a line is to be changed, 1
/// otherwise, as everywhere in this project.
pub(crate) fn exit(program: &str, outcome: Result<(), AgentError>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Standard error may be closed too; the exit code is then all that is left.
    let _ = writeln!(io::stderr(), "{program}: {error}");
    match error {
        AgentError::Line { .. } | AgentError::Nothing { .. } | AgentError::Value { .. } => {
            ExitCode::from(2)
        }
        _ => ExitCode::from(1),
    }
}

/// Reads the next line; `None` at the end of the input.
pub(crate) fn read_line(input: &mut impl BufRead) -> Result<Option<String>, AgentError> {
    read_line_up_to(LINE_LIMIT, input)
}

/// The same for a line of another length, bytes.
pub(crate) fn read_line_up_to(
    limit: u64,
    input: &mut impl BufRead,
) -> Result<Option<String>, AgentError> {
    let mut line = String::new();
    let length = input.take(limit).read_line(&mut line).map_err(AgentError::Input)?;
    Ok((length > 0).then_some(line))
}

/// Lines that are read as they come; closed at the end of the input.
pub(crate) type Lines = mpsc::Receiver<Result<String, AgentError>>;

/// Lines of the input. Reading blocks, so a thread of its own does it.
pub(crate) fn lines(mut input: impl BufRead + Send + 'static) -> Result<Lines, AgentError> {
    let (lines, commands) = mpsc::channel(LINES_MAX);
    let read = move || {
        while let Some(line) = read_line(&mut input).transpose() {
            let failed = line.is_err();
            if lines.blocking_send(line).is_err() || failed {
                break;
            }
        }
    };
    std::thread::Builder::new()
        .name("commands".to_owned())
        .spawn(read)
        .map_err(AgentError::system("start the thread that reads commands"))?;
    Ok(commands)
}

/// Parses a line.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, line: &str) -> Result<T, AgentError> {
    serde_json::from_str(line).map_err(|source| AgentError::Line { what, source })
}

/// Writes one answer.
pub(crate) fn answer(output: &mut impl Write, answer: &impl Serialize) -> Result<(), AgentError> {
    let mut buffered = BufWriter::with_capacity(64 * 1024, output);
    serde_json::to_writer(&mut buffered, answer)
        .map_err(io::Error::from)
        .and_then(|()| buffered.write_all(b"\n"))
        .and_then(|()| buffered.flush())
        .map_err(AgentError::Output)
}

/// Raises the soft limit of open files to the hard one, which needs no privilege
/// (`getrlimit(2)`), and returns it: each connection is a file.
pub(crate) fn open_file_limit() -> Result<u64, AgentError> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(io::Error::from)
        .map_err(AgentError::system("read the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .map_err(io::Error::from)
        .map_err(AgentError::system("raise the limit of open files"))?;
    Ok(hard)
}

/// A runtime of one thread, without timers: [`crate::timer`] has those.
pub(crate) fn runtime() -> Result<tokio::runtime::LocalRuntime, AgentError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build_local(Default::default())
        .map_err(AgentError::system("start the runtime"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_then_none() {
        let mut input = io::Cursor::new("a\nb");
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("a\n"));
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("b"));
        assert_eq!(read_line(&mut input).unwrap(), None);
    }

    #[test]
    fn an_answer_is_one_line() {
        let mut output = Vec::new();
        answer(&mut output, &vec!["a\nb"]).unwrap();
        assert_eq!(output, b"[\"a\\nb\"]\n");
    }
}
