// SPDX-License-Identifier: Apache-2.0
//! Which connection a packet belongs to, at any tap, whatever NAT made of its addresses.
//!
//! A connection is known by its SYN: NAT changes addresses and ports, but neither the initial
//! sequence number nor the timestamp option. At each tap the SYN teaches the addresses that the
//! connection has *there*; its later packets at that tap are found by them. Packets are fed in time
//! order, so that a tuple that is used again means the newer connection.

use std::collections::HashMap;
use std::net::SocketAddr;

use record::Leg;

use super::timeline::HopTable;
use crate::capture::Site;
use crate::capture::packet::{Direction, Packet, Segment, flags};
use crate::relay::Relay;

/// Connections remembered from one join to the next; the oldest go first.
const CONNECTIONS_KEPT: usize = 1 << 20;

/// Offset of a SYN's own sequence number in the stream it opens.
pub(super) const SYN_OFFSET: i64 = -1;

/// A TCP connection, or the part of a relayed one between two of the processes that join them.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Source and destination where its SYN was first seen.
    pub(super) origin: (SocketAddr, SocketAddr),
    /// When its SYN was first seen.
    pub(super) opened_ns: u64,
    /// Source and destination at the pod.
    pub(super) at_pod: Option<(SocketAddr, SocketAddr)>,
    /// The next part, behind a process that joins two.
    pub(super) partner: Option<u32>,
    /// The part before, on the other side of that process.
    pub(super) behind: Option<u32>,
    /// Which part it is: 0 is the client's own.
    pub(super) part: u8,
    /// Which of the path's entry nodes it came by, index, once that is known.
    pub(super) entry: Option<usize>,
    client_isn: u32,
    server_isn: Option<u32>,
    /// Where each stream has got to, as far as it was seen: sequence numbers wrap, this does not.
    reached: [i64; 2],
    closed: bool,
}

/// Bytes of a connection's stream that passed a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) connection: u32,
    pub(super) hop: u16,
    /// Offset of the first byte; a SYN is at [`SYN_OFFSET`].
    pub(super) start: i64,
    pub(super) time_ns: u64,
    /// Offset behind the last byte.
    pub(super) end: i64,
}

type Place = (u16, SocketAddr, SocketAddr);

/// All connections whose SYN was seen.
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: Vec<Connection>,
    /// By initial sequence number and timestamp.
    by_syn: HashMap<(u32, Option<u32>), u32>,
    /// By initial sequence number alone: the newest connection that has it.
    by_client_isn: HashMap<u32, u32>,
    /// By tap and addresses there, bare or inside VXLAN: a request may pass an interface wrapped and
    /// its response bare.
    by_place: HashMap<Place, (u32, Leg)>,
    /// By source where the SYN was first seen, in time order.
    by_origin: HashMap<SocketAddr, Vec<u32>>,
    /// By source and destination at the pod, in time order; kept where requests are found from there.
    by_server: HashMap<(SocketAddr, SocketAddr), Vec<u32>>,
}

impl Connections {
    pub(super) fn at(&self, index: u32) -> &Connection {
        &self.all[index as usize]
    }

    /// Places one packet. `None` when it belongs to no connection or hop that is known, or carries
    /// nothing.
    pub(super) fn place(&mut self, packet: &Packet, hops: &HopTable) -> Option<Seen> {
        let segment = &packet.segment;
        if segment.names.is_some() {
            return None;
        }
        if segment.has(flags::SYN) && !segment.has(flags::ACK) {
            self.learn(packet, hops)?;
        } else if segment.has(flags::SYN) {
            self.learn_back(packet);
        }
        let place = (hops.addresses(packet.tap), segment.src, segment.dst);
        let &(connection, leg) = self.by_place.get(&place)?;
        let entry = &mut self.all[connection as usize];
        entry.closed |= segment.flags & (flags::FIN | flags::RST) != 0;
        let hop = hops.find(packet, leg, entry)?;
        let (start, end) = entry.stream_bytes(segment, leg)?;
        Some(Seen { connection, hop, start, time_ns: packet.time_ns, end })
    }

    /// Which connection a packet that was placed before belongs to, and which of its ways.
    pub(super) fn whose(&self, packet: &Packet, hops: &HopTable) -> Option<(u32, Leg)> {
        let Segment { src, dst, names: None, .. } = packet.segment else { return None };
        self.by_place.get(&(hops.addresses(packet.tap), src, dst)).copied()
    }

