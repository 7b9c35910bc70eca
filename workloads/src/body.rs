// SPDX-License-Identifier: Apache-2.0
//! Bodies of a given length, made of one shared chunk and so of no memory of their own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Longest body that is asked for or served, bytes.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

const CHUNK: usize = 64 * 1024;
static FILLER: [u8; CHUNK] = [b'.'; CHUNK];

/// A body that repeats a chunk until its length is reached.
#[derive(Debug)]
pub(crate) struct Fill {
    chunk: Bytes,
    left: u64,
}

impl Fill {
    /// `length` bytes of filler.
    pub(crate) fn new(length: u64) -> Self {
        Self { chunk: Bytes::from_static(&FILLER), left: length }
    }

    /// The given bytes, once.
    pub(crate) fn once(text: Bytes) -> Self {
        Self { left: text.len() as u64, chunk: text }
    }
}

impl Body for Fill {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(self.chunk.len() as u64);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..length as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads a body and returns its length, or `None` once it is longer than `limit` bytes.
pub(crate) async fn length(mut body: Incoming, limit: u64) -> hyper::Result<Option<u64>> {
    let mut length = 0;
    // A body of known length ends with its last byte: the wait for word of the end is spared.
    while !body.is_end_stream() {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
        if length > limit {
            return Ok(None);
        }
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_body_has_the_length_it_announces() {
        for length in [0, 1, CHUNK as u64, CHUNK as u64 + 1, 5 * CHUNK as u64 - 1] {
            let body = Fill::new(length);
            assert_eq!(body.size_hint().exact(), Some(length));
            assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, length);
        }
    }

    #[tokio::test]
    async fn given_bytes_are_sent_once() {
        let text = Fill::once(Bytes::from_static(b"pod")).collect().await.unwrap().to_bytes();
        assert_eq!(text, "pod");
    }
}
