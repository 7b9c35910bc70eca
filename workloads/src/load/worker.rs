// SPDX-License-Identifier: Apache-2.0
//! The load client as a worker: it is asked for phases over HTTP, where it has no standard input of
//! anyone's, and starts them at a time that several workers are told.
//!
//! Phases have a thread of their own; the one that answers rests meanwhile.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;

use super::Generator;
use crate::agent::{self, AgentError};
use crate::clock::{now_ns, unix_ns};
use crate::protocol::{Appointment, Kept, WorkerClock};
use crate::questions::{Answer, Questions};

/// An appointment is at most this far ahead, nanoseconds.
const AHEAD_NS_MAX: u64 = 60_000_000_000;

/// An appointment and the way back of its answer.
type Job = (Appointment, oneshot::Sender<Result<Kept, AgentError>>);

/// Listens at `listen` and keeps appointments until the process is killed: `POST /TOKEN/run` takes an
/// [`Appointment`] and is answered with a [`Kept`] when the phase is over, `POST /TOKEN/clock` is
/// answered with a [`WorkerClock`] at once. Exit codes as of [`super::main`].
pub fn worker(listen: &str, token: &str) -> ExitCode {
    agent::exit("load", run(listen, token))
}

fn run(listen: &str, token: &str) -> Result<(), AgentError> {
    let questions = Questions::listen(listen, token)?;
    // One phase at a time. One more may wait, which will be late and say so: the thread takes a moment
    // from an answer to the next question.
    let (jobs, queue) = sync_channel(1);
    std::thread::Builder::new()
        .name("phases".to_owned())
        .spawn(move || keep(&queue))
        .map_err(AgentError::system("start the thread that keeps appointments"))?;
    questions.answer(move |question, body| answer(question, body, jobs.clone()))
}

/// Keeps appointments until nobody can make any.
fn keep(queue: &Receiver<Job>) {
    while let Ok((appointment, answer)) = queue.recv() {
        // Whoever asked may have gone.
        let _ = answer.send(keep_one(appointment));
    }
}

fn keep_one(appointment: Appointment) -> Result<Kept, AgentError> {
    let Appointment { spec, command, start_unix_ns } = appointment;
    let (now_ns, unix_ns) = (now_ns(), unix_ns());
    let ahead_ns = start_unix_ns.saturating_sub(unix_ns);
    if ahead_ns > AHEAD_NS_MAX {
        let problem = format!("`start_unix_ns` is {ahead_ns} ns ahead, not at most {AHEAD_NS_MAX}");
        return Err(AgentError::Value { what: "appointment", problem });
    }
    // One reading of both clocks is used for all: what sets the other meanwhile changes nothing.
    let at_ns = (now_ns + ahead_ns).saturating_sub(unix_ns.saturating_sub(start_unix_ns));
    let (report, started_ns) = Generator::new(spec)?.phase(&command, Some(at_ns))?;
    let late_ns = started_ns.saturating_sub(at_ns);
    Ok(Kept { report, started_unix_ns: start_unix_ns + late_ns, late_ns })
}

async fn answer(question: String, body: Vec<u8>, jobs: SyncSender<Job>) -> Answer {
    match question.as_str() {
        "clock" => Answer::json(&WorkerClock { unix_ns: unix_ns() }),
        "run" => appoint(&body, &jobs).await,
        _ => Answer::nothing(),
    }
}

async fn appoint(body: &[u8], jobs: &SyncSender<Job>) -> Answer {
    let appointment = match serde_json::from_slice(body) {
        Ok(appointment) => appointment,
        Err(error) => return Answer::refused(format!("appointment: {error}")),
    };
    let (answer, answered) = oneshot::channel();
    match jobs.try_send((appointment, answer)) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Answer::busy("a phase is under way"),
        Err(TrySendError::Disconnected(_)) => return Answer::failed("the worker is ending"),
    }
    match answered.await {
        Ok(Ok(kept)) => Answer::json(&kept),
        Ok(Err(error @ AgentError::Value { .. })) => Answer::refused(error.to_string()),
        Ok(Err(error)) => Answer::failed(error.to_string()),
        Err(_) => Answer::failed("the phase ended without a report"),
    }
}
