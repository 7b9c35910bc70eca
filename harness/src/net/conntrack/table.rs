// SPDX-License-Identifier: Apache-2.0
//! The table of connections of a namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use super::flow::{Flow, Tuple};
use super::message::{Message, parse};
use super::request::{CT_DELETE, CT_GET, encode_tuple};
use crate::net::addresses::family;
use crate::net::nfnetlink::{ACKNOWLEDGE, DUMP, Subject, ask, push_nested};
use crate::net::{NetError, Netns};

/// Which flows to return; what is `None` is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Who opened it.
    pub client: Option<IpAddr>,
    /// What it was opened to, before translation.
    pub destination: Option<SocketAddr>,
    /// Who answers, after translation.
    pub backend: Option<SocketAddr>,
    /// Its mark.
    pub mark: Option<u32>,
}

impl Filter {
    fn admits(&self, flow: &Flow) -> bool {
        self.client.is_none_or(|client| flow.original.source.ip() == client)
            && self.destination.is_none_or(|address| flow.original.destination == address)
            && self.backend.is_none_or(|address| flow.reply.source == address)
            && self.mark.is_none_or(|mark| flow.mark == Some(mark))
    }
}

/// Reads the flows that `filter` admits. Flows that come or go meanwhile may or may not be in it.
///
/// # Errors
/// The kernel refuses (`CAP_NET_ADMIN` in the namespace's user namespace, or no
/// `CONFIG_NF_CT_NETLINK`), or does not finish within ten seconds.
pub fn dump(netns: &Netns, filter: Filter) -> Result<Vec<Flow>, NetError> {
    let found = netns.run(move || flows(Subject::ANY, CT_GET, DUMP, &[], filter));
    found.map_err(NetError::os("read", format!("connections of {}", netns.name())))
}

/// Looks one flow up by the tuple its first packet came in with.
///
/// # Errors
/// As [`dump`]. That it is not there is none.
pub fn find(netns: &Netns, original: Tuple) -> Result<Option<Flow>, NetError> {
    let mut attributes = Vec::new();
    push_nested(&mut attributes, 1, &encode_tuple(&original));
    let subject = Subject::of(family(original.source.ip()));
    match netns.run(move || flows(subject, CT_GET, 0, &attributes, Filter::default())) {
        // The kernel finds a flow by either of its tuples.
        Ok(flows) => Ok(flows.into_iter().find(|flow| flow.original == original)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            Err(NetError::os("look up", format!("{original} on {}", netns.name()))(source))
        }
    }
}

/// Forgets all flows.
///
/// # Errors
/// The namespace is the one this process started in, whose connections are not ours; or the
/// kernel refuses.
pub fn flush(netns: &Netns) -> Result<(), NetError> {
    let outcome = refuse_own(netns)
        .and_then(|()| {
            netns.run(|| flows(Subject::ANY, CT_DELETE, ACKNOWLEDGE, &[], Filter::default()))
        })
        .map(drop);
    outcome.map_err(NetError::os("forget", format!("connections of {}", netns.name())))
}

/// Makes the kernel stamp flows and events with the time they happened. Holds for flows that
/// begin afterwards.
///
/// # Errors
/// The namespace is the one this process started in; or there is no `CONFIG_NF_CONNTRACK_TIMESTAMP`.
pub fn enable_timestamps(netns: &Netns) -> Result<(), NetError> {
    const SWITCH: &str = "/proc/sys/net/netfilter/nf_conntrack_timestamp";
    let outcome = refuse_own(netns).and_then(|()| netns.run(|| std::fs::write(SWITCH, "1")));
    outcome.map_err(NetError::os("write", format!("{SWITCH} on {}", netns.name())))
}

/// Flows there are now, of all families.
///
/// # Errors
/// The kernel has no connection tracking.
pub fn count(netns: &Netns) -> Result<u64, NetError> {
    read_number(netns, "/proc/sys/net/netfilter/nf_conntrack_count")
}

/// Flows there may be; past it, packets that would open another are dropped. One limit for the
/// whole machine, except that a namespace may have a lower one of its own.
///
/// # Errors
/// The kernel has no connection tracking.
pub fn max(netns: &Netns) -> Result<u64, NetError> {
    read_number(netns, "/proc/sys/net/netfilter/nf_conntrack_max")
}

fn read_number(netns: &Netns, path: &'static str) -> Result<u64, NetError> {
    let number = netns.run(move || {
        std::fs::read_to_string(path)?
            .trim()
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    });
    number.map_err(NetError::os("read", format!("{path} on {}", netns.name())))
}

/// The host's own connections are never touched.
fn refuse_own(netns: &Netns) -> io::Result<()> {
    let theirs = nix::sys::stat::fstat(netns.as_fd())?;
    let ours = nix::sys::stat::stat("/proc/self/ns/net")?;
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is the network namespace this process started in, not the lab's",
        ));
    }
    Ok(())
}

/// Asks, and keeps the flows that the filter admits.
fn flows(
    subject: Subject,
    kind: u16,
    flags: u16,
    attributes: &[u8],
    filter: Filter,
) -> io::Result<Vec<Flow>> {
    let mut flows = Vec::new();
    ask(subject, kind, flags, attributes, |payload| {
        if let Message::Flow { flow, .. } = parse(payload)?
            && filter.admits(&flow)
        {
            flows.push(*flow);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(flows)
}
