// SPDX-License-Identifier: Apache-2.0
//! Programs that live on a host as long as the case and answer JSON lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::{STDERR_LIMIT, prepare};
use super::{Netns, ToolError};

/// Answers that may wait to be heard; an agent that says more is not read further.
const LINES_WAITING: usize = 64;

/// A program that answers each JSON line on its standard input with one on its standard output.
/// It ends when its input is closed, and is killed with the host's thread.
#[derive(Debug)]
pub struct Agent {
    program: String,
    host: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<std::io::Result<String>>,
    last_words: LastWords,
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
        let shown = format!("{} {}", program.display(), args.join(" ")).trim_end().to_owned();
        let host_name = host.name().to_owned();
        let mut command = Command::new(program);
        command.args(args);
        prepare(&mut command, host);
        let mut child = host.run(move || command.spawn()).map_err(|source| ToolError::Start {
            program: shown.clone(),
            host: host_name.clone(),
            source,
        })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let last_words = LastWords::keep(child.stderr.take().expect("piped"));
        let (send, lines) = mpsc::sync_channel(LINES_WAITING);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { program: shown, host: host_name, child, stdin, lines, last_words })
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
            Ok(Err(source)) => return Err(ToolError::Pipe { program, host, source }),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let stderr = self.last_words.so_far();
                return Err(ToolError::Silent { program, host, waited: patience, stderr });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let stderr = self.last_words.to_the_end(Duration::from_secs(1));
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
        if self.child.try_wait()?.is_none() {
            // With whatever it started: it leads a process group of its own (`prepare`), and has
            // not been waited for, so that the group's number is still its.
            killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.end();
    }
}

/// The start of an agent's standard error, kept while the rest is drained so that the agent never
/// blocks on it.
#[derive(Debug)]
struct LastWords {
    text: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl LastWords {
    fn keep(mut stderr: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = mpsc::sync_channel(1);
        let kept = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = STDERR_LIMIT.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..length.min(room)]);
            }
            let _ = end.send(());
        });
        Self { text, ended }
    }

    fn so_far(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// All of it, for an agent that has ended: waits until the stream has too, which a child of
    /// the agent may hold open.
    fn to_the_end(&self, patience: Duration) -> String {
        let _ = self.ended.recv_timeout(patience);
        self.so_far()
    }
}
