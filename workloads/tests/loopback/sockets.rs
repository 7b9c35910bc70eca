// SPDX-License-Identifier: Apache-2.0
//! The talk over a Unix socket, as in a container.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use workloads::READY;
use workloads::protocol::{PhaseReport, TargetCommand, TargetReply, TargetSpec};

use crate::workload::{place, requests, spec};

/// Bounds a test that would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that listens at a socket; killed when dropped.
struct Listening {
    child: Child,
    folder: tempfile::TempDir,
}

impl Listening {
    fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args([Path::new("--socket"), &path(&folder)])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), READY);
        Self { child, folder }
    }

    fn call(&self) -> Caller {
        let stream = UnixStream::connect(path(&self.folder)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller(BufReader::new(stream))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("agent.sock")
}

struct Caller(BufReader<UnixStream>);

impl Caller {
    fn ask<T: DeserializeOwned>(&mut self, question: &impl Serialize) -> T {
        self.say(&serde_json::to_string(question).unwrap());
        serde_json::from_str(&self.hear()).unwrap()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn each_caller_at_a_socket_starts_afresh() {
    let (load, target) = (
        Listening::start(env!("CARGO_BIN_EXE_load")),
        Listening::start(env!("CARGO_BIN_EXE_target")),
    );
    let listen = place();
    for _ in 0..2 {
        let mut pod = target.call();
        let ready: TargetReply = pod.ask(&TargetSpec {
            listen: vec![listen],
            proxy_protocol: false,
            tls: None,
            pod: "p".to_owned(),
        });
        assert_eq!(ready, TargetReply::Ready);
        let mut client = load.call();
        client.say(&serde_json::to_string(&spec(listen)).unwrap());
        let report: PhaseReport = client.ask(&requests(20));
        assert_eq!((report.requests, report.errors.len()), (20, 0));
        let TargetReply::Marks { served, .. } = pod.ask(&TargetCommand::Drain) else { panic!() };
        assert_eq!(served, 20, "requests of the caller before are not counted");
    }
}

#[test]
fn a_caller_is_told_why_its_talk_ended_and_the_next_one_is_served() {
    let target = Listening::start(env!("CARGO_BIN_EXE_target"));
    let mut wrong = target.call();
    wrong.say("{}");
    let parting = wrong.hear();
    assert!(parting.starts_with(r#"{"failed":"failed to understand the target spec"#), "{parting}");
    assert_eq!(wrong.hear(), "", "the talk is over");
    let mut right = target.call();
    let ready: TargetReply = right.ask(&TargetSpec {
        listen: vec![place()],
        proxy_protocol: false,
        tls: None,
        pod: "p".to_owned(),
    });
    assert_eq!(ready, TargetReply::Ready);
}

#[test]
fn an_agent_at_a_socket_ends_when_it_is_told_to() {
    let mut load = Listening::start(env!("CARGO_BIN_EXE_load"));
    let _talking = load.call();
    kill(Pid::from_raw(load.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(load.child.wait().unwrap().code(), Some(0));
}
