// SPDX-License-Identifier: Apache-2.0
//! A question to the kernel and its whole answer.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::message::{Message, Payload, messages};
use super::socket::{DATAGRAM_MAX, Socket};
use crate::plan::IpFamily;

/// `NLM_F_REQUEST`, in every request.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the outcome is told even if it is success.
pub(crate) const ACKNOWLEDGE: u16 = 0x4;
/// `NLM_F_DUMP`: all there are.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`: in an event, what it tells of is new.
pub(crate) const CREATE: u16 = 0x400;

/// Longest an answer is waited for. The kernel makes it while it is being read, so even that of a
/// full table takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request is about, of which address family: `nfgen_family` of `struct nfgenmsg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject(u8);

impl Subject {
    /// What is of any family.
    pub(crate) const ANY: Self = Self(0);

    /// What is of one.
    pub(crate) const fn of(family: IpFamily) -> Self {
        Self(match family {
            IpFamily::Ipv4 => nix::libc::AF_INET as u8,
            IpFamily::Ipv6 => nix::libc::AF_INET6 as u8,
        })
    }
}

impl PartialEq<u8> for Subject {
    fn eq(&self, family: &u8) -> bool {
        self.0 == *family
    }
}

/// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
pub(crate) fn frame(subject: Subject, kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).expect("requests are small");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST).to_ne_bytes());
    // Each request has a socket of its own, so one sequence number does; the kernel fills in the
    // sender's port id.
    message.extend([0; 8]);
    message.extend([subject.0, 0, 0, 0]);
    message.extend(attributes);
    message
}

/// Sends a request from the calling thread's namespace and gives each part of the answer to `take`
/// until that breaks, or the answer ends. Without [`DUMP`] or [`ACKNOWLEDGE`] an answer is one
/// message.
pub(crate) fn ask(
    subject: Subject,
    kind: u16,
    flags: u16,
    attributes: &[u8],
    mut take: impl FnMut(Payload<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let socket = Socket::open(0)?;
    socket.send(&frame(subject, kind, flags, attributes))?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        for message in messages(socket.wait(&mut buffer, deadline)?) {
            match message? {
                Message::Payload(payload) => {
                    if take(payload)?.is_break() || flags & (DUMP | ACKNOWLEDGE) == 0 {
                        return Ok(());
                    }
                }
                Message::Done | Message::Outcome(0) => return Ok(()),
                Message::Outcome(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Message::Overrun => return Err(io::Error::from_raw_os_error(nix::libc::ENOBUFS)),
                Message::Other => {}
            }
        }
    }
}
