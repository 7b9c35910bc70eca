// SPDX-License-Identifier: Apache-2.0
//! Notes when a sampled connection's requests were read and their responses written.

use std::cell::Cell;
use std::io;
use std::net::SocketAddrV4;
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
    peer: SocketAddrV4,
    local: SocketAddrV4,
    read: Direction,
    written: Direction,
    writing_ns: u64,
    handshake: Option<Accepted>,
    id: Rc<Cell<Option<u64>>>,
}

impl Marker {
    /// For a connection nothing has been read from yet.
    pub(super) fn new(pod: Rc<Pod>, peer: SocketAddrV4, local: SocketAddrV4) -> Self {
        let mut read = Direction::unknown_client();
        read.await_message();
        let written = Direction::http1();
        let id = Rc::default();
        Self { pod, peer, local, read, written, writing_ns: 0, handshake: None, id }
    }

    /// Where whoever reads a request leaves its id, before it is answered.
    pub(super) fn id(&self) -> Rc<Cell<Option<u64>>> {
        self.id.clone()
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
        let at_ns = match arrived {
            Some(record) => record.at_ns,
            None if marker.read.is_awaited() => now_ns(),
            None => 0,
        };
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
        if let (Some(request), Some(response)) = (marker.read.start(), marker.written.start()) {
            marker.pod.mark(Mark {
                id: marker.id.take(),
                peer: marker.peer,
                local: marker.local,
                request_offset: request.offset,
                response_offset: response.offset,
                read_ns: request.at_ns,
                written_ns: response.at_ns,
                handshake: marker.handshake.take(),
            });
        }
        marker.read.await_message();
    }

    fn failed(&mut self, _: &io::Error) {}
}
