// SPDX-License-Identifier: Apache-2.0
//! Runs a build's programs: what they write is told and kept, and a stop reaches all of them.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::log::Log;
use super::steps::{Command, ENVIRONMENT, STRAY};
use super::{BuildError, Doing};
use crate::Cancel;
use crate::kernel::store::Store;

/// How often a program that writes nothing is asked whether it is to go on.
const LOOK: Duration = Duration::from_millis(200);
/// Lines that may wait to be told.
const WAITING_MAX: usize = 1024;
/// Most that is read of one line, bytes.
const LINE_MAX: u64 = 64 * 1024;
/// The log's name in the store.
const LOG: &str = "build.log";

/// Runs programs one after another.
pub(super) struct Runner<'a> {
    cancel: &'a Cancel,
    tell: &'a mut dyn FnMut(Doing<'_>),
    what: &'static str,
    log: Log,
}

impl<'a> Runner<'a> {
    pub(super) fn new(cancel: &'a Cancel, tell: &'a mut dyn FnMut(Doing<'_>)) -> Self {
        Self { cancel, tell, what: "", log: Log::default() }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It cannot be started, fails, or a stop was asked for.
    pub(super) fn run(&mut self, command: &Command) -> Result<(), BuildError> {
        self.lines(command).map(drop)
    }

    /// Runs a program to its end and returns what it wrote, line by line, errors among it.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub(super) fn lines(&mut self, command: &Command) -> Result<Vec<String>, BuildError> {
        if self.cancel.requested() {
            return Err(BuildError::Stopped);
        }
        if self.what != command.what {
            self.what = command.what;
            (self.tell)(Doing::Step(command.what));
        }
        self.log.push(&format!("+ {command}"));
        let failed = |ended: String, log: &Log| BuildError::Step {
            what: command.what.to_owned(),
            program: command.program.to_owned(),
            ended,
            tail: log.tail(),
            log: None,
        };
        let (child, output) =
            start(command).map_err(|error| failed(error.to_string(), &self.log))?;
        let mut group = Group { child, ended: false };
        let lines = self.listen(output)?;
        let status = group.child.wait().map_err(|error| failed(error.to_string(), &self.log))?;
        group.ended = true;
        let succeeded = ExitStatus::success(&status);
        succeeded.then_some(lines).ok_or_else(|| failed(status.to_string(), &self.log))
    }

    /// Takes lines until there are no more, or a stop was asked for.
    fn listen(&mut self, output: PipeReader) -> Result<Vec<String>, BuildError> {
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            loop {
                line.clear();
                let limited = &mut std::io::Read::take(&mut reader, LINE_MAX);
                match limited.read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        let mut recent = std::collections::VecDeque::new();
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(line) => {
                    self.log.push(&line);
                    (self.tell)(Doing::Line(&line));
                    if recent.len() == WAITING_MAX {
                        recent.pop_front();
                    }
                    recent.push_back(line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(recent.into()),
            }
            if self.cancel.requested() {
                return Err(BuildError::Stopped);
            }
        }
    }

    /// Writes the log beside the kernels where a program failed, and says so in the error. A log that
    /// cannot be written is no further failure: the error has the last lines itself.
    pub(super) fn keep_log(self, store: &Store, error: BuildError) -> BuildError {
        let path = store.folder().join(LOG);
        match error {
            BuildError::Step { what, program, ended, tail, log: _ } => {
                let log = fs::write(&path, self.log.text()).is_ok().then_some(path);
                BuildError::Step { what, program, ended, tail, log }
            }
            other => other,
        }
    }
}

/// A program and all that it started, ended when this is dropped before its time.
struct Group {
    child: Child,
    ended: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            // Not yet waited for, so its number is still its own. Gone already is gone, too.
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Starts a program in a process group of its own, its output and errors in one stream.
fn start(command: &Command) -> std::io::Result<(Child, PipeReader)> {
    let (reader, writer) = pipe()?;
    let mut process = Process::new(command.program);
    process
        .args(&command.arguments)
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    for name in STRAY {
        process.env_remove(name);
    }
    let child = process.spawn()?;
    // The command's own copies of the pipe's writing end go with it here, or the end never comes.
    drop(process);
    Ok((child, reader))
}
