// SPDX-License-Identifier: Apache-2.0
//! Short-lived programs run on a host: arguments and input in, output or a reason out.

use std::ffi::OsString;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::process::{STDERR_LIMIT, prepare};
use super::{Netns, ToolError};

/// Most that is read of a tool's output, bytes: a ruleset of 100,000 rules is 20 MiB.
const OUTPUT_LIMIT: u64 = 256 * 1024 * 1024;

/// How long a tool may run unless [`Tool::within`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short-lived program with its arguments, environment and input.
#[derive(Clone, Debug)]
pub struct Tool {
    program: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    patience: Duration,
}

/// What a tool has written so far.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Tool {
    /// `program` as found in PATH.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Appends arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more environment variable. `LC_ALL=C` and `XTABLES_LOCKFILE`, the host's own lock, are
    /// there already.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Standard input.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Kills it and fails after this long; 60 s unless called.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it on a host to its end and returns its standard output.
    ///
    /// # Errors
    /// It cannot be started, ends with anything but success, or does not end in time.
    pub fn run_on(self, host: &Netns) -> Result<String, ToolError> {
        let name = host.name().to_owned();
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        prepare(&mut command, host);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        host.block_on(move || self.run_here(command, name))
    }

    async fn run_here(self, command: Command, host: String) -> Result<String, ToolError> {
        let program = self.program.clone();
        let mut child = match tokio::process::Command::from(command).spawn() {
            Ok(child) => child,
            Err(source) => return Err(ToolError::Start { program, host, source }),
        };
        let mut said = Said::default();
        let ended =
            tokio::time::timeout(self.patience, finish(&mut child, &self.stdin, &mut said)).await;
        let stderr = |said: &Said| {
            let kept = said.stderr.len().min(STDERR_LIMIT);
            String::from_utf8_lossy(&said.stderr[..kept]).into_owned()
        };
        match ended {
            Ok(Ok(status)) if status.success() => {
                Ok(String::from_utf8_lossy(&said.stdout).into_owned())
            }
            Ok(Ok(status)) => {
                let (program, stderr) = (self.shown(), stderr(&said));
                Err(ToolError::Failed { program, host, status, stderr })
            }
            Ok(Err(source)) => Err(ToolError::Pipe { program, host, source }),
            Err(_elapsed) => {
                // Killed and reaped here, so that a tool that hangs is not left on the host.
                let _ = child.kill().await;
                let (program, waited, stderr) = (self.shown(), self.patience, stderr(&said));
                Err(ToolError::Silent { program, host, waited, stderr })
            }
        }
    }

    fn shown(&self) -> String {
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("{} {}", self.program, args.join(" ")).trim_end().to_owned()
    }
}

/// Feeds a tool and reads it to its end, all three streams at once: a tool may answer before it
/// has read everything.
async fn finish(child: &mut Child, input: &[u8], said: &mut Said) -> std::io::Result<ExitStatus> {
    let mut stdin = child.stdin.take().expect("piped");
    let stdout = child.stdout.take().expect("piped");
    let stderr = child.stderr.take().expect("piped");
    let feed = async move {
        // A tool that stops reading early says so by its exit status.
        let _ = stdin.write_all(input).await;
    };
    let ((), out, err) =
        tokio::join!(feed, read_all(stdout, &mut said.stdout), read_all(stderr, &mut said.stderr));
    out.and(err)?;
    child.wait().await
}

async fn read_all(stream: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> std::io::Result<()> {
    stream.take(OUTPUT_LIMIT + 1).read_to_end(into).await?;
    if into.len() as u64 > OUTPUT_LIMIT {
        return Err(std::io::Error::other(format!("it wrote more than {OUTPUT_LIMIT} bytes")));
    }
    Ok(())
}
