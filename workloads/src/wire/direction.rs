// SPDX-License-Identifier: Apache-2.0
//! One direction of a connection: bytes so far, and where and when the awaited message began.

use super::frames::Frames;
use crate::websocket;

/// What a client sends before its first HTTP/2 frame: RFC 9113 section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How messages are told apart in the stream.
#[derive(Debug)]
enum Framing {
    /// Not known before the first bytes: a server's view of its client.
    Unknown,
    /// HTTP/1.1 without pipelining: the first byte after the other side's message.
    Turns,
    /// HTTP/2: a HEADERS frame.
    Frames(Frames),
    /// WebSocket: the first frame of a message.
    Messages(websocket::Frames),
}

/// Where and when a message began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Bytes of the stream before it.
    pub(crate) offset: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) at_ns: u64,
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Direction {
    bytes: u64,
    framing: Framing,
    awaited: bool,
    start: Option<Start>,
}

impl Direction {
    fn new(framing: Framing) -> Self {
        Self { bytes: 0, framing, awaited: false, start: None }
    }

    /// HTTP/1.1, either direction.
    pub(crate) fn http1() -> Self {
        Self::new(Framing::Turns)
    }

    /// HTTP/2 as a client writes it: a preface, then frames.
    pub(crate) fn http2_client() -> Self {
        Self::new(Framing::Frames(Frames::after(PREFACE.len() as u64)))
    }

    /// HTTP/2 as a server writes it: frames.
    pub(crate) fn http2_server() -> Self {
        Self::new(Framing::Frames(Frames::after(0)))
    }

    /// A client's bytes, of a version still to be seen. No HTTP/1.1 method a client of ours sends
    /// begins with the preface's first three letters; a first read of fewer than three bytes is
    /// taken for HTTP/1.1.
    pub(crate) fn unknown_client() -> Self {
        Self::new(Framing::Unknown)
    }

    /// From here on it is WebSocket. `ahead` are the bytes that went by after the upgrade; no message that
    /// begins in them was asked for.
    pub(crate) fn upgrade(&mut self, ahead: &[u8]) {
        let mut frames = websocket::Frames::default();
        frames.message_in(ahead, 0);
        self.framing = Framing::Messages(frames);
    }

    /// So many bytes have gone by that are nobody's message.
    pub(crate) fn behind(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// From here on the next message's start is looked for.
    pub(crate) fn await_message(&mut self) {
        self.awaited = true;
        self.start = None;
    }

    /// Whether a message's start is being looked for, and so whether a time is wanted.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Bytes that went by.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Start of the message last awaited, once it was seen.
    pub(crate) fn start(&self) -> Option<Start> {
        self.start
    }

    /// Whether the bytes so far are HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.framing, Framing::Frames(_))
    }

    /// Tells the version by a client's first bytes, before they go by.
    pub(crate) fn look(&mut self, chunk: &[u8]) {
        if let Framing::Unknown = self.framing {
            self.framing = if chunk.starts_with(&PREFACE[..3]) {
                Framing::Frames(Frames::after(PREFACE.len() as u64))
            } else {
                Framing::Turns
            };
        }
    }

    /// Bytes went by, read or written around `at_ns`. Returns whether the awaited message began
    /// with them: with HTTP/2 the first one, for whoever has one stream at a time. `carried` is where they lie
    /// on a wire that carries them otherwise.
    pub(crate) fn pass(&mut self, chunk: &[u8], at_ns: u64, carried: Option<u64>) -> bool {
        let mut first = None;
        self.begins(chunk, |_, offset| first = first.or(Some(offset)));
        match first {
            Some(offset) if self.awaited => {
                self.start = Some(Start { offset: carried.unwrap_or(offset), at_ns });
                self.awaited = false;
                true
            }
            _ => false,
        }
    }

    /// Bytes went by: tells what may begin a message in them, by its place, and with HTTP/2 by its stream, whose
    /// trailers are told too.
    pub(crate) fn begins(&mut self, chunk: &[u8], mut begun: impl FnMut(u32, u64)) {
        self.look(chunk);
        let at = match &mut self.framing {
            Framing::Frames(frames) => {
                frames.headers_in(chunk, self.bytes, &mut begun);
                None
            }
            Framing::Messages(frames) => frames.message_in(chunk, self.bytes),
            Framing::Unknown | Framing::Turns => (!chunk.is_empty()).then_some(self.bytes),
        };
        if let Some(at) = at {
            begun(0, at);
        }
        self.bytes += chunk.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_bytes_after_awaiting_begin_a_message() {
        let mut direction = Direction::http1();
        assert!(!direction.pass(b"stray", 1, None));
        direction.await_message();
        assert!(direction.pass(b"GET / HT", 2, None));
        assert!(!direction.pass(b"TP/1.1", 3, None));
        assert_eq!(direction.start(), Some(Start { offset: 5, at_ns: 2 }));
        assert_eq!(direction.bytes(), 19);
    }

    #[test]
    fn a_message_that_is_carried_begins_where_its_record_does() {
        let mut direction = Direction::http1();
        direction.await_message();
        assert!(direction.pass(b"GET / HT", 2, Some(517)));
        assert_eq!(direction.start(), Some(Start { offset: 517, at_ns: 2 }));
        assert_eq!(direction.bytes(), 8);
    }

    #[test]
    fn once_upgraded_a_ping_is_no_message() {
        let mut direction = Direction::http1();
        direction.await_message();
        assert!(direction.pass(b"HTTP/1.1 101 Switching Protocols", 1, None));
        // A ping in parts, its first byte read with the answer.
        direction.pass(&[0x89], 2, None);
        direction.upgrade(&[0x89]);
        direction.await_message();
        assert!(!direction.pass(&[2, 0x82, 0x82], 3, None));
        assert!(direction.pass(&[0x8a, 0, 0x82, 1, 0], 4, None));
        assert_eq!(direction.start(), Some(Start { offset: 38, at_ns: 4 }));
    }

    #[test]
    fn the_preface_tells_http2_from_http1() {
        let mut http2 = Direction::unknown_client();
        http2.await_message();
        assert!(!http2.pass(PREFACE, 1, None), "the preface is no message");
        assert!(http2.is_http2());
        assert!(http2.pass(&[0, 0, 0, 1, 0, 0, 0, 0, 1], 2, None));
        assert_eq!(http2.start(), Some(Start { offset: 24, at_ns: 2 }));

        let mut http1 = Direction::unknown_client();
        http1.await_message();
        assert!(http1.pass(b"POST /bytes/1 HTTP/1.1", 1, None));
        assert!(!http1.is_http2());
    }
}
