// SPDX-License-Identifier: Apache-2.0
//! A TCP stream under TLS that hands over one record at a time, so that of what comes out of TLS it is
//! known which record brought it.
//!
//! That is what tells a response from the session tickets before it: in TLS 1.3 both look alike on the
//! wire, and may come in one read (RFC 8446, sections 4.6.1 and 5.2). TLS reads no further once it has
//! something for its own reader.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::direction::Start;
use crate::clock::now_ns;
use crate::protocol::Turn;

/// Read at once at most, bytes: about a record of the largest size (RFC 8446, section 5.1).
const BUFFER: usize = 16 * 1024;
/// Length of a record's header: type, version, length.
const HEADER: usize = 5;

/// The stream, what was read of it ahead, and where in its records it is.
#[derive(Debug)]
pub(crate) struct Gate {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What of the buffer was read and not handed over yet.
    ahead: std::ops::Range<usize>,
    /// When the last read that returned bytes did.
    read_ns: u64,
    /// Bytes handed over so far.
    passed: u64,
    written: u64,
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the record under way that are still to come.
    left: usize,
    record: Start,
    /// Whether what was read last was not answered yet.
    unanswered: bool,
    turns: [Option<Turn>; 2],
}

impl Gate {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            ahead: 0..0,
            read_ns: 0,
            passed: 0,
            written: 0,
            header: [0; HEADER],
            have: 0,
            left: 0,
            record: Start { offset: 0, at_ns: 0 },
            unanswered: false,
            turns: [None; 2],
        }
    }

    /// The same for a stream of which so many bytes were read before.
    pub(crate) fn behind(stream: TcpStream, passed: u64) -> Self {
        Self { passed, ..Self::new(stream) }
    }

    /// Where the record that was handed over last begins, and when the read that brought its first
    /// byte returned.
    pub(crate) fn arrived(&self) -> Start {
        self.record
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The first times that something read was answered.
    pub(crate) fn turns(&self) -> [Option<Turn>; 2] {
        self.turns
    }

    /// Takes the next bytes of one record and no other from those read ahead, at most `room`.
    fn next(&mut self, room: usize) -> std::ops::Range<usize> {
        let start = self.ahead.start;
        let end = self.ahead.end.min(start + room);
        let mut at = start;
        if self.have == HEADER && self.left == 0 {
            self.have = 0;
        }
        if self.have == 0 {
            self.record = Start { offset: self.passed, at_ns: self.read_ns };
        }
        if self.have < HEADER {
            let taken = (HEADER - self.have).min(end - at);
            self.header[self.have..self.have + taken].copy_from_slice(&self.buffer[at..at + taken]);
            self.have += taken;
            at += taken;
            if self.have == HEADER {
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        }
        let taken = self.left.min(end - at);
        self.left -= taken;
        at += taken;
        self.passed += (at - start) as u64;
        self.ahead.start = at;
        start..at
    }

    fn writing(&mut self) {
        if std::mem::take(&mut self.unanswered)
            && let Some(turn) = self.turns.iter_mut().find(|turn| turn.is_none())
        {
            *turn = Some(Turn { read_ns: self.read_ns, written_ns: now_ns() });
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.ahead.is_empty() {
            let mut ahead = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut ahead))?;
            this.ahead = 0..ahead.filled().len();
            if this.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.read_ns = now_ns();
            this.unanswered = true;
        }
        let next = this.next(into.remaining());
        into.put_slice(&this.buffer[next]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writing();
        let length = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.written += length as u64;
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writing();
        let length = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices))?;
        this.written += length as u64;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn record(length: usize) -> Vec<u8> {
        let mut bytes = vec![23, 3, 3];
        bytes.extend((length as u16).to_be_bytes());
        // A payload full of what would be a header of an empty record.
        bytes.extend([23, 3, 3, 0, 0].iter().cycle().take(length));
        bytes
    }

    /// What the gate hands over, read by read, and the record that it says each was of.
    async fn through(stream: &[u8], cut: usize, room: usize) -> Vec<(Vec<u8>, u64)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        sender.set_nodelay(true).unwrap();
        let mut gate = Gate::new(listener.accept().await.unwrap().0);
        let mut seen = Vec::new();
        let mut buffer = vec![0; room];
        for chunk in stream.chunks(cut) {
            sender.write_all(chunk).await.unwrap();
            let mut left = chunk.len();
            while left > 0 {
                let length = gate.read(&mut buffer).await.unwrap();
                left -= length;
                seen.push((buffer[..length].to_vec(), gate.arrived().offset));
            }
        }
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_read_has_bytes_of_two_records_and_each_is_said_to_be_of_its_own(
            lengths in prop::collection::vec(0usize..60, 1..8),
            cut in 1usize..80,
            room in 1usize..80,
        ) {
            let stream: Vec<u8> = lengths.iter().flat_map(|&length| record(length)).collect();
            let mut starts = Vec::new();
            let mut end = 0;
            for &length in &lengths {
                starts.push(end);
                end += (HEADER + length) as u64;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            let seen = runtime.block_on(through(&stream, cut, room));
            let mut at = 0;
            for (bytes, record) in &seen {
                let last = at + bytes.len() as u64 - 1;
                let of = |at: u64| *starts.iter().rfind(|&&start| start <= at).unwrap();
                prop_assert_eq!((of(at), of(last)), (*record, *record));
                at = last + 1;
            }
            prop_assert_eq!(seen.into_iter().flat_map(|(bytes, _)| bytes).collect::<Vec<_>>(), stream);
        }
    }

    #[test]
    fn a_turn_is_from_the_last_read_to_the_write_behind_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut gate = Gate::new(listener.accept().await.unwrap().0);
            gate.write_all(b"unasked").await.unwrap();
            assert_eq!(gate.turns(), [None; 2]);
            for _ in 0..3 {
                sender.write_all(&record(3)).await.unwrap();
                let mut buffer = [0; 64];
                let _ = gate.read(&mut buffer).await.unwrap();
                gate.write_all(b"answer").await.unwrap();
                gate.write_all(b"more of it").await.unwrap();
            }
            let [Some(first), Some(second)] = gate.turns() else { panic!("two turns") };
            let times = [first.read_ns, first.written_ns, second.read_ns, second.written_ns];
            assert!(times.is_sorted() && times[0] < times[3], "{times:?}");
            assert_eq!(gate.written(), 7 + 3 * 16);
        });
    }
}
