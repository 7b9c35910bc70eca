// SPDX-License-Identifier: Apache-2.0
//! One request and its response on a connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};

use super::failure::Failure;
use super::link::{Link, Sender};
use crate::body::{self, Fill};
use crate::protocol::{LoadSpec, Protocol, REQUEST_ID};
use crate::wire::Start;

/// Most that is read of a body that is not what was asked for, bytes: an error page.
const UNASKED_BYTES: u64 = 64 * 1024;

/// What is the same in all requests of an agent.
#[derive(Debug)]
pub(super) struct Template {
    method: Method,
    uri: Uri,
    host: HeaderValue,
    version: Version,
    request_bytes: u64,
    response_bytes: u64,
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
        let path = path(response_bytes, spec.server_work_ns);
        // RFC 9113 section 8.3.1 wants :scheme and :authority, RFC 9112 section 3.2.1 a path.
        let (version, uri) = match spec.protocol {
            Protocol::Http1 => (Version::HTTP_11, path),
            Protocol::Http2 => {
                let scheme = if spec.tls.is_some() { "https" } else { "http" };
                (Version::HTTP_2, format!("{scheme}://{authority}{path}"))
            }
        };
        Self {
            method: if request_bytes == 0 { Method::GET } else { Method::POST },
            uri: uri.try_into().expect("a checked host and a number make a URI"),
            host: authority.try_into().expect("a checked host makes a header"),
            version,
            request_bytes,
            response_bytes,
            next_id: spec.request_ids.then(|| Cell::new(1)),
        }
    }

    /// Takes the id of a request.
    fn id(&self, sampled: bool) -> Option<u64> {
        let next = self.next_id.as_ref().filter(|_| sampled)?;
        Some(next.replace(next.get() + 1))
    }

    fn request(&self, id: Option<u64>) -> Request<Fill> {
        let mut request = Request::new(Fill::new(self.request_bytes));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        if self.version == Version::HTTP_11 {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        if let Some(id) = id {
            let id = format!("{id:016x}").try_into().expect("digits make a header");
            request.headers_mut().insert(REQUEST_ID, id);
        }
        request
    }

    fn verdict(&self, status: StatusCode, length: u64) -> Result<(), Failure> {
        if status != StatusCode::OK {
            return Err(Failure::Status(status.as_u16()));
        }
        if length != self.response_bytes {
            return Err(Failure::Length);
        }
        Ok(())
    }
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
        let response = self.converse(template, id).await;
        let wire = self.wire.borrow();
        // The read that brought the last byte; what hyper made of it after that is not the path's.
        let last_byte_ns = wire.read_ns;
        match (response, wire.written.start(), wire.read.start()) {
            (Ok((status, Some(length))), Some(sent), Some(first_byte)) => {
                let verdict = template.verdict(status, length);
                Ok(Answered { sent, first_byte, last_byte_ns, id, verdict })
            }
            (Ok((status, None)), ..) => Err(template
                .verdict(status, u64::MAX)
                .expect_err("no response is asked for that is longer than the limit")),
            (Ok(_), ..) => Err(Failure::Other),
            // hyper's error says less about the cause than the socket's own last word.
            (Err(_), ..) => Err(wire.end.unwrap_or(Failure::Other)),
        }
    }

    /// Drives the connection and the request on it in one task: no wakeup crosses tasks. Returns
    /// the status and the body's length, or no length when it is beyond all measure.
    async fn converse(
        &mut self,
        template: &Template,
        id: Option<u64>,
    ) -> hyper::Result<(StatusCode, Option<u64>)> {
        let limit = template.response_bytes.max(UNASKED_BYTES);
        let Self { sender, driver, .. } = self;
        let headed = Cell::new(false);
        let mut talk = pin!(async {
            let response: Response<Incoming> = match sender {
                Sender::Http1(sender) => sender.send_request(template.request(id)).await?,
                Sender::Http2(sender) => sender.send_request(template.request(id)).await?,
            };
            headed.set(true);
            let status = response.status();
            Ok((status, body::length(response.into_body(), limit).await?))
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
