// SPDX-License-Identifier: Apache-2.0
//! Programs that live on a host as long as the case and answer JSON lines.

mod last_words;
mod socket;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::prepare;
use super::{Netns, ToolError};
use last_words::LastWords;

/// Answers that may wait to be heard; an agent that says more is not read further.
const LINES_WAITING: usize = 64;

/// Longest line that is heard, bytes: marks of the most connections a target keeps are 40 MiB.
const LINE_LIMIT: u64 = 256 * 1024 * 1024;

/// A program that answers each JSON line with one.
#[derive(Debug)]
pub struct Agent {
    program: String,
    host: String,
    connection: Connection,
    lines: mpsc::Receiver<std::io::Result<String>>,
}

/// How an agent is talked to.
#[derive(Debug)]
enum Connection {
    /// On the standard streams of a program of ours: it ends when its input is closed, and is
    /// killed with the host's thread.
    Child { child: Child, stdin: Option<ChildStdin>, last_words: LastWords },
    /// At the socket of a program that somebody else runs: only the talk is ours.
    Socket { stream: UnixStream, pid: u32 },
}

impl Agent {
    /// Starts `program args` on a host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(host: &Netns, program: &Path, args: &[&str]) -> Result<Self, ToolError> {
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
        let lines = listen(stdout);
        let connection = Connection::Child { child, stdin, last_words };
        Ok(Self { program: shown, host: host_name, connection, lines })
    }

    /// Begins a talk with an agent that listens at a Unix socket, which may lie in another mount
    /// namespace (`/proc/PID/root/run/...`): paths of sockets do not depend on the network's. Waits
    /// for as long as `patience` until somebody listens there; nobody else is served meanwhile.
    ///
    /// # Errors
    /// Nobody listens there in time, or may be talked to.
    pub fn connect(
        host: impl Into<String>,
        socket: &Path,
        patience: Duration,
    ) -> Result<Self, ToolError> {
        let (program, host) = (socket.display().to_string(), host.into());
        let result = socket::connect(socket, patience)
            .and_then(|stream| Ok((stream.try_clone()?, socket::pid(&stream)?, stream)));
        match result {
            Ok((heard, pid, stream)) => {
                let connection = Connection::Socket { stream, pid };
                Ok(Self { program, host, connection, lines: listen(heard) })
            }
            Err(source) => Err(ToolError::Connect { program, host, source }),
        }
    }

    /// Sends one line.
    ///
    /// # Errors
    /// The agent has closed its input.
    pub fn tell(&mut self, message: &impl Serialize) -> Result<(), ToolError> {
        let mut line = serde_json::to_vec(message).expect("the protocol's types are JSON");
        line.push(b'\n');
        let result = match &mut self.connection {
            Connection::Child { stdin: Some(stdin), .. } => {
                stdin.write_all(&line).and_then(|()| stdin.flush())
            }
            Connection::Child { stdin: None, .. } => Err(std::io::ErrorKind::BrokenPipe.into()),
            Connection::Socket { stream, .. } => stream.write_all(&line),
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
                let stderr = self.connection.said_so_far();
                return Err(ToolError::Silent { program, host, waited: patience, stderr });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let stderr = self.connection.said_to_the_end();
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

    /// Its process id, as this process sees it; 0 for one at a socket that it cannot see.
    pub fn pid(&self) -> u32 {
        match &self.connection {
            Connection::Child { child, .. } => child.id(),
            Connection::Socket { pid, .. } => *pid,
        }
    }

    /// Kills it and waits for its end; at a socket, ends the talk.
    ///
    /// # Errors
    /// The system refuses.
    pub fn down(mut self) -> std::io::Result<()> {
        self.connection.end()
    }
}

impl Connection {
    fn said_so_far(&self) -> String {
        match self {
            Self::Child { last_words, .. } => last_words.so_far(),
            Self::Socket { .. } => String::new(),
        }
    }

    fn said_to_the_end(&self) -> String {
        match self {
            Self::Child { last_words, .. } => last_words.to_the_end(Duration::from_secs(1)),
            Self::Socket { .. } => String::new(),
        }
    }

    fn end(&mut self) -> std::io::Result<()> {
        match self {
            Self::Child { child, stdin, .. } => {
                stdin.take();
                if child.try_wait()?.is_none() {
                    // With whatever it started: it leads a process group of its own (`prepare`),
                    // and has not been waited for, so that the group's number is still its.
                    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL)?;
                }
                child.wait().map(drop)
            }
            Self::Socket { stream, .. } => match stream.shutdown(Shutdown::Both) {
                // The agent, or its container, was the first to go.
                Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
                result => result,
            },
        }
    }
}

/// Reads lines, on a thread that ends with them or with whoever hears them.
fn listen(from: impl Read + Send + 'static) -> mpsc::Receiver<std::io::Result<String>> {
    let (send, lines) = mpsc::sync_channel(LINES_WAITING);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        while let Some(line) = next_line(&mut from).transpose() {
            let failed = line.is_err();
            if send.send(line).is_err() || failed {
                break;
            }
        }
    });
    lines
}

/// The next line; `None` at the end.
fn next_line(from: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let length = from.take(LINE_LIMIT).read_line(&mut line)?;
    if length as u64 == LINE_LIMIT {
        return Err(std::io::Error::other(format!("a line is longer than {LINE_LIMIT} bytes")));
    }
    Ok((length > 0).then(|| line.trim_end().to_owned()))
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.connection.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn an_agent_at_a_socket_is_awaited_answers_and_is_known_by_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let place = path.clone();
        let late = std::thread::spawn(move || {
            let (stream, _) = UnixListener::bind(&place).unwrap().accept().unwrap();
            let question = next_line(&mut BufReader::new(&stream)).unwrap().unwrap();
            (&stream).write_all(format!("[{question},2]\n").as_bytes()).unwrap();
        });
        let mut agent = Agent::connect("client", &path, SOON).unwrap();
        assert_eq!(agent.pid(), std::process::id());
        agent.tell(&1).unwrap();
        assert_eq!(agent.hear::<Vec<u32>>(SOON).unwrap(), [1, 2]);
        late.join().unwrap();
        let ended = agent.hear::<u32>(SOON).unwrap_err();
        assert!(matches!(&ended, ToolError::Ended { host, .. } if host == "client"), "{ended}");
        agent.down().unwrap();
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_named() {
        let error = Agent::connect("client", Path::new("/no/such.sock"), Duration::ZERO);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("failed to connect to /no/such.sock on client: "), "{error}");
    }
}
