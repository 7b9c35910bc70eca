// SPDX-License-Identifier: Apache-2.0
//! One request and its response on a connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::failure::Failure;
use super::link::{Link, Sender};
use crate::body::{self, Fill};
use crate::grpc;
use crate::protocol::{LoadSpec, Protocol, REQUEST_ID};
use crate::websocket::{self, Ask};
use crate::wire::Start;

/// Most that is read of a body that is not what was asked for, bytes: an error page.
pub(super) const UNASKED_BYTES: u64 = 64 * 1024;

/// What is the same in all requests of an agent.
#[derive(Debug)]
pub(super) struct Template {
    method: Method,
    uri: Uri,
    host: HeaderValue,
    protocol: Protocol,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    server_work_ns: u64,
    /// Where the keys of upgrades and masks are from.
    random: RefCell<SmallRng>,
    /// Id of the next sampled request, where they have ids.
    next_id: Option<Cell<u64>>,
}

/// A response that was read to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) sent: Start,
    pub(super) first_byte: Start,
    pub(super) last_byte_ns: u64,
    /// What the request was sent as.
    pub(super) id: Option<u64>,
    /// Whether it is the one that was asked for.
    pub(super) verdict: Result<(), Failure>,
}

/// Where a body of that length is, after that much work. Without work the path does not speak of any,
/// so that the bytes of such a request are what they are in every other record.
fn path(response_bytes: u64, work_ns: u64) -> String {
    match work_ns {
        0 => format!("/bytes/{response_bytes}"),
        work_ns => format!("/bytes/{response_bytes}/work/{work_ns}"),
    }
}

impl Template {
    pub(super) fn new(spec: &LoadSpec) -> Self {
        let LoadSpec { target, request_bytes, response_bytes, .. } = *spec;
        let authority = spec.host.clone().unwrap_or_else(|| target.to_string());
        let path = match spec.protocol {
            Protocol::Http1 | Protocol::Http2 => path(response_bytes, spec.server_work_ns),
            Protocol::Grpc => grpc::PATH.to_owned(),
            Protocol::WebSocket => websocket::PATH.to_owned(),
        };
        // RFC 9113 section 8.3.1 wants :scheme and :authority, RFC 9112 section 3.2.1 a path.
        let uri = if spec.protocol.is_http2() {
            let scheme = if spec.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{authority}{path}")
        } else {
            path
        };
        let is_get = match spec.protocol {
            Protocol::Http1 | Protocol::Http2 => request_bytes == 0,
            Protocol::Grpc => false,
            Protocol::WebSocket => true,
        };
        Self {
            method: if is_get { Method::GET } else { Method::POST },
            uri: uri.try_into().expect("a checked host and a number make a URI"),
            host: authority.try_into().expect("a checked host makes a header"),
            protocol: spec.protocol,
            request_bytes,
            response_bytes,
            server_work_ns: spec.server_work_ns,
            random: RefCell::new(SmallRng::seed_from_u64(spec.seed)),
            next_id: spec.request_ids.then(|| Cell::new(1)),
        }
    }

    /// Takes the id of a request.
    fn id(&self, sampled: bool) -> Option<u64> {
        let next = self.next_id.as_ref().filter(|_| sampled)?;
        Some(next.replace(next.get() + 1))
    }

    /// Numbers by chance, others each time.
    pub(super) fn random(&self) -> SmallRng {
        SmallRng::from_rng(&mut self.random.borrow_mut())
    }

    /// What asks for an upgrade, and what the answer to it has to say.
    pub(super) fn upgrade(&self) -> (Request<Fill>, HeaderValue) {
        let mut request = self.request(None);
        let key = self.random.borrow_mut().random();
        let accept = websocket::ask_for(request.headers_mut(), key);
        (request, accept)
    }

    /// What a message asks.
    pub(super) fn ask(&self, id: Option<u64>) -> Ask {
        Ask { response_bytes: self.response_bytes, work_ns: self.server_work_ns, id }
    }