    /// Takes a connection's addresses at a tap from its SYN.
    fn learn(&mut self, packet: &Packet, hops: &HopTable) -> Option<()> {
        let segment = &packet.segment;
        let place = (packet.tap, segment.src, segment.dst);
        let syn = (segment.seq, segment.tsval);
        let known = self.by_place.get(&place).map(|&(index, _)| index);
        let same = known.filter(|&index| {
            let connection = self.at(index);
            connection.client_isn == segment.seq && !connection.closed
        });
        let origin = hops.origin(packet);
        let index = match (same, origin) {
            // Sent again: the timestamp is new, and the taps behind this one will see that.
            (Some(index), _) => index,
            (None, Some(part)) => self.open(packet, part)?,
            (None, None) => *self.by_syn.get(&syn)?,
        };
        self.by_syn.insert(syn, index);
        self.by_client_isn.insert(segment.seq, index);
        self.by_place.insert(place, (index, Leg::Request));
        let back = (packet.tap, segment.dst, segment.src);
        self.by_place.insert(back, (index, Leg::Response));
        let connection = &mut self.all[index as usize];
        if hops.site(packet.tap) == Site::PodEth && packet.direction == Direction::In {
            let at_pod = (segment.src, segment.dst);
            if hops.beyond.is_some() && connection.at_pod != Some(at_pod) {
                self.by_server.entry(at_pod).or_default().push(index);
            }
            connection.at_pod = Some(at_pod);
        }
        // The first node that sees it is the one it enters by.
        connection.entry = connection.entry.or_else(|| hops.entry_at(packet.tap));
        Some(())
    }

    /// Takes a connection's addresses on the way back from its SYN-ACK, where they are not the way
    /// there turned round: at a hook one leg is seen before its translation and the other behind it,
    /// and br_netfilter translates before the bridge's own tap sees the packet.
    fn learn_back(&mut self, packet: &Packet) {
        let segment = &packet.segment;
        let place = (packet.tap, segment.src, segment.dst);
        let client_isn = segment.ack.wrapping_sub(1);
        // A pair of addresses that an older connection had is this one's now.
        let known = self.by_place.get(&place).map(|&(index, _)| self.at(index));
        if !known.is_some_and(|known| known.client_isn == client_isn && !known.closed)
            && let Some(&index) = self.by_client_isn.get(&client_isn)
        {
            self.by_place.insert(place, (index, Leg::Response));
        }
    }

    fn open(&mut self, packet: &Packet, part: u8) -> Option<u32> {
        let segment = &packet.segment;
        let index = u32::try_from(self.all.len()).ok()?;
        self.all.push(Connection {
            origin: (segment.src, segment.dst),
            opened_ns: packet.time_ns,
            at_pod: None,
            partner: None,
            behind: None,
            part,
            entry: None,
            client_isn: segment.seq,
            server_isn: None,
            reached: [0; 2],
            closed: false,
        });
        self.by_origin.entry(segment.src).or_default().push(index);
        Some(index)
    }

    /// The client's connection from `client` that a request sent at `sent_ns` used.
    pub(super) fn of_client(&self, client: SocketAddr, sent_ns: u64) -> Option<u32> {
        self.newest(client, 0, sent_ns)
    }

    /// The newest connection from `source` that is this part and was there at `at_ns`.
    fn newest(&self, source: SocketAddr, part: u8, at_ns: u64) -> Option<u32> {
        let all = self.by_origin.get(&source)?;
        all.iter().copied().rfind(|&index| {
            let connection = self.at(index);
            connection.part == part && connection.opened_ns <= at_ns
        })
    }

    /// The newest connection of those addresses at the pod that was there at `at_ns`.
    pub(super) fn at_server(&self, peer: SocketAddr, local: SocketAddr, at_ns: u64) -> Option<u32> {
        let all = self.by_server.get(&(peer, local))?;
        all.iter().copied().rfind(|&index| self.at(index).opened_ns <= at_ns)
    }

    /// The part before the last one's by so many processes that join two.
    pub(super) fn before(&self, last: u32, steps: u8) -> Option<u32> {
        (0..steps).try_fold(last, |connection, _| self.at(connection).behind)
    }

