// SPDX-License-Identifier: Apache-2.0
//! The load client as a worker: it is asked for phases over HTTP, where it has no standard input of
//! anyone's, and starts them at a time that several workers are told.
//!
//! Every path begins with a word that only the asker knows, because anyone in a cluster can reach a
//! pod. Phases have a thread of their own; the one that answers rests meanwhile.

use std::net::SocketAddrV4;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::Generator;
use crate::agent::{self, AgentError};
use crate::body::Fill;
use crate::clock::{now_ns, unix_ns};
use crate::protocol::{Appointment, Kept, WorkerClock};

/// Longest question, bytes.
const QUESTION_MAX: usize = 1 << 20;
/// Shortest word that keeps others out, characters.
const TOKEN_MIN: usize = 16;
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
    let refuse = |problem: String| AgentError::Value { what: "worker's arguments", problem };
    let address: SocketAddrV4 =
        listen.parse().map_err(|error| refuse(format!("`{listen}`: {error}")))?;
    if token.len() < TOKEN_MIN || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(refuse(format!("the token is not {TOKEN_MIN} letters and digits or more")));
    }
    let listener =
        std::net::TcpListener::bind(address).map_err(AgentError::system("listen for questions"))?;
    listener.set_nonblocking(true).map_err(AgentError::system("listen for questions"))?;
    // One phase at a time. One more may wait, which will be late and say so: the thread takes a moment
    // from an answer to the next question.
    let (jobs, queue) = sync_channel(1);
    std::thread::Builder::new()
        .name("phases".to_owned())
        .spawn(move || keep(&queue))
        .map_err(AgentError::system("start the thread that keeps appointments"))?;
    answer_questions(listener, token, jobs)
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

fn answer_questions(
    listener: std::net::TcpListener,
    token: &str,
    jobs: SyncSender<Job>,
) -> Result<(), AgentError> {
    let prefix: Rc<str> = format!("/{token}/").into();
    agent::runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)
            .map_err(AgentError::system("take the listener over"))?;
        loop {
            let (stream, _) =
                listener.accept().await.map_err(AgentError::system("accept a question"))?;
            let (prefix, jobs) = (prefix.clone(), jobs.clone());
            let answer = service_fn(move |request| {
                let (prefix, jobs) = (prefix.clone(), jobs.clone());
                async move { answer(request, &prefix, &jobs).await }
            });
            // A connection that breaks is its asker's to notice.
            let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            spawn_local(async move { serve.await.ok() });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    prefix: &str,
    jobs: &SyncSender<Job>,
) -> hyper::Result<Response<Fill>> {
    let (head, body) = request.into_parts();
    let Some(question) = head.uri.path().strip_prefix(prefix) else {
        return Ok(words(StatusCode::NOT_FOUND, "there is nothing here"));
    };
    Ok(match (&head.method, question) {
        (&Method::POST, "clock") => json(&WorkerClock { unix_ns: unix_ns() }),
        (&Method::POST, "run") => match read(body).await? {
            Some(body) => appoint(&body, jobs).await,
            None => words(StatusCode::PAYLOAD_TOO_LARGE, "the question is longer than 1 MiB"),
        },
        _ => words(StatusCode::NOT_FOUND, "there is nothing here"),
    })
}

async fn appoint(body: &[u8], jobs: &SyncSender<Job>) -> Response<Fill> {
    let appointment = match serde_json::from_slice(body) {
        Ok(appointment) => appointment,
        Err(error) => return words(StatusCode::BAD_REQUEST, &format!("appointment: {error}")),
    };
    let (answer, answered) = oneshot::channel();
    match jobs.try_send((appointment, answer)) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return words(StatusCode::CONFLICT, "a phase is under way"),
        Err(TrySendError::Disconnected(_)) => {
            return words(StatusCode::INTERNAL_SERVER_ERROR, "the worker is ending");
        }
    }
    match answered.await {
        Ok(Ok(kept)) => json(&kept),
        Ok(Err(error @ AgentError::Value { .. })) => {
            words(StatusCode::BAD_REQUEST, &error.to_string())
        }
        Ok(Err(error)) => words(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(_) => words(StatusCode::INTERNAL_SERVER_ERROR, "the phase ended without a report"),
    }
}

/// The whole of a body, or `None` where it is too long.
async fn read(mut body: Incoming) -> hyper::Result<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.transpose()?
    {
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > QUESTION_MAX {
                return Ok(None);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Some(whole))
}

fn json(value: &impl Serialize) -> Response<Fill> {
    let text = serde_json::to_vec(value).expect("the protocol's types are written as JSON");
    let mut response = Response::new(Fill::once(Bytes::from(text)));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

fn words(status: StatusCode, words: &str) -> Response<Fill> {
    let mut response = Response::new(Fill::once(Bytes::copy_from_slice(words.as_bytes())));
    *response.status_mut() = status;
    response
}
