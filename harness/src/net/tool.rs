// SPDX-License-Identifier: Apache-2.0
//! Short-lived programs run on a host: arguments and input in, output or a reason out.

use std::ffi::OsString;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
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
    output_limit: u64,
}

/// What a tool has written so far.
#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A tool that has ended, well or not.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: Vec<u8>,
    /// The start of its standard error.
    pub(crate) stderr: String,
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
            output_limit: OUTPUT_LIMIT,
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

    /// Fails where it writes more than this to either of its streams, bytes; 256 MiB unless called.
    pub(crate) fn writes_at_most(mut self, bytes: u64) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Runs it on a host to its end and returns its standard output.
    ///
    /// # Errors
    /// It cannot be started, ends with anything but success, or does not end in time.
    pub fn run_on(self, host: &Netns) -> Result<String, ToolError> {
        let (shown, name) = (self.shown(), host.name().to_owned());
        let Ended { status, stdout, stderr } = self.end_on(host)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        Err(ToolError::Failed { program: shown, host: name, status, stderr })
    }

    /// Runs it on a host to its end, for tools whose output counts also where they fail.
    ///
    /// # Errors
    /// It cannot be started, writes too much, or does not end in time.
    pub(crate) fn end_on(self, host: &Netns) -> Result<Ended, ToolError> {
        let name = host.name().to_owned();
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        prepare(&mut command, host);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        host.block_on(move || self.run_here(command, name))
    }

    async fn run_here(self, command: Command, host: String) -> Result<Ended, ToolError> {
        let program = self.program.clone();
        let mut child = match tokio::process::Command::from(command).spawn() {
            Ok(child) => child,
            Err(source) => return Err(ToolError::Start { program, host, source }),
        };
        let mut said = Said::default();
        let ended = tokio::time::timeout(self.patience, self.finish(&mut child, &mut said)).await;
        let stderr = |said: &Said| {
            let kept = said.stderr.len().min(STDERR_LIMIT);
            String::from_utf8_lossy(&said.stderr[..kept]).into_owned()
        };
        match ended {
            Ok(Ok(status)) => {
                let stderr = stderr(&said);
                Ok(Ended { status, stdout: said.stdout, stderr })
            }
            Ok(Err(source)) => {
                kill(&mut child).await;
                Err(ToolError::Pipe { program, host, source })
            }
            Err(_elapsed) => {
                kill(&mut child).await;
                let (program, waited, stderr) = (self.shown(), self.patience, stderr(&said));
                Err(ToolError::Silent { program, host, waited, stderr })
            }
        }
    }

    fn shown(&self) -> String {
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("{} {}", self.program, args.join(" ")).trim_end().to_owned()
    }

    /// Feeds a tool and reads it to its end, all three streams at once: a tool may answer before it
    /// has read everything.
    async fn finish(&self, child: &mut Child, said: &mut Said) -> std::io::Result<ExitStatus> {
        let mut stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let limit = self.output_limit;
        let feed = async move {
            // A tool that stops reading early says so by its exit status.
            let _ = stdin.write_all(&self.stdin).await;
            Ok(())
        };
        tokio::try_join!(
            feed,
            read_all(stdout, &mut said.stdout, limit),
            read_all(stderr, &mut said.stderr, limit),
        )?;
        child.wait().await
    }
}

/// Kills a tool that did not end, and what it has started: its process group is its own
/// ([`prepare`]). Reaped here, so that nothing of it is left on the host.
async fn kill(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself; until it is reaped the number is nobody else's.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill().await;
}

async fn read_all(
    stream: impl AsyncRead + Unpin,
    into: &mut Vec<u8>,
    limit: u64,
) -> std::io::Result<()> {
    stream.take(limit + 1).read_to_end(into).await?;
    if into.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it wrote more than {limit} bytes")));
    }
    Ok(())
}
