// SPDX-License-Identifier: Apache-2.0
//! Notes when a sampled connection's requests were read and their responses written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::pod::Pod;
use crate::clock::now_ns;
use crate::protocol::{Accepted, Mark};
use crate::wire::{Direction, Observe, Start};

/// Requests of a connection without an answer at most: several times the streams that hyper lets a client
/// have open at once.
const UNANSWERED_MAX: usize = 1024;

/// The observer of a sampled connection. Over HTTP/1.1, and from the load client, there is one request at a
/// time: its start is awaited first, then its response's, then the next request's. Over HTTP/2 proxies send many
/// at once, and answers overtake each other: there each stream has a start.
#[derive(Debug)]
pub(super) struct Marker {
    pod: Rc<Pod>,
    peer: SocketAddr,
    local: SocketAddr,
    read: Direction,
    written: Direction,
    writing_ns: u64,
    unanswered: Unanswered,
    handshake: Option<Accepted>,
}

/// Requests that began and are not answered.
#[derive(Debug, Default)]
struct Unanswered {
    /// In their order, with their streams; 0 without HTTP/2.
    begun: VecDeque<(u32, Start)>,
    /// The newest stream: HEADERS frames of it, and of those before, are trailers.
    newest: u32,
    noted: Rc<Noted>,
}

/// What is noted by whoever answers a connection's requests.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// When the last read that returned bytes did, nanoseconds.
    last_read_ns: Rc<Cell<u64>>,
    /// Of the requests that began and are not answered, the first ones: hyper hands them on in the order of
    /// their streams.
    notes: RefCell<VecDeque<Rc<Note>>>,
}

/// What is noted of one request, and what it is to know for that.
#[derive(Debug)]
pub(super) struct Note {
    id: Option<u64>,
    last_read_ns: Rc<Cell<u64>>,
    /// When the last read did before the request was there to its last byte, nanoseconds.
    received_ns: Cell<u64>,
    /// Whether it is not one of those that are marked.
    passed_over: Cell<bool>,
}

impl Noted {
    /// A request has come that calls itself so.
    pub(super) fn request(&self, id: Option<u64>) -> Rc<Note> {
        let last_read_ns = self.last_read_ns.clone();
        let (received_ns, passed_over) = Default::default();
        let note = Rc::new(Note { id, last_read_ns, received_ns, passed_over });
        self.notes.borrow_mut().push_back(note.clone());
        note
    }
}

impl Note {
    /// The request asks for an upgrade, and what is asked behind that is what is marked.
    pub(super) fn passed_over(&self) {
        self.passed_over.set(true);
    }

    /// The request is there to its last byte.
    pub(super) fn received(&self) {
        self.received_ns.set(self.last_read_ns.get());
    }
}

impl Unanswered {
    /// A request began.
    fn add(&mut self, stream: u32, start: Start) {
        if self.begun.len() == UNANSWERED_MAX {
            self.begun.pop_front();
            self.noted.notes.borrow_mut().pop_front();
        }
        self.begun.push_back((stream, start));
    }

    /// A HEADERS frame of a client's.
    fn headers(&mut self, stream: u32, start: Start) {
        if stream > self.newest {
            self.newest = stream;
            self.add(stream, start);
        }
    }

    /// A response began, or its trailers did: where its request began, and what was noted of that.
    fn take(&mut self, stream: u32) -> Option<(Start, Rc<Note>)> {
        let place = self.begun.iter().position(|&(begun, _)| begun == stream)?;
        // The two are of the same requests in the same order.
        let (_, request) = self.begun.remove(place)?;
        Some((request, self.noted.notes.borrow_mut().remove(place)?))
    }
}

impl Marker {
    /// For a connection nothing has been read from yet.
    pub(super) fn new(pod: Rc<Pod>, peer: SocketAddr, local: SocketAddr) -> Self {
        let mut read = Direction::unknown_client();
        read.await_message();
        let written = Direction::http1();
        let unanswered = Unanswered::default();
        Self { pod, peer, local, read, written, writing_ns: 0, unanswered, handshake: None }
    }

    /// Where whoever answers requests notes them, before they are answered.
    pub(super) fn noted(&self) -> Rc<Noted> {
        self.unanswered.noted.clone()
    }

    /// So many bytes were read before the connection's own.
    pub(super) fn behind(&mut self, bytes: u64) {
        self.read.behind(bytes);
    }

    /// From here on the connection is one of messages; `ahead` was read of them.
    pub(super) fn upgraded(&mut self, ahead: &[u8]) {
        self.read.upgrade(ahead);
        self.written.upgrade(&[]);
    }

    /// The connection's TLS handshake is over.
    pub(super) fn secured(&mut self, handshake: Accepted) {
        self.handshake = Some(handshake);
    }

    /// A response began, or its trailers did.
    fn answered(&mut self, stream: u32, response: Start) {
        let Some((request, note)) = self.unanswered.take(stream) else { return };
        if note.passed_over.get() {
            return;
        }
        self.pod.mark(Mark {
            id: note.id,
            peer: self.peer,
            local: self.local,
            request_offset: request.offset,
            response_offset: response.offset,
            read_ns: request.at_ns,
            received_ns: note.received_ns.get(),
            written_ns: response.at_ns,
            handshake: self.handshake.take(),
        });
    }
}

impl Observe for Option<Marker> {
    const SENDS_FIN: bool = true;

    fn read(&mut self, bytes: &[u8], arrived: Option<Start>) {
        let Some(marker) = self else { return };
        let Marker { read, written, unanswered, .. } = marker;
        let read_ns = now_ns();
        unanswered.noted.last_read_ns.set(read_ns);
        let at_ns = arrived.map_or(read_ns, |record| record.at_ns);
        let carried = arrived.map(|record| record.offset);
        read.look(bytes);
        if read.is_http2() {
            // Nothing was written before the first read told the version: a server speaks second. Whatever came before
            // that, as a proxy's preamble does, is not told from it by the count of bytes.
            if !written.is_http2() {
                *written = Direction::http2_server();
            }
            read.begins(bytes, |stream, offset| {
                unanswered.headers(stream, Start { offset: carried.unwrap_or(offset), at_ns });
            });
        } else if read.pass(bytes, at_ns, carried)
            && let Some(start) = read.start()
        {
            unanswered.add(0, start);
            written.await_message();
        }
    }

    fn writing(&mut self) {
        if let Some(marker) = self
            && !marker.unanswered.begun.is_empty()
        {
            marker.writing_ns = now_ns();
        }
    }

    fn written(&mut self, bytes: &[u8], carried: Option<u64>) {
        let Some(marker) = self else { return };
        let at_ns = marker.writing_ns;
        if marker.written.is_http2() {
            let mut begun = Vec::new();
            marker.written.begins(bytes, |stream, offset| begun.push((stream, offset)));
            for (stream, offset) in begun {
                marker.answered(stream, Start { offset: carried.unwrap_or(offset), at_ns });
            }
        } else if marker.written.pass(bytes, at_ns, carried) {
            if let Some(start) = marker.written.start() {
                marker.answered(0, start);
            }
            marker.read.await_message();
        }
    }

    fn failed(&mut self, _: &io::Error) {}
}