    fn request(&self, id: Option<u64>) -> Request<Fill> {
        let mut request = Request::new(match self.protocol {
            Protocol::WebSocket => Fill::new(0),
            Protocol::Http1 | Protocol::Http2 => Fill::new(self.request_bytes),
            Protocol::Grpc => grpc::call(self.request_bytes, self.response_bytes),
        });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        match self.protocol {
            Protocol::Http1 | Protocol::WebSocket => {
                request.headers_mut().insert(HOST, self.host.clone());
            }
            Protocol::Http2 => *request.version_mut() = Version::HTTP_2,
            Protocol::Grpc => {
                *request.version_mut() = Version::HTTP_2;
                grpc::call_headers(request.headers_mut(), self.server_work_ns);
            }
        }
        if let Some(id) = id {
            let id = format!("{id:016x}").try_into().expect("digits make a header");
            request.headers_mut().insert(REQUEST_ID, id);
        }
        request
    }

    /// Reads a response to its end.
    async fn judge(&self, response: Response<Incoming>) -> hyper::Result<Judged> {
        let limit = self.response_bytes.max(UNASKED_BYTES);
        let (head, body) = response.into_parts();
        let (length, code) = match self.protocol {
            Protocol::Http1 | Protocol::Http2 | Protocol::WebSocket => {
                (body::length(body, limit).await?, None)
            }
            Protocol::Grpc => match body::whole(body, grpc::MESSAGE_MAX).await? {
                None => (None, None),
                Some(whole) => {
                    let said = grpc::status(&whole.trailers).or(grpc::status(&head.headers));
                    // Without a word it is UNKNOWN (grpc/doc/http-grpc-status-mapping.md).
                    (grpc::answered(&whole.bytes).or(Some(u64::MAX)), Some(said.unwrap_or(2)))
                }
            },
        };
        let verdict = match (head.status, code, length) {
            (StatusCode::OK, Some(code @ 1..), _) => Err(Failure::Grpc(code)),
            (StatusCode::OK, _, length) if length == Some(self.response_bytes) => Ok(()),
            (StatusCode::OK, ..) => Err(Failure::Length),
            (status, ..) => Err(Failure::Status(status.as_u16())),
        };
        Ok(Judged { verdict, whole: length.is_some() })
    }
}

/// A response that was read.
pub(super) struct Judged {
    /// Whether it is the one that was asked for.
    pub(super) verdict: Result<(), Failure>,
    /// Whether it was read to its end, and not beyond all measure.
    pub(super) whole: bool,
}

impl Link {
    /// Sends one request and reads its response to the end. The link [`Link::is_open`]. After an
    /// error it cannot be used again.
    pub(super) async fn exchange(&mut self, template: &Template) -> Result<Answered, Failure> {
        {
            let mut wire = self.wire.borrow_mut();
            wire.written.await_message();
            wire.read.await_message();
        }
        let id = template.id(self.sampled);
        let response = match &mut self.sender {
            Sender::WebSocket(talk) => talk.converse(template, id).await,
            Sender::Http1(_) | Sender::Http2(_) => self.converse(template, id).await.or(Err(None)),
        };
        let wire = self.wire.borrow();
        // The read that brought the last byte; what hyper made of it after that is not the path's.
        let last_byte_ns = wire.read_ns;
        match (response, wire.written.start(), wire.read.start()) {
            (Ok(Judged { verdict, whole: true }), Some(sent), Some(first_byte)) => {
                Ok(Answered { sent, first_byte, last_byte_ns, id, verdict })
            }
            (Ok(Judged { verdict, .. }), ..) => Err(verdict.err().unwrap_or(Failure::Other)),
            // hyper's error says less about the cause than the socket's own last word.
            (Err(failure), ..) => Err(failure.or(wire.end).unwrap_or(Failure::Other)),
        }
    }

    /// Drives the connection and the request on it in one task: no wakeup crosses tasks.
    async fn converse(&mut self, template: &Template, id: Option<u64>) -> hyper::Result<Judged> {
        let Self { sender, driver, .. } = self;
        let headed = Cell::new(false);
        let mut talk = pin!(async {
            let response: Response<Incoming> = match sender {
                Sender::Http1(sender) => sender.send_request(template.request(id)).await?,
                Sender::Http2(sender) => sender.send_request(template.request(id)).await?,
                Sender::WebSocket(_) => unreachable!("it is no connection of hyper's any more"),
            };
            headed.set(true);
            template.judge(response).await
        });
        let mut queued = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut queued, true)
                && let Poll::Ready(done) = talk.as_mut().poll(cx)
            {
                return Poll::Ready(done);
            }
            loop {
                super::link::drive(driver, cx);
                let had_head = headed.get();
                if let Poll::Ready(done) = talk.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                // hyper hands the body over once the head was taken: once more, then.
                if headed.get() == had_head {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}
