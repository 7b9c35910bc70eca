// SPDX-License-Identifier: Apache-2.0
//! A guest from outside: started, asked, listened to, ended.

use std::io::{BufReader, Write};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use record::Host;
use tempfile::TempDir;

use super::console::Console;
use super::piece::PIECE_BYTES;
use super::protocol::{Ask, LINE_BYTES_MAX, Say};
use super::{Init, Kernel, KernelError, affinity, line};
use crate::Cancel;
use crate::net::process;

/// Lines that may wait to be heard.
const LINES_WAITING: usize = 64;
/// Longest a guest may work at one thing: 10,000 Services under nftables on a slow processor.
const ANSWER_MAX: Duration = Duration::from_secs(1800);
/// How often a stop is looked for while a guest works.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a guest may take to power off once it was asked to.
const POWER_OFF_MAX: Duration = Duration::from_secs(5);
/// How long the last lines of a console may take behind the guest's end.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// A guest that has booted. Ended when it is dropped, and with the thread that booted it.
#[derive(Debug)]
pub struct Guest {
    label: String,
    child: Child,
    port: ChildStdin,
    heard: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    /// Hears when the process has ended; it stays a zombie until it is waited for here.
    ended: mpsc::Receiver<()>,
    console: Console,
    silence_max: Duration,
    /// Removed behind the guest, which boots from them.
    _files: Option<TempDir>,
}

impl Guest {
    /// Boots a guest and hears its first word: what it sees of itself. The duration is from the
    /// process's start until then.
    ///
    /// # Errors
    /// It cannot be started, ends, or says nothing in time.
    pub fn boot(kernel: &dyn Kernel, init: &Init) -> Result<(Self, Host, Duration), KernelError> {
        let mut boot = kernel.boot(init)?;
        process::bind(&mut boot.command);
        let started = Instant::now();
        let spawned = match boot.one_processor {
            true => affinity::on_one_processor(|| boot.command.spawn()),
            false => boot.command.spawn(),
        };
        let mut child = spawned.map_err(|source| KernelError::File {
            op: "start",
            path: boot.command.get_program().into(),
            source,
        })?;
        let port = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let console = Console::keep(child.stderr.take().expect("piped"));
        let (send, heard) = mpsc::sync_channel(LINES_WAITING);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let line = line::read(&mut stdout, LINE_BYTES_MAX).transpose();
                let Some(line) = line else { break };
                let last = line.is_err();
                if send.send(line).is_err() || last {
                    break;
                }
            }
        });
        let mut guest = Self {
            ended: end_of(&child),
            label: kernel.facts().label.clone(),
            child,
            port,
            heard,
            console,
            silence_max: boot.boot_max,
            _files: boot.files,
        };
        match guest.hear(&Cancel::default(), boot.boot_max)? {
            Say::Booted(host) => {
                guest.silence_max = boot.silence_max;
                Ok((guest, *host, started.elapsed()))
            }
            other => Err(guest.unexpected(&other)),
        }
    }

    /// Asks and waits for the answer. A stop that is asked for meanwhile is passed on once.
    ///
    /// # Errors
    /// The guest ends, hangs, or answers what is no answer.
    pub(crate) fn ask(&mut self, ask: &Ask, cancel: &Cancel) -> Result<Say, KernelError> {
        self.tell(ask)?;
        self.hear(cancel, ANSWER_MAX)
    }

    /// An answer that does not fit the question.
    pub(crate) fn unexpected(&mut self, answer: &Say) -> KernelError {
        let text: String = format!("{answer:?}").chars().take(200).collect();
        self.lost(format!("the guest answered what it was not asked: {text}"))
    }

    /// Says a line, piece by piece.
    fn tell(&mut self, ask: &Ask) -> Result<(), KernelError> {
        let mut line = serde_json::to_vec(ask).expect("the protocol's types are JSON");
        line.push(b'\n');
        let mut pieces = line.chunks(PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            if self.port.write_all(piece).and_then(|()| self.port.flush()).is_err() {
                return Err(self.gone());
            }
            if pieces.peek().is_some() {
                // A stop is passed on behind the line, and not within it.
                match self.hear(&Cancel::default(), self.silence_max)? {
                    Say::More => {}
                    other => return Err(self.unexpected(&other)),
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, cancel: &Cancel, patience: Duration) -> Result<Say, KernelError> {
        let asked = Instant::now();
        let mut sign_of_life = asked;
        let mut told = false;
        loop {
            match self.heard.recv_timeout(GLANCE) {
                Ok(Ok(line)) => {
                    sign_of_life = Instant::now();
                    match serde_json::from_slice(&line) {
                        Ok(Say::Alive) => {}
                        Ok(say) => return Ok(say),
                        Err(error) => return Err(self.nonsense(&line, &error)),
                    }
                }
                Ok(Err(error)) => return Err(self.lost(format!("its port failed: {error}"))),
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if cancel.requested() && !told {
                self.tell(&Ask::Cancel)?;
                told = true;
            }
            if sign_of_life.elapsed() > self.silence_max {
                let seconds = self.silence_max.as_secs();
                return Err(self.lost(format!(
                    "the guest gave no sign of life for {seconds} s and was ended"
                )));
            }
            if asked.elapsed() > patience {
                let seconds = patience.as_secs();
                return Err(self.lost(format!("no answer in {seconds} s; the guest was ended")));
            }
        }
    }

    /// What is no answer: a kernel that dies early writes on whatever it has, and its own words say
    /// more than how they fail to be JSON.
    fn nonsense(&mut self, line: &[u8], error: &serde_json::Error) -> KernelError {
        self.console.add(line);
        while let Ok(Ok(line)) = self.heard.recv_timeout(LAST_LINES_MAX) {
            self.console.add(&line);
        }
        let start = String::from_utf8_lossy(&line[..line.len().min(200)]);
        self.lost(format!("the guest said {start:?}: {error}"))
    }

    /// Kills the guest and says why, with the last lines of its console.
    fn lost(&mut self, found: String) -> KernelError {
        let _ = self.kill();
        let verdict = self.console.verdict(LAST_LINES_MAX);
        let found = verdict.map_or(found, |verdict| format!("the guest stopped: {verdict}"));
        KernelError::Guest { label: self.label.clone(), found, console: self.console.last_lines() }
    }

    /// The guest has closed its port: it is about to end, or has ended.
    fn gone(&mut self) -> KernelError {
        let status = self.wait(POWER_OFF_MAX);
        let found = match status {
            Some(status) => format!("the guest ended before its time ({status})"),
            None => "the guest closed its port and was ended".to_owned(),
        };
        self.lost(found)
    }

    /// Powers the guest off and waits for its end.
    ///
    /// # Errors
    /// It had to be killed, and the system refuses that.
    pub fn down(mut self) -> std::io::Result<()> {
        if self.tell(&Ask::PowerOff).is_ok() && self.wait(POWER_OFF_MAX).is_some() {
            return Ok(());
        }
        self.kill()
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        match self.ended.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => None,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.child.wait().ok(),
        }
    }

    fn kill(&mut self) -> std::io::Result<()> {
        if self.child.try_wait()?.is_none() {
            // With its helper processes: it leads a group of its own (`process::bind`), and has not
            // been waited for, so that the group's number is still its.
            killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.kill();
    }
}

/// Sends once the process has ended, and leaves it to be waited for: its number stays its own.
fn end_of(child: &Child) -> mpsc::Receiver<()> {
    let id = Id::Pid(Pid::from_raw(child.id().cast_signed()));
    let (send, ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let _ = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let _ = send.send(());
    });
    ended
}
