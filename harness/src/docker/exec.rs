// SPDX-License-Identifier: Apache-2.0
//! A command in a container, from its start to its end.

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

/// Most that is read of a command's output, bytes, both streams together.
pub(super) const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;
/// Written to a command at once, bytes.
const PIECE: usize = 64 * 1024;

/// A command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Exit code; 126 and 127 if it could not be started.
    pub code: i64,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// How a command can fail to be run.
pub(super) enum Failure {
    Engine(Error),
    /// More output than is read.
    TooMuch,
    /// The Engine does not say how it ended.
    NoCode,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// Runs `command` in a container, feeding it `stdin` and reading it at the same time.
pub(super) async fn run(
    docker: &Docker,
    container: &str,
    command: &[&str],
    stdin: &[u8],
) -> Result<Executed, Failure> {
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let id = docker.create_exec(container, options).await?.id;
    let StartExecResults::Attached { mut output, mut input } = docker.start_exec(&id, None).await?
    else {
        return Err(Failure::NoCode);
    };
    let feed = async {
        for piece in stdin.chunks(PIECE) {
            // A command that stops reading early says so by its exit code.
            if input.write_all(piece).await.is_err() {
                return;
            }
        }
        let _ = input.shutdown().await;
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let read = async {
        while let Some(piece) = output.next().await {
            match piece? {
                LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    stdout.extend_from_slice(&message);
                }
                LogOutput::StdIn { .. } => {}
            }
            if stdout.len() + stderr.len() > OUTPUT_LIMIT {
                return Err(Failure::TooMuch);
            }
        }
        Ok(())
    };
    let ((), read) = tokio::join!(feed, read);
    read?;
    let code = docker.inspect_exec(&id).await?.exit_code.ok_or(Failure::NoCode)?;
    Ok(Executed { code, stdout, stderr })
}
