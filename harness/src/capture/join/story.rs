// SPDX-License-Identifier: Apache-2.0
//! Single requests with every segment of theirs that any probe saw.

use std::collections::HashMap;

use record::Leg;
use workloads::protocol::{Mark, Sample};

use super::connections::{Connection, Connections};
use super::timeline::HopTable;
use crate::capture::packet::{Packet, Segment};

/// Passages kept of one request; beyond them a story is of no use to a reader.
const PASSAGES_MAX: usize = 10_000;

/// One request and all that was seen of its connection from its start to its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The client's view.
    pub sample: Sample,
    /// The server's view.
    pub mark: Option<Mark>,
    /// In the order of time.
    pub passages: Vec<Passage>,
}

/// A segment passed a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When, CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Index of the probe.
    pub tap: u16,
    /// Way of the connection's data that it belongs to.
    pub leg: Leg,
    /// The segment as it was there.
    pub segment: Segment,
    /// Stage that ends there; `None` where the path has no hop there.
    pub stage: Option<&'static str>,
    /// Whether its bytes are of the connection's TLS handshake, tickets included.
    pub handshake: bool,
}

/// A request whose story is wanted, and the connections it is made of.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) sample: Sample,
    pub(super) mark: Option<Mark>,
    pub(super) connections: Vec<u32>,
}

/// The `keep` slowest of `requests`, slowest first; of equally slow ones those that came first.
pub(super) fn slowest(mut requests: Vec<Wanted>, keep: usize) -> Vec<Wanted> {
    let time_ns = |wanted: &Wanted| wanted.sample.last_byte_ns - start_ns(&wanted.sample);
    requests.sort_by_key(|wanted| std::cmp::Reverse(time_ns(wanted)));
    requests.truncate(keep);
    requests
}

/// Gathers the stories of some requests from a window's packets, which are in the order of time.
pub(super) fn tell(
    wanted: Vec<Wanted>,
    packets: &[Packet],
    connections: &Connections,
    hops: &HopTable,
) -> Vec<Story> {
    let mut of_connection: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, one) in wanted.iter().enumerate() {
        for connection in &one.connections {
            of_connection.entry(*connection).or_default().push(index);
        }
    }
    let mut stories: Vec<Story> = wanted
        .into_iter()
        .map(|Wanted { sample, mark, .. }| Story { sample, mark, passages: Vec::new() })
        .collect();
    for packet in packets {
        let Some((connection, leg)) = connections.whose(packet, hops) else { continue };
        for &index in of_connection.get(&connection).into_iter().flatten() {
            let Story { sample, passages, .. } = &mut stories[index];
            let during = start_ns(sample)..=sample.last_byte_ns;
            if during.contains(&packet.time_ns) && passages.len() < PASSAGES_MAX {
                let hop = hops.find(packet, leg, connections.at(connection));
                passages.push(Passage {
                    time_ns: packet.time_ns,
                    tap: packet.tap,
                    leg,
                    segment: packet.segment,
                    stage: hop.map(|hop| hops.hop(hop).stage),
                    // TLS ends at a reverse proxy.
                    handshake: hops
                        .ingress
                        .is_none_or(|part| connections.at(connection).part < part)
                        && is_handshake(sample, &packet.segment, leg, connections.at(connection)),
                });
            }
        }
    }
    stories
}

/// Whether a segment carries what comes before the first request of a connection, or before its
/// response.
fn is_handshake(sample: &Sample, segment: &Segment, leg: Leg, connection: &Connection) -> bool {
    let message = match leg {
        Leg::Request => sample.request_offset,
        Leg::Response => sample.response_offset,
    };
    sample.secured_ns.is_some()
        && segment.payload_bytes > 0
        && connection.offset(segment, leg).is_some_and(|offset| offset < message)
}

fn start_ns(sample: &Sample) -> u64 {
    sample.resolve_ns.or(sample.connect_ns).unwrap_or(sample.sent_ns)
}
