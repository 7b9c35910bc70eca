// SPDX-License-Identifier: Apache-2.0
//! Questions over HTTP, for agents in pods, which have no standard input of anyone's.
//!
//! Every path begins with a word that only the asker knows, because anyone in a cluster can reach a
//! pod.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::agent::{self, AgentError};
use crate::body::Fill;

/// Longest question, bytes.
const QUESTION_MAX: usize = 1 << 20;
/// Shortest word that keeps others out, characters.
const TOKEN_MIN: usize = 16;

/// What a question is answered with.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    kind: &'static str,
    bytes: Vec<u8>,
}

impl Answer {
    /// A value, as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(value).expect("answers' types are written as JSON");
        Self { status: StatusCode::OK, kind: "application/json", bytes }
    }

    /// Bytes as they are.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, kind: "application/octet-stream", bytes }
    }

    /// Why there is no answer: the question is at fault.
    pub fn refused(words: impl Into<String>) -> Self {
        Self::words(StatusCode::BAD_REQUEST, words)
    }

    /// Why there is no answer: another question is being seen to.
    pub fn busy(words: impl Into<String>) -> Self {
        Self::words(StatusCode::CONFLICT, words)
    }

    /// Why there is no answer: the agent is at fault.
    pub fn failed(words: impl Into<String>) -> Self {
        Self::words(StatusCode::INTERNAL_SERVER_ERROR, words)
    }

    /// There is no such question.
    pub fn nothing() -> Self {
        Self::words(StatusCode::NOT_FOUND, "there is nothing here")
    }

    fn words(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, kind: "text/plain", bytes: words.into().into_bytes() }
    }

    fn response(self) -> Response<Fill> {
        let mut response = Response::new(Fill::once(Bytes::from(self.bytes)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        response
    }
}

/// Where an agent is asked.
#[derive(Debug)]
pub struct Questions {
    listener: std::net::TcpListener,
    /// What paths begin with.
    prefix: Rc<str>,
}

impl Questions {
    /// Listens at `listen` for those who know `token`.
    ///
    /// # Errors
    /// The address or the token is none, or the system refuses.
    pub fn listen(listen: &str, token: &str) -> Result<Self, AgentError> {
        const OP: &str = "listen for questions";
        let refuse = |problem: String| AgentError::Value { what: "agent's arguments", problem };
        let address: SocketAddr =
            listen.parse().map_err(|error| refuse(format!("`{listen}`: {error}")))?;
        if !is_token(token) {
            let problem = format!("the token is not {TOKEN_MIN} letters and digits or more");
            return Err(refuse(problem));
        }
        let listener = std::net::TcpListener::bind(address).map_err(AgentError::system(OP))?;
        listener.set_nonblocking(true).map_err(AgentError::system(OP))?;
        Ok(Self { listener, prefix: format!("/{token}/").into() })
    }

    /// Has `answer` answer each question, `POST /TOKEN/WORD` with a body, until the process is killed.
    /// Questions are answered side by side, all on this thread.
    ///
    /// # Errors
    /// The runtime or the listener breaks.
    pub fn answer<F>(
        self,
        answer: impl Fn(String, Vec<u8>) -> F + Clone + 'static,
    ) -> Result<(), AgentError>
    where
        F: Future<Output = Answer> + 'static,
    {
        let Self { listener, prefix } = self;
        agent::runtime()?.block_on(async {
            let listener = TcpListener::from_std(listener)
                .map_err(AgentError::system("take the listener over"))?;
            loop {
                let (stream, _) =
                    listener.accept().await.map_err(AgentError::system("accept a question"))?;
                let (prefix, answer) = (prefix.clone(), answer.clone());
                let service = service_fn(move |request| {
                    let (prefix, answer) = (prefix.clone(), answer.clone());
                    async move { one(request, &prefix, answer).await }
                });
                // A connection that breaks is its asker's to notice.
                let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                spawn_local(async move { serve.await.ok() });
            }
        })
    }
}

/// Whether a word keeps others out.
pub(crate) fn is_token(token: &str) -> bool {
    token.len() >= TOKEN_MIN && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

async fn one<F: Future<Output = Answer>>(
    request: Request<Incoming>,
    prefix: &str,
    answer: impl Fn(String, Vec<u8>) -> F,
) -> hyper::Result<Response<Fill>> {
    let (head, body) = request.into_parts();
    let word = head.uri.path().strip_prefix(prefix);
    let (Some(word), &Method::POST) = (word, &head.method) else {
        return Ok(Answer::nothing().response());
    };
    let answered = match read(body).await? {
        Some(body) => answer(word.to_owned(), body).await,
        None => Answer::words(StatusCode::PAYLOAD_TOO_LARGE, "the question is longer than 1 MiB"),
    };
    Ok(answered.response())
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
