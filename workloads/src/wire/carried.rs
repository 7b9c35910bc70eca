// SPDX-License-Identifier: Apache-2.0
//! Where a stream's bytes are on the wire, which are not those that its reader sees where TLS is
//! between.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::direction::Start;
use super::gate::Gate;

/// A stream whose bytes may be carried by others.
pub(crate) trait Carried: AsyncRead + AsyncWrite + Unpin {
    /// Where on the wire what was read last begins, and when that was read; `None` where it is what
    /// was read.
    fn arrived(&self) -> Option<Start>;

    /// Bytes that were written to the wire so far; `None` where they are those that were written.
    fn written(&self) -> Option<u64>;
}

impl Carried for TcpStream {
    fn arrived(&self) -> Option<Start> {
        None
    }

    fn written(&self) -> Option<u64> {
        None
    }
}

/// A stream of TLS of which a read returns bytes of one record and no other.
#[derive(Debug)]
pub(crate) struct Opened(TlsStream<Gate>);

impl Opened {
    pub(crate) fn new(stream: impl Into<TlsStream<Gate>>) -> Self {
        Self(stream.into())
    }
}

impl Carried for Opened {
    fn arrived(&self) -> Option<Start> {
        Some(self.0.get_ref().0.arrived())
    }

    fn written(&self) -> Option<u64> {
        Some(self.0.get_ref().0.written())
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.get_mut().0);
        // The stream's own `poll_read` goes on to further records while there is room.
        let bytes = ready!(stream.as_mut().poll_fill_buf(cx))?;
        let length = bytes.len().min(into.remaining());
        into.put_slice(&bytes[..length]);
        stream.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
