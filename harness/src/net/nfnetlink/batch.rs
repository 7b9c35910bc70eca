// SPDX-License-Identifier: Apache-2.0
//! Changes that the kernel makes all together or not at all (`nfnetlink_rcv_batch`,
//! net/netfilter/nfnetlink.c).

use std::io;
use std::time::{Duration, Instant};

use super::message::{Message, messages};
use super::request::{ACKNOWLEDGE, Subject, frame};
use super::socket::{DATAGRAM_MAX, Socket};

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// Where `struct nfgenmsg` has its `res_id`: here the subsystem's number, in network order.
const SUBSYSTEM_AT: std::ops::Range<usize> = 18..20;

/// Longest the kernel may take. It waits for a grace period when it removes things.
const PATIENCE: Duration = Duration::from_secs(30);

/// One change: its type, flags and attributes.
pub(crate) struct Change {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) attributes: Vec<u8>,
}

impl Socket {
    /// Makes changes of one subsystem and address family, in the namespace and in the name of this socket. The
    /// kernel tells of each that fails, in their order, and of success for the last.
    pub(crate) fn commit(
        &self,
        subject: Subject,
        subsystem: u8,
        changes: &[Change],
    ) -> io::Result<()> {
        let edge = |kind| {
            let mut edge = frame(Subject::ANY, kind, 0, &[]);
            edge[SUBSYSTEM_AT].copy_from_slice(&u16::from(subsystem).to_be_bytes());
            edge
        };
        let mut datagram = edge(BEGIN);
        let Some(last) = changes.len().checked_sub(1) else { return Ok(()) };
        for (place, Change { kind, flags, attributes }) in changes.iter().enumerate() {
            let asked = if place == last { ACKNOWLEDGE } else { 0 };
            datagram.extend(frame(subject, *kind, flags | asked, attributes));
        }
        datagram.extend(edge(END));
        self.send(&datagram)?;
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            for message in messages(self.wait(&mut buffer, deadline)?) {
                match message? {
                    Message::Outcome(0) => return Ok(()),
                    Message::Outcome(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    _ => {}
                }
            }
        }
    }
}
