// SPDX-License-Identifier: Apache-2.0
//! WebSocket (RFC 6455): how a connection of HTTP/1.1 becomes one of messages, and what they hold here.
//!
//! A request is one binary message, which begins with an [`Ask`], and so is a response, which is filler
//! and nothing else. Payloads are of no memory of their own.

mod ask;
mod asking;
mod channel;
mod frames;
mod messages;
mod outgoing;
mod upgrade;

pub(crate) use ask::{ASK_BYTES, Ask};
pub(crate) use asking::{Asked, ask};
pub(crate) use channel::{Channel, Role};
pub(crate) use frames::Frames;
pub(crate) use messages::{Event, Fault, Messages};
pub(crate) use upgrade::{Refused, accepted, answer, ask_for};

/// Path that is asked for an upgrade.
pub(crate) const PATH: &str = "/websocket";

/// Why an end closes a connection (RFC 6455, section 7.4.1), those that are given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The other side closed it and said no reason.
    Normal = 1000,
    /// What came is no frame, or not where it may be.
    Protocol = 1002,
    /// A message of text.
    Unsupported = 1003,
    /// A message that asks for what is not given.
    Policy = 1008,
    /// A message longer than any that is read.
    TooLong = 1009,
}

/// What is read of bytes that a client (which masks) or a server sends, cut into pieces of this length: how many
/// messages, of which length in all, how many frames about the connection, and whether it goes on after them. For
/// whoever tries arbitrary bytes.
#[doc(hidden)]
pub fn read_messages(bytes: &[u8], cut: usize, masked: bool) -> (u64, u64, u64, bool) {
    let mut messages = Messages::new(masked, 1 << 20);
    let mut frames = Frames::default();
    let (mut offset, mut count, mut bytes_read, mut others) = (0, 0, 0, 0);
    for chunk in bytes.chunks(cut.max(1)) {
        frames.message_in(chunk, offset);
        offset += chunk.len() as u64;
        let mut rest = chunk;
        loop {
            match messages.next(&mut rest) {
                Ok(Some(Event::Message { lead, length })) => {
                    let _ = Ask::read(&lead);
                    (count, bytes_read) = (count + 1, bytes_read + length);
                }
                Ok(Some(_)) => others += 1,
                Ok(None) => break,
                Err(_) => return (count, bytes_read, others, false),
            }
        }
    }
    (count, bytes_read, others, true)
}
