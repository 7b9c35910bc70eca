// SPDX-License-Identifier: Apache-2.0
//! Bodies of a given length, made of one shared chunk and so of no memory of their own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Longest body that is asked for or served, bytes.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

const CHUNK: usize = 64 * 1024;
/// A piece of filler.
pub(crate) static FILLER: [u8; CHUNK] = [b'.'; CHUNK];

/// A body that repeats a chunk until its length is reached.
#[derive(Debug)]
pub(crate) struct Fill {
    /// What comes before it, if anything is left of that.
    lead: Bytes,
    chunk: Bytes,
    left: u64,
    /// What comes behind it.
    trailers: Option<HeaderMap>,
}

impl Fill {
    /// `length` bytes of filler.
    pub(crate) fn new(length: u64) -> Self {
        Self {
            lead: Bytes::new(),
            chunk: Bytes::from_static(&FILLER),
            left: length,
            trailers: None,
        }
    }

    /// The given bytes, once.
    pub(crate) fn once(text: Bytes) -> Self {
        Self { left: text.len() as u64, chunk: text, ..Self::new(0) }
    }

    /// The same behind other bytes.
    pub(crate) fn behind(self, lead: Bytes) -> Self {
        Self { lead, ..self }
    }

    /// The same before trailers.
    pub(crate) fn before(self, trailers: HeaderMap) -> Self {
        Self { trailers: Some(trailers), ..self }
    }
}

impl Body for Fill {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.lead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.lead)))));
        }
        if self.left == 0 {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let length = self.left.min(self.chunk.len() as u64);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..length as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.lead.is_empty() && self.left == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.lead.len() as u64 + self.left)
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

/// A body that was read to its end: its bytes, and what came behind them.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

/// Reads a body and keeps it, or returns `None` once it is longer than `limit` bytes.
pub(crate) async fn whole(mut body: Incoming, limit: u64) -> hyper::Result<Option<Whole>> {
    let mut whole = Whole::default();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => whole.bytes.extend_from_slice(&data),
            Err(frame) => whole.trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
        if whole.bytes.len() as u64 > limit {
            return Ok(None);
        }
    }
    Ok(Some(whole))
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
    async fn what_stands_before_and_behind_a_body_is_sent_in_that_order() {
        let trailers = HeaderMap::from_iter([(hyper::header::ETAG, "t".parse().unwrap())]);
        let body = Fill::new(3).behind(Bytes::from_static(b"ab")).before(trailers.clone());
        assert_eq!(body.size_hint().exact(), Some(5));
        let sent = body.collect().await.unwrap();
        assert_eq!(sent.trailers(), Some(&trailers));
        assert_eq!(sent.to_bytes(), "ab...");
    }

    #[tokio::test]
    async fn given_bytes_are_sent_once() {
        let text = Fill::once(Bytes::from_static(b"pod")).collect().await.unwrap().to_bytes();
        assert_eq!(text, "pod");
    }
}
