// SPDX-License-Identifier: Apache-2.0
//! A stream that tells an observer what it reads and writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::carried::Carried;
use super::direction::Start;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Called around each read and write, in the order the kernel saw them.
pub(crate) trait Observe: Unpin {
    /// Whether an orderly end sends a FIN. Without one the socket ends as it is dropped: with a
    /// RST where SO_LINGER is zero.
    const SENDS_FIN: bool;

    /// A read returned `bytes`; none at the end of the stream. `arrived` is of [`Carried`].
    fn read(&mut self, bytes: &[u8], arrived: Option<Start>);
    /// A write is about to be tried.
    fn writing(&mut self);
    /// The write that [`Observe::writing`] announced took `bytes`; called once per slice. `offset` is
    /// of [`Carried::written`], before the write.
    fn written(&mut self, bytes: &[u8], offset: Option<u64>);
    /// A read or write failed.
    fn failed(&mut self, error: &io::Error);
}

/// A stream and its observer.
#[derive(Debug)]
pub(crate) struct Observed<S, O> {
    stream: S,
    observer: O,
    failed: bool,
}

impl<S, O> Observed<S, O> {
    pub(crate) fn new(stream: S, observer: O) -> Self {
        Self { stream, observer, failed: false }
    }

    pub(crate) fn observer(&self) -> &O {
        &self.observer
    }

    pub(crate) fn observer_mut(&mut self) -> &mut O {
        &mut self.observer
    }
}

impl<S: Carried, O: Observe> Observed<S, O> {
    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        self.observer.failed(error);
    }
}

impl<S: Carried, O: Observe> AsyncRead for Observed<S, O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        match &result {
            Ok(()) => this.observer.read(&buffer.filled()[before..], this.stream.arrived()),
            Err(error) => this.fail(error),
        }
        Poll::Ready(result)
    }
}

impl<S: Carried, O: Observe> AsyncWrite for Observed<S, O> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.observer.writing();
        let offset = this.stream.written();
        let result = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        match &result {
            Ok(length) => this.observer.written(&bytes[..*length], offset),
            Err(error) => this.fail(error),
        }
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.observer.writing();
        let offset = this.stream.written();
        let result = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices));
        match &result {
            Ok(length) => {
                let mut left = *length;
                for slice in slices {
                    let taken = left.min(slice.len());
                    this.observer.written(&slice[..taken], offset);
                    left -= taken;
                }
            }
            Err(error) => this.fail(error),
        }
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket keeps nothing back from the kernel: nothing is done there.
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // After a RST there is nobody to send a FIN to: a system call per connection is spared.
        if O::SENDS_FIN && !self.failed {
            Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
