// SPDX-License-Identifier: Apache-2.0
//! A request for an upgrade over hyper, which hands the stream back where it is granted.
//!
//! hyper's own way (`hyper::upgrade::on`) wants streams that may change threads, and ours do not.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, Connection, Parts};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, StatusCode};

/// The answer to a request for an upgrade.
pub(crate) enum Asked<T: Read + Write, B: Body + 'static> {
    /// Granted, of what protocol ever: the stream, and what was read beyond the answer.
    Upgraded(Response<Incoming>, Parts<T>),
    /// Another answer, whose body comes as the connection is driven, if that is not over.
    Answered(Response<Incoming>, Option<Box<Connection<T, B>>>),
}

/// Sends a request as the first one on a stream, and waits for the answer.
///
/// # Errors
/// The stream ends, breaks or says something else than an answer.
pub(crate) async fn ask<T, B>(io: T, request: Request<B>) -> hyper::Result<Asked<T, B>>
where
    T: Read + Write + Unpin,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let (mut sender, mut connection) = http1::handshake(io).await?;
    let mut asked = pin!(sender.send_request(request));
    let (mut answer, mut over) = (None, false);
    let answer = poll_fn(|cx| {
        // hyper writes once it has the request: the connection is driven behind it.
        if answer.is_none()
            && let Poll::Ready(answered) = asked.as_mut().poll(cx)
        {
            answer = Some(answered);
        }
        over = over || Pin::new(&mut connection).poll(cx).is_ready();
        if answer.is_none()
            && let Poll::Ready(answered) = asked.as_mut().poll(cx)
        {
            answer = Some(answered);
        }
        let awaits_end = matches!(&answer, Some(Ok(answer)) if is_granted(answer)) && !over;
        match answer.take_if(|_| !awaits_end) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    })
    .await?;
    // An upgraded connection is over for hyper, which hands the stream back.
    Ok(match is_granted(&answer) {
        true => Asked::Upgraded(answer, connection.into_parts()),
        false => Asked::Answered(answer, (!over).then(|| Box::new(connection))),
    })
}

fn is_granted(answer: &Response<Incoming>) -> bool {
    answer.status() == StatusCode::SWITCHING_PROTOCOLS
}
