// SPDX-License-Identifier: Apache-2.0
//! Flows that come, change and go, as the kernel tells of them.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::flow::Flow;
use super::message::{Message, MessageKind, messages};
use crate::net::nfnetlink::{DATAGRAM_MAX, Socket};
use crate::net::{NetError, Netns};

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE` and `_DESTROY`: groups 1, 2 and 3.
const GROUPS: u32 = 0b111;
/// Longest the reader goes on with what is still in the socket when it is told to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The first packet has passed.
    New,
    /// Status, TCP state or mark changed; the first answer is one of these.
    Update,
    /// The flow was taken out of the table.
    Destroy,
}

/// When it happened, ns of CLOCK_REALTIME: a clock that may be set, so only short differences mean
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventTime {
    /// By the kernel: when the packet that caused it was tracked. For a TCP flow's first packet
    /// that is before the NAT rules are walked.
    Kernel(u64),
    /// By this process, when it read the event: later by the time it took to wake up.
    Received(u64),
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The flow, with what changed.
    pub flow: Flow,
    /// When.
    pub at: EventTime,
}

/// Bounds of a recording.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeOptions {
    /// Events kept; more are counted and left out.
    pub events_max: usize,
    /// Room for events not yet read, bytes. An event takes about 1 KiB of it.
    pub buffer_bytes: usize,
}

impl Default for SubscribeOptions {
    /// A million events and 64 MiB.
    fn default() -> Self {
        Self { events_max: 1_000_000, buffer_bytes: 64 << 20 }
    }
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Events in the order the kernel told them.
    pub events: Vec<Event>,
    /// Events the kernel had no room for in the socket, by its own count.
    pub lost: u64,
    /// Events past the limit.
    pub surplus: u64,
    /// Events of other address families.
    pub foreign: u64,
}

/// A recording under way. A flow has events only if it began while somebody listened
/// (`net.netfilter.nf_conntrack_events`, whose default is 2).
#[derive(Debug)]
pub struct Events {
    reader: JoinHandle<io::Result<Recorded>>,
    stop: UnixStream,
    host: String,
}

impl Events {
    /// Begins to record; when it returns, nothing that follows is missed.
    ///
    /// # Errors
    /// The kernel refuses the socket or the buffer's size.
    pub fn subscribe(netns: &Netns, options: SubscribeOptions) -> Result<Self, NetError> {
        let subject = || format!("connection events of {}", netns.name());
        let (stop, stopped) = UnixStream::pair().map_err(NetError::os("hear", subject()))?;
        let reader = netns.run(move || {
            let socket = Socket::open(GROUPS)?;
            socket.enlarge_receive_buffer(options.buffer_bytes)?;
            // A thread started here is in the namespace, for /proc/thread-self/net.
            std::thread::Builder::new()
                .name("conntrack events".to_owned())
                .spawn(move || record(&socket, &stopped, options.events_max))
        });
        let reader = reader.map_err(NetError::os("hear", subject()))?;
        Ok(Self { reader, stop, host: netns.name().to_owned() })
    }

    /// Ends the recording, with all events that happened before the call.
    ///
    /// # Errors
    /// Reading failed, or the kernel sent what is no event.
    pub fn finish(self) -> Result<Recorded, NetError> {
        drop(self.stop);
        let recorded = self.reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        recorded.map_err(NetError::os("read", format!("connection events of {}", self.host)))
    }
}

fn record(socket: &Socket, stopped: &UnixStream, events_max: usize) -> io::Result<Recorded> {
    let mut recorded = Recorded::default();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let mut fds = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            outcome => outcome?,
        };
        let stopping = fds[1].any().unwrap_or(true);
        let deadline = stopping.then(|| Instant::now() + LAST_WORDS);
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            match socket.take(&mut buffer) {
                Ok(Some(datagram)) => recorded.add(datagram, events_max)?,
                Ok(None) => break,
                // The kernel says once that it left events out; how many, it is asked at the end.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        if stopping {
            recorded.lost = drops(socket.port_id()?)?;
            return Ok(recorded);
        }
    }
}

impl Recorded {
    fn add(&mut self, datagram: &[u8], events_max: usize) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let received = EventTime::Received(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        for message in messages(datagram) {
            let (kind, flow, event_ns) = match message? {
                Message::Flow { kind, flow, event_ns } => (kind, flow, event_ns),
                Message::Foreign => {
                    self.foreign += 1;
                    continue;
                }
                Message::Other => continue,
            };
            if self.events.len() >= events_max {
                self.surplus += 1;
                continue;
            }
            let kind = match kind {
                MessageKind::New => EventKind::New,
                MessageKind::Present => EventKind::Update,
                MessageKind::Gone => EventKind::Destroy,
            };
            let at = event_ns.map_or(received, EventTime::Kernel);
            self.events.push(Event { kind, flow: *flow, at });
        }
        Ok(())
    }
}

/// Datagrams the kernel dropped for want of room in the socket with this port id: a column of
/// `/proc/net/netlink` (`netlink_native_seq_show`, net/netlink/af_netlink.c). Port ids are unique
/// within a protocol and a namespace.
fn drops(port_id: u32) -> io::Result<u64> {
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink")?;
    find_drops(&table, port_id).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/net/netlink has no drops of the netfilter socket {port_id}"),
        )
    })
}

/// Columns: sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode.
fn find_drops(table: &str, port_id: u32) -> Option<u64> {
    let netfilter = nix::libc::NETLINK_NETFILTER.to_string();
    let port_id = port_id.to_string();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|columns| {
        let ours = columns.get(1) == Some(&netfilter.as_str())
            && columns.get(2) == Some(&port_id.as_str());
        ours.then(|| columns.get(8)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_from_the_line_of_the_socket() {
        let table = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   77         00000011 0        0        0     2        5        100
0000000000000000 12  77         00000007 0        0        0     2        1234     101
0000000000000000 12  78         00000007 0        0        0     2        9        102
";
        assert_eq!(find_drops(table, 77), Some(1234));
        assert_eq!(find_drops(table, 79), None);
    }
}
