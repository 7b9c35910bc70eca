// SPDX-License-Identifier: Apache-2.0
//! Single requests with every segment of theirs that any probe saw.

use std::collections::HashMap;

use record::Leg;
use workloads::protocol::{Mark, Sample};

use super::connections::Connections;
use super::timeline::HopTable;
use crate::capture::packet::{Direction, Packet, Segment};

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
    /// Which way it passed there.
    pub direction: Direction,
    /// Way of the connection's data that it belongs to.
    pub leg: Leg,
    /// The segment as it was there.
    pub segment: Segment,
    /// Stage that ends there; `None` where the path has no hop there.
    pub stage: Option<&'static str>,
    /// What its bytes are where they are not of the request or its response.
    pub opening: Option<Opening>,
}

/// What passes on a new connection before its first request, or before the response to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Its TLS handshake, tickets included.
    Handshake,
    /// The upgrade to another protocol.
    Upgrade,
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
    // Of each, the last byte either way that was seen before its handshake was over.
    let mut shaken = vec![[None; 2]; wanted.len()];
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
                // Behind a reverse proxy where TLS ends, a handshake is another one, and so is an upgrade.
                let front = hops
                    .ingress
                    .is_none_or(|part| !hops.ends_tls || connections.at(connection).part < part);
                let offset = connections.at(connection).offset(&packet.segment, leg);
                let offset = offset.filter(|_| front && packet.segment.payload_bytes > 0);
                let last = &mut shaken[index][usize::from(leg == Leg::Response)];
                passages.push(Passage {
                    time_ns: packet.time_ns,
                    tap: packet.tap,
                    direction: packet.direction,
                    leg,
                    segment: packet.segment,
                    stage: hop.map(|hop| hops.hop(hop).stage),
                    opening: offset
                        .and_then(|offset| opening(sample, offset, leg, packet.time_ns, last)),
                });
            }
        }
    }
    stories
}

/// What a segment is whose bytes begin at `offset`, if that is before the request, or before its response.
///
/// Of two that follow each other, the handshake is what was seen somewhere before the client had done with it;
/// `last` is where that ended so far. A ticket, which comes after, counts as the upgrade's.
fn opening(
    sample: &Sample,
    offset: u64,
    leg: Leg,
    time_ns: u64,
    last: &mut Option<u64>,
) -> Option<Opening> {
    let message = match leg {
        Leg::Request => sample.request_offset,
        Leg::Response => sample.response_offset,
    };
    if offset >= message {
        return None;
    }
    match (sample.secured_ns, sample.upgraded_ns) {
        (None, None) => None,
        (Some(_), None) => Some(Opening::Handshake),
        (None, Some(_)) => Some(Opening::Upgrade),
        (Some(secured_ns), Some(_)) => {
            if time_ns < secured_ns {
                *last = (*last).max(Some(offset));
            }
            Some(if Some(offset) <= *last { Opening::Handshake } else { Opening::Upgrade })
        }
    }
}

fn start_ns(sample: &Sample) -> u64 {
    sample.resolve_ns.or(sample.connect_ns).unwrap_or(sample.sent_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a segment at a place of the request's stream is, of a request at 300 that was sent at 500 ns.
    fn at(
        offset: u64,
        time_ns: u64,
        secured_ns: Option<u64>,
        upgraded_ns: Option<u64>,
        last: &mut Option<u64>,
    ) -> Option<Opening> {
        let sample = Sample {
            id: None,
            client: "10.8.0.1:1024".parse().unwrap(),
            request_offset: 300,
            response_offset: 900,
            intended_ns: 0,
            resolve_ns: None,
            connect_ns: Some(0),
            connected_ns: Some(100),
            secured_ns,
            upgraded_ns,
            sent_ns: 500,
            first_byte_ns: 600,
            last_byte_ns: 600,
        };
        opening(&sample, offset, Leg::Request, time_ns, last)
    }

    #[test]
    fn what_comes_before_a_request_is_its_handshake_or_its_upgrade() {
        let upgrade = Some(Opening::Upgrade);
        let handshake = Some(Opening::Handshake);
        assert_eq!(at(0, 150, None, None, &mut None), None);
        assert_eq!(at(0, 150, Some(200), None, &mut None), handshake);
        assert_eq!(at(0, 150, None, Some(400), &mut None), upgrade);
        assert_eq!(at(300, 500, None, Some(400), &mut None), None);
        // The last word of a handshake, at the client and on its way; and what follows it.
        let mut last = None;
        let mut of = |offset, time_ns| at(offset, time_ns, Some(200), Some(400), &mut last);
        assert_eq!(of(0, 150), handshake);
        assert_eq!(of(100, 199), handshake);
        assert_eq!(of(100, 210), handshake);
        assert_eq!(of(200, 220), upgrade);
        assert_eq!(of(300, 500), None);
    }
}
