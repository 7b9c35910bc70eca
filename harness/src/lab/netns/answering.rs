// SPDX-License-Identifier: Apache-2.0
//! A program of others that runs on a host and answers questions at a socket, a question a connection: what load
//! balancers and ingress controllers have in common. Errors are sentences, for the caller's own kind of error.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::net::Netns;
use crate::net::daemon::Daemon;

/// How long it may take to listen, and to answer: ten thousand backends take it seconds, and so does a program of
/// 100 MB beside others that begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for meanwhile.
const GLANCE: Duration = Duration::from_millis(5);
/// Most that is read of an answer, bytes: HAProxy has a line for each server and port.
const ANSWER_BYTES: u64 = 32 << 20;

/// It runs. Ends when dropped.
#[derive(Debug)]
pub(super) struct Answering {
    name: &'static str,
    daemon: Daemon,
    socket: PathBuf,
    /// Answers that it gave so far.
    answers: u64,
}

impl Answering {
    /// Starts it, with `folder` before its PATH, and waits until its answer to a question is that of a
    /// program that is ready. Each of these programs opens its ports before it answers any.
    pub(super) fn start(
        name: &'static str,
        host: &Netns,
        command: Command,
        (folder, socket): (&Path, PathBuf),
        (question, is_ready): (&str, impl Fn(&str) -> bool),
    ) -> Result<Self, String> {
        let daemon = Daemon::start(host, command, folder).map_err(|error| error.to_string())?;
        let mut made = Self { name, daemon, socket, answers: 0 };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = made.daemon.ended();
            if let Some(status) = ended.map_err(|error| format!("failed to wait: {error}"))? {
                return Err(format!("{name} ended, {status}: {}", made.daemon.log()));
            }
            match made.ask(question) {
                Ok(answer) if is_ready(&answer) => return Ok(made),
                Ok(_) | Err(_) if Instant::now() < deadline => std::thread::sleep(GLANCE),
                Ok(answer) => return Err(format!("{name} answered {answer:?}")),
                Err(error) => return Err(error),
            }
        }
    }

    /// Its whole answer: it ends with the connection.
    pub(super) fn ask(&mut self, question: &str) -> Result<String, String> {
        let asked = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(question.as_bytes())?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = asked()
            .map_err(|error: std::io::Error| format!("failed to ask {}: {error}", self.name))?;
        self.answers += 1;
        Ok(answer)
    }

    /// Answers that it gave so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Ends it.
    pub(super) fn down(self) -> std::io::Result<()> {
        self.daemon.down()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_before_it_answers_is_told_and_not_waited_for() {
        let host = match Netns::create("answering") {
            Ok(host) => host,
            Err(error) => return eprintln!("SKIP: {error}"),
        };
        let begun = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let places = (folder.path(), folder.path().join("socket"));
        let outcome = Answering::start("it", &host, command, places, ("ready?", |_| true));
        let error = outcome.unwrap_err();
        assert!(error.starts_with("it ended, exit status: 3"), "{error}");
        assert!(begun.elapsed() < PATIENCE);
    }
}
