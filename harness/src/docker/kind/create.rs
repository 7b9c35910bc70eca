// SPDX-License-Identifier: Apache-2.0
//! A cluster comes to be, or nothing of it is left.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::cluster::{Cluster, delete, find, nodes};
use super::error::LastWords;
use super::{ClusterConfig, Kind, KindError};
use crate::docker::Engine;
use crate::net::process::bind;
use crate::{Cancel, Unavailable};

/// How often kind, while it says nothing, is asked whether it is to go on.
const LOOK: Duration = Duration::from_millis(100);
/// Lines that may wait to be told.
const WAITING_MAX: usize = 64;
/// Most that is read of one line, bytes.
const LINE_MAX: u64 = 16 * 1024;
/// Lines kept for an error.
const LAST_LINES: usize = 20;
/// Lines of a node's log in an error.
const NODE_LINES: u32 = 20;
/// How long kind may take to print a kubeconfig.
const PRINT_PATIENCE: Duration = Duration::from_secs(30);

/// What making a cluster needs besides its configuration.
pub struct Creation<'a> {
    /// Image of its nodes, which the Engine has.
    pub image: &'a str,
    /// Told each line that kind says.
    pub progress: &'a mut dyn FnMut(&str),
    /// How long it may take.
    pub deadline: Duration,
    /// Asks for a stop.
    pub cancel: &'a Cancel,
}

/// How listening to kind came to its end.
enum Heard {
    All,
    Late,
    Stopped,
}

impl Kind {
    /// Makes a cluster and waits for its control plane. Its nodes are ready once pods are wired,
    /// which is not waited for.
    ///
    /// # Errors
    /// The image is not there, a cluster of that name is, kind fails, or is late, or a stop was
    /// asked for. Nothing is left behind, or the error says what.
    pub fn create(
        &self,
        engine: &Engine,
        config: &ClusterConfig,
        creation: Creation<'_>,
    ) -> Result<Cluster, KindError> {
        let Creation { image, progress, deadline, cancel } = creation;
        if !engine.has_image(image)? {
            return Err(KindError::Unavailable(Unavailable::new(
                format!("the node image {image}"),
                "Docker does not have it",
                format!("docker pull {image}, or name another with --node-image"),
            )));
        }
        if !nodes(engine, &config.name)?.is_empty() {
            return Err(KindError::Taken { name: config.name.clone() });
        }
        let file = |op| {
            let name = config.name.clone();
            move |source| KindError::File { op, name, source }
        };
        let scratch = tempfile::tempdir().map_err(file("make a folder for the files"))?;
        let path = scratch.path().join("kind.yaml");
        std::fs::write(&path, config.yaml()).map_err(file("write the configuration"))?;

        let mut command = self.command(engine);
        command
            // What is left of a failure is looked at before it is removed.
            .args(["create", "cluster", "--wait", "0s", "--retain", "--name", &config.name])
            .args(["--image", image])
            .arg("--config")
            .arg(&path)
            .arg("--kubeconfig")
            .arg(scratch.path().join("kubeconfig"));
        let mut last = VecDeque::new();
        let mut hear = |line: &str| {
            progress(line);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        };
        let (heard, ended) = self.run(command, deadline, cancel, &mut hear)?;
        let name = config.name.clone();
        match (heard, ended) {
            (Heard::All, Ok(())) => {
                find(engine, &name).inspect_err(|_| drop(delete(engine, &name)))
            }
            (Heard::Stopped, _) => Err(KindError::Stopped { left: remove(engine, &name), name }),
            (Heard::Late, _) => {
                let last_words = Box::new(bury(engine, &name, last));
                Err(KindError::Late { name, waited: deadline, last_words })
            }
            (Heard::All, Err(ended)) => {
                let last_words = Box::new(bury(engine, &name, last));
                Err(KindError::Failed { op: "create", name, ended, last_words })
            }
        }
    }

    /// The administrator's kubeconfig for use on this machine.
    ///
    /// # Errors
    /// There is no such cluster, or kind fails.
    pub fn kubeconfig(&self, engine: &Engine, name: &str) -> Result<String, KindError> {
        find(engine, name)?;
        let mut command = self.command(engine);
        command.args(["get", "kubeconfig", "--name", name]);
        let mut lines = Vec::new();
        let mut hear = |line: &str| lines.push(format!("{line}\n"));
        let (heard, ended) = self.run(command, PRINT_PATIENCE, &Cancel::default(), &mut hear)?;
        match (heard, ended) {
            (Heard::All, Ok(())) => Ok(lines.concat()),
            (_, ended) => {
                let ended = ended.err().unwrap_or_else(|| "did not end".to_owned());
                let last_words = Box::new(LastWords { kind: lines, ..LastWords::default() });
                Err(KindError::Failed {
                    op: "read the kubeconfig of",
                    name: name.to_owned(),
                    ended,
                    last_words,
                })
            }
        }
    }

    /// Runs kind to its end, or kills it and all that it started. Each line of either stream is
    /// told. Returns how it ended, in words where that is not success.
    fn run(
        &self,
        mut command: Command,
        patience: Duration,
        cancel: &Cancel,
        hear: &mut dyn FnMut(&str),
    ) -> Result<(Heard, Result<(), String>), KindError> {
        let deadline = Instant::now() + patience;
        bind(&mut command);
        let failed = |source| KindError::Start { program: self.shown(), source };
        let mut group = Group { child: command.spawn().map_err(failed)?, ended: false };
        drop(group.child.stdin.take());
        let (sender, lines) = mpsc::sync_channel(WAITING_MAX);
        read(group.child.stdout.take().expect("piped"), sender.clone());
        read(group.child.stderr.take().expect("piped"), sender);
        let heard = loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) if !line.is_empty() => hear(&line),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Heard::All,
            }
            if cancel.requested() {
                break Heard::Stopped;
            }
            if Instant::now() >= deadline {
                break Heard::Late;
            }
        };
        if !matches!(heard, Heard::All) {
            return Ok((heard, Err("was killed".to_owned())));
        }
        let status = group.child.wait().map_err(failed)?;
        group.ended = true;
        let ended = if status.success() { Ok(()) } else { Err(format!("ended with {status}")) };
        Ok((heard, ended))
    }
}

/// Reads lines on a thread of their own, which ends with them or with who hears them.
fn read(stream: impl Read + Send + 'static, lines: SyncSender<String>) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match stream.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if lines.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
}

/// What was said last, and the removal of what there is.
fn bury(engine: &Engine, name: &str, last: VecDeque<String>) -> LastWords {
    // An error here must not hide the one that is being told.
    let node = nodes(engine, name).ok().and_then(|nodes| nodes.into_iter().next());
    let node = node.and_then(|node| engine.logs_tail(&node.id, NODE_LINES).ok());
    LastWords { kind: last.into(), node: node.unwrap_or_default(), left: remove(engine, name) }
}

/// Removes what there is of a cluster; what could not be, and why.
fn remove(engine: &Engine, name: &str) -> Vec<String> {
    delete(engine, name).err().map(|error| error.to_string()).into_iter().collect()
}

/// kind and the commands it calls, ended when this is dropped before its time.
struct Group {
    child: Child,
    ended: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            // Not yet waited for, so its number is still its own. Gone already is gone, too.
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