    /// The part of a client's connection behind so many processes that join two.
    pub(super) fn part_of(&self, front: u32, part: u8) -> Option<u32> {
        (0..part).try_fold(front, |connection, _| self.at(connection).partner)
    }

    /// All parts of a client's connection that are known, its own first.
    pub(super) fn parts_of(&self, front: u32) -> impl Iterator<Item = u32> + use<'_> {
        std::iter::successors(Some(front), |&connection| self.at(connection).partner)
    }

    /// Joins the two sides of relayed connections. A pair of addresses may come back in time: those
    /// of one relay are the first unpaired connection to the backend and, of the part before, the
    /// newest from its client.
    pub(super) fn pair(&mut self, relays: &[Relay]) {
        let mut paired: Vec<bool> = vec![false; self.all.len()];
        for connection in &self.all {
            if let Some(partner) = connection.partner {
                paired[partner as usize] = true;
            }
        }
        for relay in relays {
            let backs = self.by_origin.get(&relay.upstream);
            let back = backs.into_iter().flatten().copied().find(|&index| {
                let half = self.at(index);
                half.part > 0 && half.origin.1 == relay.backend && !paired[index as usize]
            });
            let Some(back) = back else { continue };
            let Connection { opened_ns, part, .. } = *self.at(back);
            if let Some(front) = self.newest(relay.client, part - 1, opened_ns) {
                paired[back as usize] = true;
                self.all[front as usize].partner = Some(back);
                self.all[back as usize].behind = Some(front);
            }
        }
    }

    /// Forgets connections that have ended.
    pub(super) fn forget_closed(&mut self) {
        let mut kept: Vec<usize> =
            (0..self.all.len()).filter(|&index| !self.all[index].closed).collect();
        let surplus = kept.len().saturating_sub(CONNECTIONS_KEPT);
        kept.drain(..surplus);
        let mut moved = vec![None; self.all.len()];
        for (new, &old) in kept.iter().enumerate() {
            moved[old] = Some(new as u32);
        }
        let moved_to = |old: u32| moved[old as usize];
        self.all = kept.iter().map(|&old| self.all[old].clone()).collect();
        for connection in &mut self.all {
            connection.partner = connection.partner.and_then(moved_to);
            connection.behind = connection.behind.and_then(moved_to);
        }
        self.by_syn.retain(|_, index| moved_to(*index).map(|new| *index = new).is_some());
        self.by_client_isn.retain(|_, index| moved_to(*index).map(|new| *index = new).is_some());
        self.by_place.retain(|_, (index, _)| moved_to(*index).map(|new| *index = new).is_some());
        let move_all = |all: &mut Vec<u32>| {
            *all = all.iter().copied().filter_map(moved_to).collect();
            !all.is_empty()
        };
        self.by_origin.retain(|_, all| move_all(all));
        self.by_server.retain(|_, all| move_all(all));
    }
}

impl Connection {
    /// Offset of a segment's first byte in a stream that is not long enough for its sequence numbers to
    /// wrap.
    pub(super) fn offset(&self, segment: &Segment, leg: Leg) -> Option<u64> {
        let isn = match leg {
            Leg::Request => self.client_isn,
            Leg::Response => self.server_isn?,
        };
        Some(segment.seq.wrapping_sub(isn.wrapping_add(1)).into())
    }

    /// The offsets a segment covers in its stream; `None` when it carries nothing.
    fn stream_bytes(&mut self, segment: &Segment, leg: Leg) -> Option<(i64, i64)> {
        let is_syn = segment.has(flags::SYN);
        if leg == Leg::Response && is_syn && segment.has(flags::ACK) {
            self.server_isn.get_or_insert(segment.seq);
        }
        let length = match (is_syn, segment.payload_bytes) {
            (true, _) => 1,
            (false, 0) => return None,
            (false, bytes) => i64::from(bytes),
        };
        let (isn, stream) = match leg {
            Leg::Request => (self.client_isn, 0),
            Leg::Response => (self.server_isn?, 1),
        };
        let reached = &mut self.reached[stream];
        // Sequence numbers are the low 32 bits of the offset: the offset is the nearest one to
        // what was reached that has them (RFC 9293, section 3.4).
        let low = segment.seq.wrapping_sub(isn.wrapping_add(1));
        let start = *reached + i64::from(low.wrapping_sub(*reached as u32) as i32);
        *reached = (*reached).max(start + length);
        Some((start, start + length))
    }
}
