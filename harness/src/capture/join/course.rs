// SPDX-License-Identifier: Apache-2.0
//! Over which connections a request went, and where it lies in their streams.
//!
//! Processes of ours say which of their connections belong together, and the request is at the same place in
//! all of them. Load balancers and reverse proxies do not say it, and the latter put each request on a
//! connection of their choice: there the request is found from its other end, by the id that the server saw.

use std::collections::HashMap;
use std::net::SocketAddr;

use record::Leg;
use workloads::protocol::{Mark, Sample};

use super::Unjoined;
use super::connections::Connections;
use super::timeline::HopTable;

/// The server's view of a window's requests.
#[derive(Debug)]
pub(super) struct Marks {
    /// In the order of [`mark_key`].
    all: Vec<Mark>,
    /// Where requests have ids.
    by_id: HashMap<u64, usize>,
}

impl Marks {
    pub(super) fn new(marks: &[Mark], beyond: Option<u8>) -> Self {
        let mut all = marks.to_vec();
        all.sort_unstable_by_key(mark_key);
        let ids = all.iter().enumerate().filter_map(|(index, mark)| Some((mark.id?, index)));
        let by_id = if beyond.is_some() { ids.collect() } else { HashMap::new() };
        Self { all, by_id }
    }

    /// The mark of the request that reached the server's interface at `arrived_ns` or a little later.
    fn at(
        &self,
        (peer, local): (SocketAddr, SocketAddr),
        request_offset: u64,
        arrived_ns: u64,
    ) -> Option<&Mark> {
        let wanted = (peer, local, request_offset, arrived_ns);
        let mark = self.all.get(self.all.partition_point(|mark| mark_key(mark) < wanted))?;
        let same = (mark.peer, mark.local, mark.request_offset) == (peer, local, request_offset);
        same.then_some(mark)
    }
}

fn mark_key(mark: &Mark) -> (SocketAddr, SocketAddr, u64, u64) {
    (mark.peer, mark.local, mark.request_offset, mark.read_ns)
}

/// The course of one request.
#[derive(Debug)]
pub(super) struct Course<'a> {
    sample: &'a Sample,
    front: u32,
    beyond: Option<Beyond<'a>>,
}

/// Behind a load balancer or a reverse proxy.
#[derive(Debug)]
struct Beyond<'a> {
    mark: &'a Mark,
    /// The server's connection, and which part that is.
    last: (u32, u8),
    /// First part behind it.
    first_part: u8,
}

impl<'a> Course<'a> {
    /// Fails where a connection of it was not seen to open, or a server did not see the request.
    pub(super) fn of(
        sample: &'a Sample,
        marks: &'a Marks,
        connections: &Connections,
        hops: &HopTable,
    ) -> Result<Self, Unjoined> {
        let front = connections
            .of_client(sample.client, sample.sent_ns)
            .ok_or(Unjoined::ConnectionNotSeen)?;
        let beyond = |first_part| {
            let mark = sample.id.and_then(|id| marks.by_id.get(&id)).map(|&at| &marks.all[at]);
            let mark =
                mark.ok_or_else(|| Unjoined::NotSeen("request read by server".to_owned()))?;
            let last = connections
                .at_server(mark.peer, mark.local, mark.read_ns)
                .ok_or(Unjoined::ConnectionNotSeen)?;
            let last = (last, connections.at(last).part);
            Ok(Beyond { mark, last, first_part })
        };
        Ok(Self { sample, front, beyond: hops.beyond.map(beyond).transpose()? })
    }

    /// The connection that is a part of it.
    pub(super) fn connection(&self, connections: &Connections, part: u8) -> Option<u32> {
        match &self.beyond {
            Some(Beyond { last: (last, its_part), first_part, .. }) if part >= *first_part => {
                connections.before(*last, its_part.checked_sub(part)?)
            }
            _ => connections.part_of(self.front, part),
        }
    }

    /// Where the request or its response begins in the stream of a part.
    pub(super) fn offset(&self, part: u8, leg: Leg) -> i64 {
        let (request, response) = match &self.beyond {
            Some(Beyond { mark, first_part, .. }) if part >= *first_part => {
                (mark.request_offset, mark.response_offset)
            }
            _ => (self.sample.request_offset, self.sample.response_offset),
        };
        let offset = match leg {
            Leg::Request => request,
            Leg::Response => response,
        };
        offset as i64
    }

    /// The server's mark, of a request that reached its interface at `arrived_ns`.
    pub(super) fn mark(
        &self,
        connections: &Connections,
        marks: &'a Marks,
        arrived_ns: u64,
    ) -> Option<&'a Mark> {
        if let Some(beyond) = &self.beyond {
            return Some(beyond.mark);
        }
        let at_server = connections.parts_of(self.front).last()?;
        let at_pod = connections.at(at_server).at_pod?;
        marks.at(at_pod, self.sample.request_offset, arrived_ns)
    }

    /// All of its connections that are known, the client's first.
    pub(super) fn connections(&self, connections: &Connections) -> Vec<u32> {
        let mut all: Vec<u32> = connections.parts_of(self.front).collect();
        if let Some(Beyond { last: (last, part), first_part, .. }) = self.beyond {
            let steps = (0..=part.saturating_sub(first_part)).rev();
            all.extend(steps.filter_map(|steps| connections.before(last, steps)));
        }
        all
    }
}
