// SPDX-License-Identifier: Apache-2.0
//! One end of a connection that was upgraded: messages out of its stream and into it.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rand::RngCore;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::messages::{Event, Fault, Messages};
use super::outgoing::Outgoing;

/// Room for what is read at once, bytes: at first, and where reads fill it in the end.
const BUFFER_MIN: usize = 8 * 1024;
const BUFFER_MAX: usize = 256 * 1024;

/// Which end it is.
#[derive(Debug)]
pub(crate) enum Role {
    /// It masks, with keys from here. They are to be such that no one who chooses a payload can foresee
    /// them (RFC 6455, section 10.3); nobody but us chooses any here.
    Client(Box<SmallRng>),
    /// It does not.
    Server,
}

/// One end. It reads and writes when it is polled, and at no other time.
#[derive(Debug)]
pub(crate) struct Channel<S> {
    stream: S,
    role: Role,
    messages: Messages,
    buffer: Vec<u8>,
    /// What of the buffer was read and not looked at yet.
    ahead: Range<usize>,
    /// The frame being written, the answer to the last ping, and the message to be written behind them.
    writing: Option<Outgoing>,
    pong: Option<Outgoing>,
    message: Option<Outgoing>,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// On a stream of which `ahead` was read beyond the upgrade, for messages of at most `limit` bytes.
    pub(crate) fn new(role: Role, stream: S, ahead: &Bytes, limit: u64) -> Self {
        let mut buffer = ahead.to_vec();
        buffer.resize(BUFFER_MIN.max(ahead.len()), 0);
        let from_clients = matches!(role, Role::Server);
        Self {
            stream,
            role,
            messages: Messages::new(from_clients, limit),
            buffer,
            ahead: 0..ahead.len(),
            writing: None,
            pong: None,
            message: None,
            unflushed: false,
        }
    }

    /// Whether all that was read was looked at.
    pub(crate) fn is_read_out(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Whether the other side has begun a message.
    pub(crate) fn is_amid_message(&self) -> bool {
        self.messages.is_amid_message()
    }

    /// Whether all that was to be sent was written.
    pub(crate) fn is_sent(&self) -> bool {
        self.writing.is_none() && self.pong.is_none() && self.message.is_none() && !self.unflushed
    }

    /// Has a message written, its filler behind what is given, as it is polled from here on. The one before
    /// was written.
    pub(crate) fn send(&mut self, given: &[u8], filler_bytes: u64) {
        let key = self.key();
        self.message = Some(Outgoing::message(given, filler_bytes, key));
    }

    /// Writes what is to be written.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // A pong may stand between frames, not in the middle of one.
            let Self { writing, pong, message, .. } = self;
            let Some(frame) = writing else {
                match pong.take().or_else(|| message.take()) {
                    Some(next) => *writing = Some(next),
                    None => break,
                }
                continue;
            };
            let mut slices = Outgoing::none();
            let count = frame.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            let length = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            frame.advance(length);
            if frame.is_written() {
                *writing = None;
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is to be written and waits for a message or the end, and answers pings meanwhile.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Fault>> {
        loop {
            let broken = matches!(self.poll_send(cx), Poll::Ready(Err(_)));
            match self.poll_event(cx) {
                // Of several pings the last one counts (RFC 6455, section 5.5.3).
                Poll::Ready(Ok(Event::Ping(payload))) => {
                    let key = self.key();
                    self.pong = Some(Outgoing::pong(&payload, key));
                }
                Poll::Ready(Ok(Event::Pong)) => {}
                // Why nothing can be written any more may have been said.
                Poll::Pending if broken => return Poll::Ready(Err(Fault::Stream)),
                polled => return polled,
            }
        }
    }

    /// [`Channel::poll_receive`] as a future.
    pub(crate) async fn receive(&mut self) -> Result<Event, Fault> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// [`Channel::poll_send`] as a future.
    pub(crate) async fn sent(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Says that it is done and why, ends its half of the stream, and waits for the other side to end its own:
    /// a socket that is closed with bytes unread resets the connection, and takes back what was said.
    pub(crate) async fn close(mut self, code: u16) {
        let key = self.key();
        (self.pong, self.message) = (None, Some(Outgoing::close(code, key)));
        let said = poll_fn(|cx| {
            ready!(self.poll_send(cx))?;
            Pin::new(&mut self.stream).poll_shutdown(cx)
        });
        if said.await.is_ok() {
            while let Ok(1..) = poll_fn(|cx| self.poll_read(cx)).await {}
        }
    }

    fn key(&mut self) -> Option<[u8; 4]> {
        match &mut self.role {
            Role::Client(keys) => Some(keys.next_u32().to_ne_bytes()),
            Role::Server => None,
        }
    }

    /// What the stream says next.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Fault>> {
        loop {
            let mut rest = &self.buffer[self.ahead.clone()];
            let event = self.messages.next(&mut rest)?;
            self.ahead.start = self.ahead.end - rest.len();
            if let Some(event) = event {
                return Poll::Ready(Ok(event));
            }
            match ready!(self.poll_read(cx)) {
                Ok(1..) => {}
                _ => return Poll::Ready(Err(Fault::Stream)),
            }
        }
    }

    /// Reads once into the buffer, in place of what it held; where that was all that went in, there is more room
    /// now.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ahead.end == self.buffer.len() && self.buffer.len() < BUFFER_MAX {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        let mut room = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let length = room.filled().len();
        self.ahead = 0..length;
        Poll::Ready(Ok(length))
    }
}
