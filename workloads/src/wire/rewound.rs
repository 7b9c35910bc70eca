// SPDX-License-Identifier: Apache-2.0
//! A stream whose beginning was looked at, to tell the versions of HTTP apart.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::direction::PREFACE;

/// A stream that is read from its beginning again.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    /// What was read of it, if anything is left of that.
    ahead: Bytes,
    stream: S,
}

/// Whether a client speaks HTTP/2, with prior knowledge or because that was negotiated: it begins with the
/// preface then, to its last byte. Reads no further than to where that is known.
///
/// # Errors
/// The stream cannot be read.
pub(crate) async fn is_http2<S: AsyncRead + Unpin>(
    mut stream: S,
) -> io::Result<(bool, Rewound<S>)> {
    let mut seen = [0; PREFACE.len()];
    let mut have = 0;
    let is_http2 = loop {
        let length = stream.read(&mut seen[have..]).await?;
        have += length;
        if length == 0 || seen[..have] != PREFACE[..have] {
            break false;
        }
        if have == seen.len() {
            break true;
        }
    };
    Ok((is_http2, Rewound { ahead: Bytes::copy_from_slice(&seen[..have]), stream }))
}

impl<S> Rewound<S> {
    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, into);
        }
        let length = this.ahead.len().min(into.remaining());
        into.put_slice(&this.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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

    async fn told(sent: &[u8]) -> (bool, Vec<u8>) {
        let (is_http2, mut rewound) = is_http2(sent).await.unwrap();
        let mut read = Vec::new();
        rewound.read_to_end(&mut read).await.unwrap();
        (is_http2, read)
    }

    #[tokio::test]
    async fn the_whole_preface_is_http2_and_nothing_is_lost() {
        let http2 = [PREFACE, b"frames"].concat();
        assert_eq!(told(&http2).await, (true, http2));
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX", b"PRI", b""] {
            assert_eq!(told(other).await, (false, other.to_vec()));
        }
    }
}
