// SPDX-License-Identifier: Apache-2.0
//! Notes when a sampled connection's requests were read and their responses written.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::pod::Pod;
use crate::clock::now_ns;
use crate::protocol::{Accepted, Mark};
use crate::wire::{Direction, Observe, Start};

/// The observer of a sampled connection. A request's start is awaited first, then its response's,
/// then the next request's: one request at a time, as the load client sends them.
#[derive(Debug)]
pub(super) struct Marker {
    pod: Rc<Pod>,
    peer: SocketAddr,
    local: SocketAddr,
    read: Direction,
    written: Direction,
    writing_ns: u64,
    handshake: Option<Accepted>,
    noted: Rc<Noted>,
}

/// What whoever answers a request notes of it, and what it is to know for that.
#[derive(Debug, Default)]
pub(super) struct Noted {
    id: Cell<Option<u64>>,
    /// When the last read that returned bytes did, nanoseconds.
    last_read_ns: Cell<u64>,
    /// The same when the request was there to its last byte.
    received_ns: Cell<u64>,
    /// Whether it is not one of those that are marked.
    passed_over: Cell<bool>,
}

impl Noted {
    /// What the request calls itself.
    pub(super) fn id(&self, id: Option<u64>) {
        self.id.set(id);
    }

    /// The request asks for an upgrade, and what is asked behind that is what is marked.
    pub(super) fn passed_over(&self) {
        self.passed_over.set(true);
    }

    /// The request is there to its last byte.
    pub(super) fn received(&self) {
        self.received_ns.set(self.last_read_ns.get());
    }
}

impl Marker {
    /// For a connection nothing has been read from yet.
    pub(super) fn new(pod: Rc<Pod>, peer: SocketAddr, local: SocketAddr) -> Self {
        let mut read = Direction::unknown_client();
        read.await_message();
        let written = Direction::http1();
        let noted = Rc::default();
        Self { pod, peer, local, read, written, writing_ns: 0, handshake: None, noted }
    }

    /// Where whoever answers a request notes what it has read, before it is answered.
    pub(super) fn noted(&self) -> Rc<Noted> {
        self.noted.clone()
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
}

impl Observe for Option<Marker> {
    const SENDS_FIN: bool = true;

    fn read(&mut self, bytes: &[u8], arrived: Option<Start>) {
        let Some(marker) = self else { return };
        let read_ns = now_ns();
        marker.noted.last_read_ns.set(read_ns);
        let at_ns = arrived.map_or(read_ns, |record| record.at_ns);
        let first = marker.read.bytes() == 0;
        let began = marker.read.pass(bytes, at_ns, arrived.map(|record| record.offset));
        // Nothing was written before the first read told the version: a server speaks second.
        if first && marker.read.is_http2() {
            marker.written = Direction::http2_server();
        }
        if began {
            marker.written.await_message();
        }
    }

    fn writing(&mut self) {
        if let Some(marker) = self
            && marker.written.is_awaited()
        {
            marker.writing_ns = now_ns();
        }
    }

    fn written(&mut self, bytes: &[u8], offset: Option<u64>) {
        let Some(marker) = self else { return };
        if !marker.written.pass(bytes, marker.writing_ns, offset) {
            return;
        }
        if marker.noted.passed_over.take() {
            marker.read.await_message();
            return;
        }
        if let (Some(request), Some(response)) = (marker.read.start(), marker.written.start()) {
            marker.pod.mark(Mark {
                id: marker.noted.id.take(),
                peer: marker.peer,
                local: marker.local,
                request_offset: request.offset,
                response_offset: response.offset,
                read_ns: request.at_ns,
                received_ns: marker.noted.received_ns.get(),
                written_ns: response.at_ns,
                handshake: marker.handshake.take(),
            });
        }
        marker.read.await_message();
    }

    fn failed(&mut self, _: &io::Error) {}
}
