// SPDX-License-Identifier: Apache-2.0
//! The program: one thread is asked, another has the probes.

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use workloads::AgentError;
use workloads::questions::{Answer, Questions};

use super::node::Node;
use super::placed::Placed;
use super::protocol::{ABOUT, About, LOOK, OFF, ON, PLACE, Place, Reply};
use super::sightings::Sightings;
use crate::Unavailable;
use crate::bpf::BpfError;
use crate::capture::bpf::{ProbeOptions, Probes};
use crate::capture::{CaptureError, TapInfo, in_words};
use crate::net::{NetError, Netns};

/// Where the kernel says which boot it is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Events kept between two questions: what an answer has room for, and what others' events beside it
/// may take.
const EVENTS_MAX: usize = 2 * super::sightings::PACKETS_MAX;
/// Questions that wait for their turn.
const WAITING_MAX: usize = 4;

/// Why a question is not answered as it should be.
#[derive(Debug)]
pub(super) enum Refusal {
    Unavailable(Unavailable),
    Failed(String),
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<NetError> for Refusal {
    fn from(error: NetError) -> Self {
        Self::Failed(in_words(&error))
    }
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error => Self::Failed(in_words(&error)),
        }
    }
}

impl From<BpfError> for Refusal {
    fn from(error: BpfError) -> Self {
        match error {
            BpfError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error => Self::Failed(in_words(&error)),
        }
    }
}

/// A question and the way back of its answer.
struct Question {
    word: String,
    body: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

/// Listens at `listen` and answers those who know `token` until the process is killed. Exit code 2
/// where an argument is to be changed, 1 otherwise; one sentence on standard error says why.
pub fn main(listen: &str, token: &str) -> ExitCode {
    let Err(error) = run(listen, token) else { return ExitCode::SUCCESS };
    // Standard error may be closed too; the exit code is then all that is left.
    let _ = writeln!(std::io::stderr(), "probe: {error}");
    match error {
        AgentError::Value { .. } => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}

fn run(listen: &str, token: &str) -> Result<(), AgentError> {
    let questions = Questions::listen(listen, token)?;
    let (ask, queue) = sync_channel(WAITING_MAX);
    std::thread::Builder::new()
        .name("probes".to_owned())
        .spawn(move || Agent::default().see_to(&queue))
        .map_err(|source| AgentError::System { op: "start the thread of probes", source })?;
    questions.answer(move |word, body| answered(word, body, ask.clone()))
}

async fn answered(word: String, body: Vec<u8>, ask: SyncSender<Question>) -> Answer {
    let (answer, answered) = oneshot::channel();
    match ask.try_send(Question { word, body, answer }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Answer::busy("too many questions at once"),
        Err(TrySendError::Disconnected(_)) => return Answer::failed("the program is ending"),
    }
    answered.await.unwrap_or_else(|_| Answer::failed("the question was dropped"))
}

/// What the thread with the probes has.
#[derive(Debug, Default)]
struct Agent {
    probes: Option<Probes>,
    node: Option<Node>,
    placed: Option<Placed>,
}

impl Agent {
    /// Answers one question after the other, and switches probes off whose time is over.
    fn see_to(mut self, queue: &Receiver<Question>) {
        loop {
            let asked = match self.placed.as_ref().and_then(Placed::left) {
                Some(left) => queue.recv_timeout(left),
                None => queue.recv().map_err(|_ended| RecvTimeoutError::Disconnected),
            };
            match asked {
                Ok(Question { word, body, answer }) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.answer(&word, &body));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.placed.iter_mut().for_each(Placed::end);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, word: &str, body: &[u8]) -> Answer {
        match word {
            ABOUT => json(self.about()),
            LOOK => json(read(body).and_then(|look| Node::enter("node")?.look(&look))),
            PLACE => json(read(body).and_then(|place| self.place(place))),
            ON => json(read(body).and_then(|on| {
                let (probes, node, placed) = self.placed()?;
                placed.on(probes, node, on)
            })),
            OFF => {
                let seen =
                    self.placed().and_then(|(probes, node, placed)| placed.off(probes, node));
                Answer::bytes(match seen {
                    Ok(sightings) => sightings.to_bytes(),
                    Err(refusal) => Sightings::none(&refused(refusal)),
                })
            }
            _ => Answer::nothing(),
        }
    }

    /// Loads the programs, once.
    fn about(&mut self) -> Result<About, Refusal> {
        if self.probes.is_none() {
            let options = ProbeOptions { events_max: Some(EVENTS_MAX), ..ProbeOptions::default() };
            self.probes = Some(Probes::load(options, &Netns::create("question")?)?);
        }
        let probes = self.probes.as_ref().expect("just loaded");
        let boot_id = std::fs::read_to_string(BOOT_ID).map_err(NetError::os("read", BOOT_ID))?;
        let kernel = nix::sys::utsname::uname()
            .map_err(|errno| NetError::os("ask for", "the kernel's name")(errno.into()))?;
        Ok(About {
            boot_id: boot_id.trim().to_owned(),
            kernel: kernel.release().to_string_lossy().into_owned(),
            interpreted: probes.interpreted(),
            without_sockets: probes.without_sockets().map(str::to_owned),
        })
    }

    fn place(&mut self, place: Place) -> Result<Vec<TapInfo>, Refusal> {
        // What was placed before goes first: its programs are loaded for its namespaces.
        self.placed = None;
        self.about()?;
        let probes = self.probes.as_ref().expect("just loaded");
        // Where only load comes from, the node itself is none of our business.
        let node = if place.part.is_some() { Node::enter(&place.node)? } else { Node::of_pods() };
        let node = self.node.insert(node);
        let placed = self.placed.insert(Placed::new(probes, node, place)?);
        Ok(placed.taps().to_vec())
    }

    fn placed(&mut self) -> Result<(&Probes, &Node, &mut Placed), Refusal> {
        match (&self.probes, &self.node, &mut self.placed) {
            (Some(probes), Some(node), Some(placed)) => Ok((probes, node, placed)),
            _ => Err(Refusal::Failed("failed to find the probes: none were placed".to_owned())),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::Failed(format!("failed to understand the question: {error}")))
}

fn refused<T>(refusal: Refusal) -> Reply<T> {
    match refusal {
        Refusal::Unavailable(unavailable) => Reply::Unavailable(unavailable),
        Refusal::Failed(why) => Reply::Failed(why),
    }
}

fn json<T: Serialize>(outcome: Result<T, Refusal>) -> Answer {
    Answer::json(&outcome.map_or_else(refused, Reply::Done))
}
