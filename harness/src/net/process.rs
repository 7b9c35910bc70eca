// SPDX-License-Identifier: Apache-2.0
//! Programs run on a host: short tools with their output, and agents that live as long as the case.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Netns;

/// Most that is kept of a tool's standard error, bytes.
const STDERR_LIMIT: usize = 8 * 1024;

/// A tool failed, or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No such program.
    #[error("failed to run {program} on {host}: {source}")]
    Start {
        /// Program.
        program: String,
        /// Host it was to run on.
        host: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// It ran and said no.
    #[error("{program} on {host} ended with {status}: {}", stderr.trim_end())]
    Failed {
        /// Program and its arguments.
        program: String,
        /// Host it ran on.
        host: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, at most 8 KiB.
        stderr: String,
    },
    /// Its input or output broke.
    #[error("failed to talk to {program} on {host}: {source}")]
    Pipe {
        /// Program.
        program: String,
        /// Host it runs on.
        host: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("{program} on {host} did not answer within {} ms{}", waited.as_millis(), last_words(stderr))]
    Silent {
        /// Program.
        program: String,
        /// Host it runs on.
        host: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it wrote to standard error so far.
        stderr: String,
    },
    /// It ended while an answer was awaited.
    #[error("{program} on {host} ended unasked{}", last_words(stderr))]
    Ended {
        /// Program.
        program: String,
        /// Host it ran on.
        host: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It answered something else.
    #[error("{program} on {host} answered {line:?}: {source}")]
    Answer {
        /// Program.
        program: String,
        /// Host it runs on.
        host: String,
        /// Start of the line.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

fn last_words(stderr: &str) -> String {
    match stderr.trim_end() {
        "" => String::new(),
        words => format!(": {words}"),
    }
}

/// A short-lived program with its arguments and input.
#[derive(Clone, Debug)]
pub struct Tool {
    program: String,
    args: Vec<OsString>,
    stdin: Vec<u8>,
}

impl Tool {
    /// `program` as found in PATH.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), args: Vec::new(), stdin: Vec::new() }
    }

    /// Appends arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Standard input.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Runs it on a host to its end and returns its standard output.
    ///
    /// # Errors
    /// It cannot be started, or ends with anything but success.
    pub fn run_on(self, host: &Netns) -> Result<String, ToolError> {
        let name = host.name().to_owned();
        host.run(move || self.run_here(&name))
    }

    fn run_here(self, host: &str) -> Result<String, ToolError> {
        let pipe = |source| ToolError::Pipe {
            program: self.program.clone(),
            host: host.to_owned(),
            source,
        };
        let mut command = Command::new(&self.program);
        command.args(&self.args).env("LC_ALL", "C");
        let mut child = spawn(&mut command, Stdio::piped()).map_err(|source| ToolError::Start {
            program: self.program.clone(),
            host: host.to_owned(),
            source,
        })?;
        let mut stdin = child.stdin.take().expect("piped");
        // Written from a second thread: a tool may answer before it has read everything.
        let output = std::thread::scope(|scope| {
            let writer = scope.spawn(move || stdin.write_all(&self.stdin));
            let output = child.wait_with_output();
            // A tool that stops reading early says so by its exit status.
            let _ = writer.join();
            output
        })
        .map_err(pipe)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut stderr = output.stderr;
        stderr.truncate(STDERR_LIMIT);
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        Err(ToolError::Failed {
            program: format!("{} {}", self.program, args.join(" ")).trim_end().to_owned(),
            host: host.to_owned(),
            status: output.status,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }
}

/// Starts a program on the calling thread's network namespace. It is killed when that thread ends
/// (`PR_SET_PDEATHSIG`), and a Ctrl-C at the terminal reaches the harness only.
#[expect(unsafe_code, reason = "pre_exec is the only way to set the parent-death signal")]
fn spawn(command: &mut Command, stdin: Stdio) -> std::io::Result<Child> {
    let parent = nix::unistd::getpid();
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // SAFETY: the closure runs in the forked child and makes two system calls that are
    // async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the signal was armed.
            if nix::unistd::getppid() != parent {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
    command.spawn()
}

/// A program that answers each JSON line on its standard input with one on its standard output.
/// It ends when its input is closed, and is killed with the host's thread.
#[derive(Debug)]
pub struct Agent {
    program: String,
    host: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<std::io::Result<String>>,
    stderr: mpsc::Receiver<String>,
}

impl Agent {
    /// Starts `program args` on a host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        host: &Netns,
        program: &std::path::Path,
        args: &[&str],
    ) -> Result<Self, ToolError> {
        let shown = format!("{} {}", program.display(), args.join(" "));
        let host_name = host.name().to_owned();
        let mut command = Command::new(program);
        command.args(args);
        let mut child =
            host.run(move || spawn(&mut command, Stdio::piped())).map_err(|source| {
                ToolError::Start { program: shown.clone(), host: host_name.clone(), source }
            })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let errors = child.stderr.take().expect("piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let (send, stderr) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // A bounded part is kept; the rest is drained so that the agent never blocks on it.
            let mut errors = errors;
            let _ = errors.by_ref().take(STDERR_LIMIT as u64).read_to_end(&mut text);
            let _ = send.send(String::from_utf8_lossy(&text).into_owned());
            let _ = std::io::copy(&mut errors, &mut std::io::sink());
        });
        Ok(Self { program: shown, host: host_name, child, stdin, lines, stderr })
    }

    /// Sends one line.
    ///
    /// # Errors
    /// The agent has closed its input.
    pub fn tell(&mut self, message: &impl Serialize) -> Result<(), ToolError> {
        let mut line = serde_json::to_vec(message).expect("the protocol's types are JSON");
        line.push(b'\n');
        let result = match &mut self.stdin {
            Some(stdin) => stdin.write_all(&line).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        result.map_err(|source| ToolError::Pipe {
            program: self.program.clone(),
            host: self.host.clone(),
            source,
        })
    }

    /// Waits for the next line.
    ///
    /// # Errors
    /// None came within `patience`, the agent ended, or the line is not what was expected.
    pub fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T, ToolError> {
        let (program, host) = (self.program.clone(), self.host.clone());
        let line = match self.lines.recv_timeout(patience) {
            Ok(Ok(line)) => line,
            Ok(Err(source)) => {
                return Err(ToolError::Pipe { program, host, source });
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let stderr = self.stderr.try_recv().unwrap_or_default();
                return Err(ToolError::Silent { program, host, waited: patience, stderr });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let stderr = self.stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
                return Err(ToolError::Ended { program, host, stderr });
            }
        };
        serde_json::from_str(&line).map_err(|source| ToolError::Answer {
            program,
            host,
            line: line.chars().take(200).collect(),
            source,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and waits for its end.
    ///
    /// # Errors
    /// The system refuses.
    pub fn down(mut self) -> std::io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.stdin.take();
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.end();
    }
}
