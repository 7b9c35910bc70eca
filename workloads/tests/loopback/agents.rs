// SPDX-License-Identifier: Apache-2.0
//! `load` and `target` as processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use nix::unistd::Pid;
use serde::Serialize;
use workloads::protocol::{
    LoadCommand, LoadSpec, Mark, PhaseReport, TargetCommand, TargetReply, TargetSpec,
};

/// Longest wait for an answer: it bounds a test that would hang, no test comes near it.
const PATIENCE: Duration = Duration::from_secs(120);

/// An agent, killed when dropped.
pub(crate) struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Agent {
    fn start(program: &str) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = sync_channel(1);
        // A pipe has no read timeout, a channel has.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { input: child.stdin.take(), child, answers }
    }

    pub(crate) fn load() -> Self {
        Self::start(env!("CARGO_BIN_EXE_load"))
    }

    pub(crate) fn target() -> Self {
        Self::start(env!("CARGO_BIN_EXE_target"))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Says one line. That the agent has ended meanwhile is for [`Agent::end`] to tell.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        let _ = writeln!(input, "{line}");
    }

    fn say_json(&mut self, value: &impl Serialize) {
        self.say(&serde_json::to_string(value).unwrap());
    }

    fn answer(&mut self) -> String {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                let _ = self.child.kill();
                panic!("no answer ({error}), and on standard error: {}", self.errors());
            }
        }
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Closes the input, waits for the end and returns the answers not taken yet, the exit code
    /// and what is on standard error.
    pub(crate) fn end(mut self) -> (Vec<String>, Option<i32>, String) {
        drop(self.input.take());
        let mut answers = Vec::new();
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(line) => answers.push(line),
                // Standard output closes as the process ends.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the agent outlives its input"),
            }
        }
        let errors = self.errors();
        (answers, self.child.wait().unwrap().code(), errors)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `load`, given its spec.
pub(crate) struct Load(pub(crate) Agent);

impl Load {
    pub(crate) fn new(spec: &LoadSpec) -> Self {
        let mut agent = Agent::load();
        agent.say_json(spec);
        Self(agent)
    }

    pub(crate) fn run(&mut self, command: &LoadCommand) -> PhaseReport {
        self.0.say_json(command);
        let report: PhaseReport = serde_json::from_str(&self.0.answer()).unwrap();
        let recorded = |pairs: &[(u64, u64)]| pairs.iter().map(|pair| pair.1).sum::<u64>();
        for pairs in [&report.latency, &report.service_time, &report.first_byte, &report.last_byte]
        {
            assert_eq!(recorded(pairs), report.requests, "each answered request is recorded once");
        }
        report
    }
}

/// `target`, listening.
pub(crate) struct Target(pub(crate) Agent);

impl Target {
    pub(crate) fn listen(at: SocketAddr) -> Self {
        Self::listen_as(TargetSpec {
            listen: vec![at],
            proxy_protocol: false,
            tls: None,
            pod: "pod-1".to_owned(),
        })
    }

    pub(crate) fn listen_as(spec: TargetSpec) -> Self {
        let mut agent = Agent::target();
        agent.say_json(&spec);
        assert_eq!(agent.answer(), "\"ready\"");
        Self(agent)
    }

    /// The marks since the last drain, and all requests served so far.
    pub(crate) fn drain(&mut self) -> (Vec<Mark>, u64) {
        self.0.say_json(&TargetCommand::Drain);
        match serde_json::from_str(&self.0.answer()).unwrap() {
            TargetReply::Marks { marks, not_kept: 0, served } => (marks, served),
            other => panic!("{other:?}"),
        }
    }
}
