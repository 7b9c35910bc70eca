// SPDX-License-Identifier: Apache-2.0
//! What the connections of a target share: its name, its counts, its marks; and its answers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};

use super::marks::Note;
use crate::body::{self, Fill, MAX_BYTES};
use crate::clock::now_ns;
use crate::grpc::{self, Code};
use crate::protocol::{Mark, TargetReply, WORK_MAX_NS};
use crate::questions::is_token;
use crate::websocket::{self, Refused};

/// Marks kept between two drains at most: 10 MiB of them.
const MARKS_MAX: usize = 200_000;

const POD: HeaderName = HeaderName::from_static("x-pod");
const PEER: HeaderName = HeaderName::from_static("x-peer");

/// The server's state, all of it on one thread.
#[derive(Debug)]
pub(super) struct Pod {
    name: HeaderValue,
    served: Cell<u64>,
    marks: RefCell<Vec<Mark>>,
    not_kept: Cell<u64>,
    /// Path at which marks are asked for, if they may be.
    marks_at: Option<String>,
    /// Whether connections begin with the PROXY protocol's preamble.
    proxied: bool,
}

impl Pod {
    /// A pod of that name.
    ///
    /// # Errors
    /// The name cannot stand in a header.
    pub(super) fn new(name: &str) -> Result<Rc<Self>, InvalidHeaderValue> {
        Ok(Rc::new(Self {
            name: name.try_into()?,
            served: Cell::new(0),
            marks: RefCell::default(),
            not_kept: Cell::new(0),
            marks_at: None,
            proxied: false,
        }))
    }

    /// The same for connections that begin with the PROXY protocol's preamble, or do not.
    pub(super) fn behind_proxy(self: Rc<Self>, proxied: bool) -> Rc<Self> {
        let pod = Rc::into_inner(self).expect("nobody else has it yet");
        Rc::new(Self { proxied, ..pod })
    }

    /// Whether they do.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxied
    }

    /// A pod of that name whose marks those may ask for who know `token`.
    pub(super) fn asked(name: &str, token: Option<&str>) -> Result<Rc<Self>, String> {
        let pod = Self::new(name).map_err(|error| error.to_string())?;
        let Some(token) = token else { return Ok(pod) };
        if !is_token(token) {
            return Err("the token is too short, or not of letters and digits".to_owned());
        }
        let mut pod = Rc::into_inner(pod).expect("nobody else has it yet");
        pod.marks_at = Some(format!("/{token}/marks"));
        Ok(Rc::new(pod))
    }

    /// The marks since the last drain, and what else a drain tells.
    pub(super) fn drain(&self) -> TargetReply {
        TargetReply::Marks {
            marks: self.marks.take(),
            not_kept: self.not_kept.take(),
            served: self.served.get(),
        }
    }

    fn drained(&self) -> Vec<u8> {
        serde_json::to_vec(&self.drain()).expect("the protocol's types are written as JSON")
    }

    /// Keeps a mark if there is room.
    pub(super) fn mark(&self, mark: Mark) {
        let mut marks = self.marks.borrow_mut();
        if marks.len() < MARKS_MAX {
            marks.push(mark);
        } else {
            self.not_kept.set(self.not_kept.get() + 1);
        }
    }

    /// Answers one request, after its body was read to the end: a response that overtakes its
    /// request would leave no line between this request's bytes and the next one's.
    pub(super) async fn answer(
        self: Rc<Self>,
        peer: HeaderValue,
        note: Option<Rc<Note>>,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<Fill>> {
        let (head, body) = request.into_parts();
        if grpc::is_grpc(&head.headers) {
            return self.call(peer, note, head, body).await;
        }
        if head.uri.path() == websocket::PATH {
            return Ok(self.upgrade(peer, &head));
        }
        let whole = body::length(body, MAX_BYTES).await?;
        if let Some(note) = note {
            note.received();
        }
        let (status, body) = match (whole, &head.method) {
            (None, _) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            (_, &Method::GET | &Method::POST) => match self.body(head.uri.path()) {
                Some(body) => (StatusCode::OK, Some(body)),
                None => (StatusCode::NOT_FOUND, None),
            },
            _ => (StatusCode::METHOD_NOT_ALLOWED, None),
        };
        let mut response = Response::new(body.unwrap_or_else(|| Fill::new(0)));
        *response.status_mut() = status;
        Ok(self.signed(response, of_version(peer, head.version)))
    }

    /// Answers a request for an upgrade. It is no request that is counted where it is granted.
    fn upgrade(&self, peer: HeaderValue, head: &Parts) -> Response<Fill> {
        let mut response = Response::new(Fill::new(0));
        let answered = websocket::answer(head, response.headers_mut());
        *response.status_mut() = match answered {
            Ok(()) => StatusCode::SWITCHING_PROTOCOLS,
            Err(Refused(status)) => {
                self.serves();
                status
            }
        };
        self.named(response, of_version(peer, head.version))
    }

    /// A request was served.
    pub(super) fn serves(&self) {
        self.served.set(self.served.get() + 1);
    }

    /// Answers one call of gRPC.
    async fn call(
        &self,
        peer: HeaderValue,
        note: Option<Rc<Note>>,
        head: Parts,
        body: Incoming,
    ) -> hyper::Result<Response<Fill>> {
        let whole = body::whole(body, grpc::MESSAGE_MAX).await?;
        if let Some(note) = note {
            note.received();
        }
        let asked = match whole {
            _ if head.method != Method::POST || head.uri.path() != grpc::PATH => {
                Err(Code::Unimplemented)
            }
            None => Err(Code::ResourceExhausted),
            Some(whole) => grpc::asked(&whole.bytes),
        };
        let work_ns = grpc::work_ns(&head.headers).filter(|&ns| ns <= WORK_MAX_NS);
        let asked = work_ns.ok_or(Code::InvalidArgument).and(asked);
        let mut response = Response::new(match asked {
            Ok(bytes) => {
                work(work_ns.unwrap_or(0));
                grpc::answer(bytes)
            }
            Err(_) => Fill::new(0),
        });
        if let Err(code) = asked {
            grpc::refuse(response.headers_mut(), code);
        }
        response.headers_mut().insert(CONTENT_TYPE, grpc::MEDIA_TYPE);
        Ok(self.signed(response, of_version(peer, head.version)))
    }

    /// Says who answers, and whom, and counts.
    fn signed(&self, response: Response<Fill>, peer: HeaderValue) -> Response<Fill> {
        self.serves();
        self.named(response, peer)
    }

    /// Says who answers, and whom.
    fn named(&self, mut response: Response<Fill>, peer: HeaderValue) -> Response<Fill> {
        response.headers_mut().insert(POD, self.name.clone());
        response.headers_mut().insert(PEER, peer);
        response
    }

    /// Body at a path: the pod's name at `/`, N bytes at `/bytes/N`, N at most [`MAX_BYTES`]; the same
    /// at `/bytes/N/work/NS`, after so many nanoseconds of the processor, at most [`WORK_MAX_NS`]; the
    /// marks at `/TOKEN/marks`.
    fn body(&self, path: &str) -> Option<Fill> {
        if path == "/" {
            return Some(Fill::once(Bytes::copy_from_slice(self.name.as_bytes())));
        }
        let Some(rest) = path.strip_prefix("/bytes/") else {
            let asked = self.marks_at.as_deref() == Some(path);
            return asked.then(|| Fill::once(self.drained().into()));
        };
        let (length, work_ns) = match rest.split_once("/work/") {
            Some((length, work_ns)) => (length, work_ns.parse().ok()?),
            None => (rest, 0),
        };
        let length: u64 = length.parse().ok()?;
        if length > MAX_BYTES || work_ns > WORK_MAX_NS {
            return None;
        }
        work(work_ns);
        Some(Fill::new(length))
    }
}

