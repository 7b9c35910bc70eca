// SPDX-License-Identifier: Apache-2.0
//! When the first packets of a flow passed which interface.

use std::collections::HashMap;
use std::net::SocketAddr;

use harness::capture::packet::flags;
use harness::capture::{Direction, Packet, TapCapture};
use harness::net::conntrack::Flow;

use crate::lab::{NIC, POD};

/// Tap, direction, source, destination, and whether it is the answer.
type Place = (u16, Direction, SocketAddr, SocketAddr, bool);

/// A flow's SYN and the answer to it, ns of CLOCK_REALTIME, in the order they pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    pub(crate) syn_in_ns: u64,
    pub(crate) syn_out_ns: u64,
    pub(crate) pod_in_ns: u64,
    pub(crate) pod_out_ns: u64,
    pub(crate) answer_in_ns: u64,
    pub(crate) answer_out_ns: u64,
}

impl Walk {
    /// From the entry node's NIC into the pod.
    pub(crate) fn first_packet_ns(&self) -> u64 {
        self.pod_in_ns - self.syn_in_ns
    }
}

/// The first SYN and SYN-ACK of each tuple at each tap.
pub(crate) struct Sightings<'a> {
    capture: &'a TapCapture,
    first: HashMap<Place, &'a Packet>,
}

impl<'a> Sightings<'a> {
    pub(crate) fn of(capture: &'a TapCapture) -> Self {
        let mut first = HashMap::new();
        // Each tap's packets stand in the order they passed: what comes again is a retransmission.
        for packet in capture.packets.iter().filter(|packet| packet.segment.has(flags::SYN)) {
            let segment = &packet.segment;
            let answer = segment.has(flags::ACK);
            let place = (packet.tap, packet.direction, segment.src, segment.dst, answer);
            first.entry(place).or_insert(packet);
        }
        Self { capture, first }
    }

    /// The walk of a flow, by its tuple on either side of the node.
    pub(crate) fn walk(&self, flow: &Flow) -> Walk {
        use Direction::{In, Out};
        let (asked, answered) = (flow.original, flow.reply);
        let outside = (asked.source, asked.destination);
        let inside = (answered.destination, answered.source);
        let seq = self.packet((NIC, In, outside.0, outside.1, false)).segment.seq;
        let syn = |tap, direction, (src, dst)| {
            let packet = self.packet((tap, direction, src, dst, false));
            assert_eq!(packet.segment.seq, seq, "another SYN than {asked}'s: {packet:?}");
            self.capture.clock.realtime_ns(packet.time_ns)
        };
        let answer = |tap, direction, (dst, src)| {
            let packet = self.packet((tap, direction, src, dst, true));
            let acked = packet.segment.ack;
            assert_eq!(acked, seq.wrapping_add(1), "no answer to {asked}'s SYN: {packet:?}");
            self.capture.clock.realtime_ns(packet.time_ns)
        };
        Walk {
            syn_in_ns: syn(NIC, In, outside),
            syn_out_ns: syn(NIC, Out, inside),
            pod_in_ns: syn(POD, In, inside),
            pod_out_ns: answer(POD, Out, inside),
            answer_in_ns: answer(NIC, In, inside),
            answer_out_ns: answer(NIC, Out, outside),
        }
    }

    fn packet(&self, place: Place) -> &Packet {
        self.first.get(&place).unwrap_or_else(|| panic!("not seen: {place:?}"))
    }
}
