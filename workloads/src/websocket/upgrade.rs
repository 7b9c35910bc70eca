// SPDX-License-Identifier: Apache-2.0
//! The opening handshake (RFC 6455, section 4): a GET that asks for the upgrade, an answer that proves that
//! it was understood.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

/// What is upgraded to, and the one version of it.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const VERSION: HeaderValue = HeaderValue::from_static("13");
const UPGRADED: HeaderValue = HeaderValue::from_static("Upgrade");
/// Length of a key, bytes.
const KEY: usize = 16;

/// An upgrade that is not to be had so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) StatusCode);

/// Asks for the upgrade; returns what the answer has to say.
pub(crate) fn ask_for(headers: &mut HeaderMap, key: [u8; KEY]) -> HeaderValue {
    let key = BASE64_STANDARD.encode(key);
    headers.insert(CONNECTION, UPGRADED);
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    let accept = derive_accept_key(key.as_bytes());
    headers.insert(SEC_WEBSOCKET_KEY, key.try_into().expect("base64 makes a header"));
    accept.try_into().expect("base64 makes a header")
}

/// Whether an answer of status 101 upgrades to what was asked for and nothing else.
pub(crate) fn accepted(headers: &HeaderMap, accept: &HeaderValue) -> bool {
    // Neither extensions nor subprotocols were offered.
    let more = [SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL];
    says(headers, &UPGRADE, "websocket")
        && says(headers, &CONNECTION, "upgrade")
        && headers.get(SEC_WEBSOCKET_ACCEPT) == Some(accept)
        && !more.iter().any(|name| headers.contains_key(name))
}

/// The headers of an answer that upgrades, or of one that says what is asked for in vain.
///
/// # Errors
/// The status to answer with, beside the headers.
pub(crate) fn answer(head: &Parts, into: &mut HeaderMap) -> Result<(), Refused> {
    if head.method != Method::GET {
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED));
    }
    let asked = head.version == Version::HTTP_11
        && says(&head.headers, &UPGRADE, "websocket")
        && says(&head.headers, &CONNECTION, "upgrade");
    if !asked || head.headers.get(SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        into.insert(SEC_WEBSOCKET_VERSION, VERSION);
        // A connection of HTTP/2 has no such header (RFC 9113, section 8.2.2).
        if head.version == Version::HTTP_11 {
            into.insert(UPGRADE, WEBSOCKET);
            into.insert(CONNECTION, UPGRADED);
        }
        return Err(Refused(StatusCode::UPGRADE_REQUIRED));
    }
    let key = head.headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == KEY));
    let key = key.ok_or(Refused(StatusCode::BAD_REQUEST))?;
    let accept = derive_accept_key(key).try_into().expect("base64 makes a header");
    into.insert(CONNECTION, UPGRADED);
    into.insert(UPGRADE, WEBSOCKET);
    into.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(())
}

/// Whether a header names something, among other things, in whatever case.
fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn asking() -> (Parts, HeaderValue) {
        let (mut head, ()) = Request::new(()).into_parts();
        let accept = ask_for(&mut head.headers, *b"the sample nonce");
        (head, accept)
    }

    #[test]
    fn the_standards_own_example_is_answered_as_it_says() {
        let (head, accept) = asking();
        // RFC 6455, section 1.3.
        assert_eq!(head.headers[SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut answered = HeaderMap::new();
        answer(&head, &mut answered).unwrap();
        assert!(accepted(&answered, &accept));
    }

    #[test]
    fn an_answer_that_proves_nothing_or_more_than_was_asked_is_none() {
        let (head, accept) = asking();
        let mut right = HeaderMap::new();
        answer(&head, &mut right).unwrap();
        for (name, value) in [
            (SEC_WEBSOCKET_ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            (UPGRADE, "h2c"),
            (CONNECTION, "close"),
            (SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate"),
            (SEC_WEBSOCKET_PROTOCOL, "chat"),
        ] {
            let mut wrong = right.clone();
            wrong.insert(name, HeaderValue::from_static(value));
            assert!(!accepted(&wrong, &accept), "{wrong:?}");
        }
        right.insert(CONNECTION, HeaderValue::from_static("keep-alive, upgrade"));
        right.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert!(accepted(&right, &accept));
    }

    #[test]
    fn what_cannot_be_upgraded_is_told_why() {
        let status = |change: &dyn Fn(&mut Parts)| {
            let (mut head, _) = asking();
            change(&mut head);
            answer(&head, &mut HeaderMap::new()).unwrap_err().0.as_u16()
        };
        assert_eq!(status(&|head| head.method = Method::POST), 405);
        assert_eq!(status(&|head| head.version = Version::HTTP_2), 426);
        assert_eq!(status(&|head| drop(head.headers.remove(UPGRADE))), 426);
        let insert = |name: HeaderName, value| {
            status(&|head| drop(head.headers.insert(&name, HeaderValue::from_static(value))))
        };
        assert_eq!(insert(SEC_WEBSOCKET_VERSION, "8"), 426);
        assert_eq!(insert(SEC_WEBSOCKET_KEY, "c2hvcnQ="), 400);
        assert_eq!(insert(SEC_WEBSOCKET_KEY, "no base64"), 400);
    }
}
