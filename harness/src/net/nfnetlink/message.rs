// SPDX-License-Identifier: Apache-2.0
//! A datagram's messages (`linux/netlink.h`, `linux/netfilter/nfnetlink.h`). Pure, and bounded by
//! the input.

use super::attributes::exactly;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// Messages of netlink itself have smaller numbers.
const FIRST_OF_A_FAMILY: u16 = 16;
/// `NLMSG_ERROR`, `NLMSG_DONE`, `NLMSG_OVERRUN`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;

/// Bytes that are not what the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A message's length does not fit.
    #[error("message of {length} bytes where {left} are left")]
    Message {
        /// Length by its header.
        length: usize,
        /// Bytes left in the datagram.
        left: usize,
    },
    /// An attribute's length does not fit.
    #[error("attribute of {length} bytes where {left} are left")]
    Attribute {
        /// Length by its header.
        length: usize,
        /// Bytes left in the list.
        left: usize,
    },
    /// A value has another length than its type says.
    #[error("value of {length} bytes where {wanted} are wanted")]
    Value {
        /// Its length.
        length: usize,
        /// Length of its type.
        wanted: usize,
    },
    /// Something that is always there is not.
    #[error("{what} is missing")]
    Missing {
        /// What.
        what: &'static str,
    },
}

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Of a subsystem.
    Payload(Payload<'a>),
    /// A request's answer is complete.
    Done,
    /// A request's outcome: an error number, 0 for success.
    Outcome(i32),
    /// The kernel had to leave something out.
    Overrun,
    /// Of netlink itself, and of no interest.
    Other,
}

/// A message of a subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload<'a> {
    /// Subsystem in the upper byte, its message's type in the lower.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// Address family.
    pub(crate) family: u8,
    /// List of attributes.
    pub(crate) attributes: &'a [u8],
}

/// Walks the messages of one datagram. Ends after the first that is malformed; takes at least 16
/// bytes a step, so it ends on any input.
pub(crate) fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages(datagram)
}

/// See [`messages`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let length = match rest.first_chunk() {
            Some(&length) => usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX),
            None => rest.len(),
        };
        if length < HEADER || length > rest.len() {
            return Some(Err(Malformed::Message { length, left: rest.len() }));
        }
        let message = parse(&rest[..length]);
        if message.is_ok() {
            self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(message)
    }
}

/// `message` has at least a header.
fn parse(message: &[u8]) -> Result<Message<'_>, Malformed> {
    let kind = u16::from_ne_bytes([message[4], message[5]]);
    let flags = u16::from_ne_bytes([message[6], message[7]]);
    let body = &message[HEADER..];
    match kind {
        DONE => Ok(Message::Done),
        OVERRUN => Ok(Message::Overrun),
        ERROR => {
            // `struct nlmsgerr`: the negated error number, then the request's header.
            let number = i32::from_ne_bytes(exactly(body.get(..4).unwrap_or(body))?);
            Ok(Message::Outcome(number.saturating_neg()))
        }
        ..FIRST_OF_A_FAMILY => Ok(Message::Other),
        _ => {
            let Some((header, attributes)) = body.split_at_checked(FAMILY_HEADER) else {
                return Err(Malformed::Message { length: message.len(), left: message.len() });
            };
            Ok(Message::Payload(Payload { kind, flags, family: header[0], attributes }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::{Subject, frame};
    use super::*;
    use crate::plan::IpFamily;

    const SUBJECT: Subject = Subject::of(IpFamily::Ipv4);

    #[test]
    fn messages_of_one_datagram_are_told_apart() {
        let mut failed = frame(SUBJECT, ERROR, 0, &[0; 12]);
        failed[16..20].copy_from_slice(&(-nix::libc::ENOENT).to_ne_bytes());
        let datagram =
            [frame(SUBJECT, 0x102, 7, &[1, 2, 3, 4]), failed, frame(SUBJECT, DONE, 0, &[])]
                .concat();
        let read: Vec<_> = messages(&datagram).collect::<Result<_, _>>().unwrap();
        let payload = Payload { kind: 0x102, flags: 7, family: 2, attributes: &[1, 2, 3, 4] };
        assert_eq!(
            read,
            [Message::Payload(payload), Message::Outcome(nix::libc::ENOENT), Message::Done]
        );
    }

    #[test]
    fn a_message_longer_than_its_datagram_is_malformed_and_the_last() {
        let mut datagram = frame(SUBJECT, 0x100, 0, &[0; 8]);
        let left = datagram.len();
        datagram[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        let read: Vec<_> = messages(&datagram).collect();
        assert_eq!(read, [Err(Malformed::Message { length: u32::MAX as usize, left })]);
    }

    proptest! {
        #[test]
        fn noise_never_panics_and_always_ends(noise in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(messages(&noise).count() <= noise.len() / HEADER + 1);
        }
    }
}