/// Holds the thread for that long, as a handler that computes does. It looks at the clock, because a
/// counted loop would take another time on every processor.
pub(super) fn work(work_ns: u64) {
    let began_ns = now_ns();
    while work_ns > 0 && now_ns() - began_ns < work_ns {
        std::hint::spin_loop();
    }
}

/// HTTP/2 has no white space around a field's value: it would be part of it, and malformed (RFC 9113,
/// section 8.2.1).
fn of_version(value: HeaderValue, version: Version) -> HeaderValue {
    if version < Version::HTTP_2 {
        return value;
    }
    let bare = value.as_bytes().trim_ascii_end();
    HeaderValue::from_bytes(bare).expect("a part of a header's value is one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Body;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    #[test]
    fn paths_name_their_length_up_to_a_bound() {
        let pod = Pod::new("pod-7").unwrap();
        let length = |path| pod.body(path).map(|body| body.size_hint().exact().unwrap());
        assert_eq!(length("/"), Some(5));
        assert_eq!(length("/bytes/0"), Some(0));
        assert_eq!(length("/bytes/1073741824"), Some(MAX_BYTES));
        assert_eq!(length("/bytes/7/work/1000"), Some(7));
        for path in [
            "/bytes/1073741825",
            "/bytes/",
            "/bytes/x",
            "/bytes/-1",
            "/other",
            "/bytes/7/work/1000000001",
            "/bytes/7/work/",
            "/bytes/7/work/1/work/1",
        ] {
            assert_eq!(length(path), None, "{path}");
        }
    }

    #[test]
    fn work_takes_as_long_as_asked() {
        let pod = Pod::new("p").unwrap();
        let began_ns = now_ns();
        pod.body("/bytes/0/work/3000000").unwrap();
        assert!(now_ns() - began_ns >= 3_000_000);
    }

    #[test]
    fn marks_are_told_to_those_who_know_the_word() {
        let token = "0123456789abcdef";
        let pod = Pod::asked("p", Some(token)).unwrap();
        assert!(pod.body("/fedcba9876543210/marks").is_none());
        let told = pod.body(&format!("/{token}/marks")).unwrap();
        assert!(told.size_hint().exact().unwrap() > 0);
        assert!(Pod::new("p").unwrap().body("/marks").is_none());
        Pod::asked("p", Some("short")).unwrap_err();
    }

    #[test]
    fn marks_beyond_the_bound_are_counted_and_a_drain_makes_room() {
        let pod = Pod::new("p").unwrap();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        let mark = Mark {
            id: None,
            peer: address,
            local: address,
            request_offset: 0,
            response_offset: 0,
            read_ns: 1,
            received_ns: 1,
            written_ns: 2,
            handshake: None,
        };
        (0..MARKS_MAX + 3).for_each(|_| pod.mark(mark));
        let TargetReply::Marks { marks, not_kept, .. } = pod.drain() else { panic!() };
        assert_eq!((marks.len(), not_kept), (MARKS_MAX, 3));
        pod.mark(mark);
        let TargetReply::Marks { marks, not_kept, .. } = pod.drain() else { panic!() };
        assert_eq!((marks.len(), not_kept), (1, 0));
    }
}
