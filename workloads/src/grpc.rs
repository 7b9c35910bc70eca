// SPDX-License-Identifier: Apache-2.0
//! Unary calls of gRPC: the service that gRPC's own benchmarks call
//! (grpc/src/proto/grpc/testing/{benchmark_service,messages}.proto), framed as
//! grpc/doc/PROTOCOL-HTTP2.md says.
//!
//! Payloads are filler of no memory of its own; only what stands before them is written out.

use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::body::Fill;

/// Path of the method.
pub(crate) const PATH: &str = "/grpc.testing.BenchmarkService/UnaryCall";
/// Media type of calls and answers.
pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Where an answer's code is, in trailers or, without a message, in headers.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What a call asks of the server's processor, nanoseconds.
const WORK: HeaderName = HeaderName::from_static("x-work-ns");
/// Longest payload, bytes: implementations take messages of 4 MiB unless told otherwise, and a payload has
/// something before it.
pub(crate) const PAYLOAD_MAX: u64 = 4 * 1024 * 1024 - 64;
/// Longest message that is read, with its prefix, bytes.
pub(crate) const MESSAGE_MAX: u64 = 4 * 1024 * 1024 + PREFIX as u64;
/// Length of what stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Codes of an answer (grpc/doc/statuscodes.md), those that are given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
}

/// What is asked.
#[derive(Clone, PartialEq, Message)]
struct SimpleRequest {
    #[prost(int32, tag = "2")]
    response_size: i32,
    #[prost(message, optional, tag = "3")]
    payload: Option<Payload>,
}

/// What is answered.
#[derive(Clone, PartialEq, Message)]
struct SimpleResponse {
    #[prost(message, optional, tag = "1")]
    payload: Option<Payload>,
}

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "2")]
    body: Bytes,
}

/// A call with a payload of so many bytes that asks for one of so many.
pub(crate) fn call(payload_bytes: u64, response_bytes: u64) -> Fill {
    let mut asked = BytesMut::new();
    if response_bytes > 0 {
        encode_key(2, WireType::Varint, &mut asked);
        encode_varint(response_bytes, &mut asked);
    }
    Fill::new(payload_bytes).behind(lead(&asked, 3, payload_bytes))
}

/// Headers of a call.
pub(crate) fn call_headers(headers: &mut HeaderMap, work_ns: u64) {
    headers.insert(CONTENT_TYPE, MEDIA_TYPE);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if work_ns > 0 {
        headers.insert(WORK, work_ns.into());
    }
}

/// What a call asks of the server's processor, nanoseconds; `None` where that is no number.
pub(crate) fn work_ns(headers: &HeaderMap) -> Option<u64> {
    let Some(text) = headers.get(WORK) else { return Some(0) };
    text.to_str().ok()?.parse().ok()
}

/// Whether a message is gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    // Behind it may stand what messages are: `+proto`.
    kind.is_some_and(|kind| kind.starts_with(MEDIA_TYPE.as_bytes()))
}

/// An answer with a payload of so many bytes.
pub(crate) fn answer(payload_bytes: u64) -> Fill {
    let body = Fill::new(payload_bytes).behind(lead(&[], 1, payload_bytes));
    body.before(HeaderMap::from_iter([(STATUS, HeaderValue::from(Code::Ok as u16))]))
}

/// An answer of a code and no message.
pub(crate) fn refuse(headers: &mut HeaderMap, code: Code) {
    headers.insert(STATUS, HeaderValue::from(code as u16));
}

/// The payload that a call asks for, bytes.
///
/// # Errors
/// The code it is to be answered with.
pub(crate) fn asked(message: &[u8]) -> Result<u64, Code> {
    let message = unframed(message).ok_or(Code::Internal)?;
    let Ok(request) = SimpleRequest::decode(message) else { return Err(Code::Internal) };
    match u64::try_from(request.response_size) {
        Ok(bytes) if bytes <= PAYLOAD_MAX => Ok(bytes),
        _ => Err(Code::InvalidArgument),
    }
}

/// Length of an answer's payload; `None` if it is no answer.
pub(crate) fn answered(message: &[u8]) -> Option<u64> {
    let response = SimpleResponse::decode(unframed(message)?).ok()?;
    Some(response.payload.map_or(0, |payload| payload.body.len() as u64))
}

/// The code that headers or trailers say, if they say one.
pub(crate) fn status(headers: &HeaderMap) -> Option<u16> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// The one message of a body, uncompressed.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>()?;
    let [compressed, a, b, c, d] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (compressed == 0 && length == message.len()).then_some(message)
}

/// What stands before a payload: the message's prefix, its fields before the payload, and the payload's
/// own head.
fn lead(fields: &[u8], payload_field: u32, payload_bytes: u64) -> Bytes {
    let mut inner = BytesMut::new();
    if payload_bytes > 0 {
        encode_key(2, WireType::LengthDelimited, &mut inner);
        encode_varint(payload_bytes, &mut inner);
    }
    let payload = inner.len() as u64 + payload_bytes;
    let mut head = BytesMut::from(fields);
    if payload_bytes > 0 {
        encode_key(payload_field, WireType::LengthDelimited, &mut head);
        encode_varint(payload, &mut head);
        head.extend_from_slice(&inner);
    }
    let length = head.len() as u64 + payload_bytes;
    let mut framed = BytesMut::with_capacity(PREFIX + head.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("payloads are bounded far below"));
    framed.extend_from_slice(&head);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    fn written(body: Fill) -> (Bytes, Option<u16>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let collected = runtime.block_on(body.collect()).unwrap();
        let code = collected.trailers().and_then(status);
        (collected.to_bytes(), code)
    }

    proptest! {
        #[test]
        fn what_is_written_without_memory_is_read_by_the_library(
            payload in 0u64..100_000, response in 0u64..100_000,
        ) {
            let (call, _) = written(call(payload, response));
            let request = SimpleRequest::decode(unframed(&call).unwrap()).unwrap();
            prop_assert_eq!(request.response_size as u64, response);
            prop_assert_eq!(request.payload.map_or(0, |p| p.body.len() as u64), payload);
            prop_assert_eq!(asked(&call), Ok(response));
            let (answer, code) = written(answer(response));
            prop_assert_eq!((answered(&answer), code), (Some(response), Some(0)));
        }

        #[test]
        fn no_message_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = asked(&body);
            let _ = answered(&body);
        }
    }

    #[test]
    fn calls_that_cannot_be_answered_have_a_code() {
        assert_eq!(asked(b""), Err(Code::Internal));
        assert_eq!(asked(b"\x01\0\0\0\0"), Err(Code::Internal), "compressed");
        let of = |response_size| {
            let message = SimpleRequest { response_size, payload: None }.encode_to_vec();
            let length = (message.len() as u32).to_be_bytes();
            asked(&[&[0], &length[..], &message].concat())
        };
        assert_eq!(of(-1), Err(Code::InvalidArgument));
        assert_eq!(of(i32::MAX), Err(Code::InvalidArgument));
        assert_eq!(of(7), Ok(7));
    }
}
