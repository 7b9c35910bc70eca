// SPDX-License-Identifier: Apache-2.0
//! Answering messages on a connection that was upgraded.

use bytes::Bytes;

use super::marks::{Marker, Noted};
use super::pod::{Pod, work};
use crate::body::MAX_BYTES;
use crate::websocket::{ASK_BYTES, Ask, Channel, Close, Event, Fault, Role};
use crate::wire::{Carried, Observed, Rewound};

/// Answers each message with one of the length that it asks for, until the connection ends; `ahead` was read
/// beyond the upgrade.
pub(super) async fn serve<S: Carried>(
    mut stream: Rewound<Observed<S, Option<Marker>>>,
    ahead: &Bytes,
    pod: &Pod,
    noted: Option<&Noted>,
) {
    if let Some(marker) = stream.get_mut().observer_mut() {
        marker.upgraded(ahead);
    }
    let limit = MAX_BYTES + ASK_BYTES as u64;
    let mut channel = Channel::new(Role::Server, stream, ahead, limit);
    let code = loop {
        match channel.receive().await {
            Ok(Event::Message { lead, .. }) => {
                let Some(ask) = Ask::read(&lead) else { break Close::Policy as u16 };
                if let Some(noted) = noted {
                    noted.request(ask.id).received();
                }
                work(ask.work_ns);
                pod.serves();
                channel.send(&[], ask.response_bytes);
                // The next one may be there already, and is answered behind this one.
                if channel.sent().await.is_err() {
                    return;
                }
            }
            // What is said by one side is said by the other too (RFC 6455, section 5.5.1).
            Ok(Event::Close(code)) => break code.unwrap_or(Close::Normal as u16),
            Ok(Event::Ping(_) | Event::Pong) => {}
            Err(Fault::Stream) => return,
            Err(Fault::Protocol) => break Close::Protocol as u16,
            Err(Fault::Unsupported) => break Close::Unsupported as u16,
            Err(Fault::TooLong) => break Close::TooLong as u16,
        }
    };
    channel.close(code).await;
}
