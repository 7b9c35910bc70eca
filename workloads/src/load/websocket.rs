// SPDX-License-Identifier: Apache-2.0
//! A connection of WebSocket from the client's end: upgraded, then one message there and one back at a time.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::exchange::{Judged, Template, UNASKED_BYTES};
use super::failure::Failure;
use super::link::Wire;
use crate::stream::Stream;
use crate::websocket::{self, Asked, Channel, Event, Fault, Role};
use crate::wire::{Carried, Observed};

/// The client's end.
pub(super) struct Talk {
    channel: Channel<Box<dyn Stream>>,
    /// Why no request can be sent on it any more, or nothing where the stream knows better.
    end: Option<Option<Failure>>,
}

impl Talk {
    /// Has a connection upgraded. Fails with what is wrong with the answer, or with nothing where the stream
    /// knows better.
    pub(super) async fn begin<S: Carried + 'static>(
        stream: Observed<S, Rc<RefCell<Wire>>>,
        template: &Template,
    ) -> Result<Self, Option<Failure>> {
        let wire = stream.observer().clone();
        let (request, accept) = template.upgrade();
        let asked = websocket::ask(TokioIo::new(stream), request).await.or(Err(None))?;
        let (answer, http1::Parts { io, read_buf, .. }) = match asked {
            Asked::Upgraded(answer, parts) => (answer, parts),
            Asked::Answered(answer, _) => {
                return Err(Some(Failure::Status(answer.status().as_u16())));
            }
        };
        if !websocket::accepted(answer.headers(), &accept) {
            return Err(Some(Failure::WsAccept));
        }
        {
            let mut wire = wire.borrow_mut();
            wire.written.upgrade(&[]);
            wire.read.upgrade(&read_buf);
        }
        let stream: Box<dyn Stream> = Box::new(io.into_inner());
        let role = Role::Client(Box::new(template.random()));
        let limit = template.response_bytes.max(UNASKED_BYTES);
        Ok(Self { channel: Channel::new(role, stream, &read_buf, limit), end: None })
    }

    /// Whether a request can be sent on it.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Why none can, where the stream does not know better.
    pub(super) fn end(&self) -> Option<Failure> {
        self.end.flatten()
    }

    /// Answers pings while nothing is under way, and takes note of an end.
    pub(super) fn attend(&mut self, cx: &mut Context<'_>) {
        if self.end.is_none()
            && let Poll::Ready(event) = self.channel.poll_receive(cx)
        {
            self.end = Some(unasked(&event));
        }
    }

    /// Sends one message and reads one. Fails as [`Talk::begin`] does.
    pub(super) async fn converse(
        &mut self,
        template: &Template,
        id: Option<u64>,
    ) -> Result<Judged, Option<Failure>> {
        if !self.channel.is_read_out() {
            poll_fn(|cx| {
                self.attend(cx);
                Poll::Ready(())
            })
            .await;
        }
        if let Some(failure) = self.end {
            return Err(failure);
        }
        // It ends here, unless all goes as it should.
        self.end = Some(None);
        if self.channel.is_amid_message() {
            return Err(Some(Failure::WsProtocol));
        }
        self.channel.send(&template.ask(id).write(), template.request_bytes);
        match self.channel.receive().await {
            // A response that overtakes its request is none.
            Ok(Event::Message { length, .. }) if self.channel.is_sent() => {
                self.end = None;
                let asked = length == template.response_bytes;
                let verdict = if asked { Ok(()) } else { Err(Failure::Length) };
                Ok(Judged { verdict, whole: true })
            }
            event => Err(unasked(&event)),
        }
    }
}

/// What it is called when that comes and no message that was asked for.
fn unasked(event: &Result<Event, Fault>) -> Option<Failure> {
    match event {
        Ok(Event::Close(None)) => Some(Failure::Closed),
        Ok(Event::Close(Some(code))) => Some(Failure::WsClose(*code)),
        Err(Fault::TooLong) => Some(Failure::Length),
        Err(Fault::Stream) => None,
        Ok(_) | Err(Fault::Protocol | Fault::Unsupported) => Some(Failure::WsProtocol),
    }
}
