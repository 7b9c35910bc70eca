// SPDX-License-Identifier: Apache-2.0
//! What is kept of a frame: the TCP segment's identity, and when and where it was seen.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice,
    TcpOptionElement, UdpHeaderSlice, ether_type, ip_number,
};

use serde::{Deserialize, Serialize};

use crate::net::addresses::VXLAN_PORT;

/// TCP flag bits as they stand in the header (RFC 9293, section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// Bytes of the VXLAN header (RFC 7348, section 5).
const VXLAN_HEADER_BYTES: usize = 8;
/// The VXLAN flag that says the network identifier is valid; always set.
const VXLAN_FLAG_VNI: u8 = 0x08;

/// Which way a frame passed an interface, seen from the host the interface belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// The headers of a TCP segment that tell it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source at the place it was seen; NAT changes it.
    pub src: SocketAddr,
    /// Destination at the place it was seen; NAT changes it.
    pub dst: SocketAddr,
    /// Sequence number of the first byte; NAT keeps it.
    pub seq: u32,
    /// Acknowledgement number, valid with [`flags::ACK`].
    pub ack: u32,
    /// The sender's timestamp (RFC 7323), where the connection uses them; NAT keeps it.
    pub tsval: Option<u32>,
    /// Bytes of payload; more than a frame's worth where the kernel segments or merges late.
    pub payload_bytes: u32,
    /// Flag bits, see [`flags`].
    pub flags: u8,
    /// Whether it was inside a VXLAN frame.
    pub encapsulated: bool,
    /// The message, where it is no segment of TCP but a datagram that carries a query for a name, or
    /// the answer to one: then sequence numbers and flags are 0.
    pub names: Option<Message>,
}

/// What tells one DNS message by UDP from others that are under way; NAT keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: u16,
    /// Whether it is an answer.
    pub answers: bool,
}

/// Port of names (RFC 1035, section 4.2).
pub const DNS_PORT: u16 = 53;
/// Bit of a DNS header's third byte that is set in answers (RFC 1035, section 4.1.1).
const DNS_ANSWER: u8 = 0x80;

/// A segment that passed a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When, CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// The segment.
    pub segment: Segment,
    /// Index of the tap.
    pub tap: u16,
    /// Which way it went.
    pub direction: Direction,
}

impl Segment {
    /// Whether all bits of `flags` are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Reads the headers at the start of an Ethernet frame that may be cut short behind them.
    /// `wire_bytes` is the frame's length on the wire.
    ///
    /// `None` for anything but an unfragmented TCP segment or DNS message by UDP, over IPv4 or over IPv6
    /// without extension headers, bare or inside VXLAN; one level deep, so that a frame costs a bounded time.
    pub fn parse(frame: &[u8], wire_bytes: u32) -> Option<Self> {
        let (ip, rest) = Ip::behind_ethernet(frame)?;
        if ip.protocol == ip_number::UDP
            && let Some(inner) = vxlan_payload(rest)
        {
            let (ip, rest) = Ip::behind_ethernet(inner)?;
            return Self::of_packet(frame, &ip, rest, wire_bytes, true);
        }
        Self::of_packet(frame, &ip, rest, wire_bytes, false)
    }

    /// `rest` follows the header of IP, at the end of what there is of the frame.
    fn of_packet(
        frame: &[u8],
        ip: &Ip,
        rest: &[u8],
        wire_bytes: u32,
        encapsulated: bool,
    ) -> Option<Self> {
        let before_ip = frame.len() - rest.len() - ip.header_bytes;
        match ip.protocol {
            ip_number::UDP => dns(ip, rest, encapsulated),
            _ => tcp(ip, rest, wire_bytes.checked_sub(before_ip as u32)?, encapsulated),
        }
    }
}

/// What counts of a header of IP.
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    protocol: IpNumber,
    header_bytes: usize,
    /// Of the whole packet; `None` where it has no room for its length and says 0, of more than 64 KiB (BIG TCP;
    /// Linux, include/linux/ip.h, iph_set_totlen()).
    total_bytes: Option<u32>,
}

impl Ip {
    /// The header behind Ethernet's, of a packet that is no fragment, and what follows it.
    fn behind_ethernet(frame: &[u8]) -> Option<(Self, &[u8])> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        let packet = frame.get(ethernet.slice().len()..)?;
        let ip = match ethernet.ether_type() {
            ether_type::IPV4 => Self::v4(packet)?,
            ether_type::IPV6 => Self::v6(packet)?,
            _ => return None,
        };
        let rest = packet.get(ip.header_bytes..)?;
        Some((ip, rest))
    }

    fn v4(packet: &[u8]) -> Option<Self> {
        let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
        let total = u32::from(ip.total_len());
        (!ip.is_fragmenting_payload()).then(|| Self {
            source: ip.source_addr().into(),
            destination: ip.destination_addr().into(),
            protocol: ip.protocol(),
            header_bytes: ip.slice().len(),
            total_bytes: (total != 0).then_some(total),
        })
    }

    /// Without extension headers: fragments have one.
    fn v6(packet: &[u8]) -> Option<Self> {
        let ip = Ipv6HeaderSlice::from_slice(packet).ok()?;
        let header_bytes = ip.slice().len();
        let total = u32::from(ip.payload_length()) + header_bytes as u32;
        Some(Self {
            source: ip.source_addr().into(),
            destination: ip.destination_addr().into(),
            protocol: ip.next_header(),
            header_bytes,
            total_bytes: Some(total),
        })
    }
}

fn vxlan_payload(datagram: &[u8]) -> Option<&[u8]> {
    let udp = UdpHeaderSlice::from_slice(datagram).ok()?;
    let vxlan = datagram.get(udp.slice().len()..)?;
    // A client may ask from that port, and be answered there.
    let is_vxlan = udp.destination_port() == VXLAN_PORT
        && udp.source_port() != DNS_PORT
        && vxlan.first()? & VXLAN_FLAG_VNI != 0;
    if is_vxlan { vxlan.get(VXLAN_HEADER_BYTES..) } else { None }
}

fn dns(ip: &Ip, rest: &[u8], encapsulated: bool) -> Option<Segment> {
    let udp = UdpHeaderSlice::from_slice(rest).ok()?;
    if udp.destination_port() != DNS_PORT && udp.source_port() != DNS_PORT {
        return None;
    }
    let &[high, low, bits, ..] = rest.get(udp.slice().len()..)? else { return None };
    Some(Segment {
        src: SocketAddr::new(ip.source, udp.source_port()),
        dst: SocketAddr::new(ip.destination, udp.destination_port()),
        seq: 0,
        ack: 0,
        tsval: None,
        payload_bytes: u32::from(udp.length()).checked_sub(udp.slice().len() as u32)?,
        flags: 0,
        encapsulated,
        names: Some(Message {
            id: u16::from_be_bytes([high, low]),
            answers: bits & DNS_ANSWER != 0,
        }),
    })
}

/// `ip_bytes` is the length of the IP packet by the frame's own length.
fn tcp(ip: &Ip, rest: &[u8], ip_bytes: u32, encapsulated: bool) -> Option<Segment> {
    if ip.protocol != ip_number::TCP {
        return None;
    }
    let tcp = TcpHeaderSlice::from_slice(rest).ok()?;
    let total_bytes = ip.total_bytes.unwrap_or(ip_bytes);
    let header_bytes = (ip.header_bytes + tcp.slice().len()) as u32;
    let tsval = tcp.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::Timestamp(value, _)) => Some(value),
        _ => None,
    });
    Some(Segment {
        src: SocketAddr::new(ip.source, tcp.source_port()),
        dst: SocketAddr::new(ip.destination, tcp.destination_port()),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        tsval,
        payload_bytes: total_bytes.checked_sub(header_bytes)?,
        flags: tcp.slice()[13],
        encapsulated,
        names: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, TcpOptionElement};
    use proptest::prelude::*;

    fn bare(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 8, 0, 2], [10, 9, 0, 11], 64)
            .tcp(40_000, 30_080, 7, 65_000)
            .ack(99)
            .options(&[
                TcpOptionElement::Noop,
                TcpOptionElement::Noop,
                TcpOptionElement::Timestamp(1234, 5678),
            ])
            .unwrap()
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    fn in_vxlan(inner: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let payload = [&[VXLAN_FLAG_VNI, 0, 0, 0, 0, 0, 1, 0], inner].concat();
        PacketBuilder::ethernet2([6; 6], [8; 6])
            .ipv4([10, 9, 0, 11], [10, 9, 0, 12], 64)
            .udp(50_000, VXLAN_PORT)
            .write(&mut frame, &payload)
            .unwrap();
        frame
    }

    fn parse(frame: &[u8]) -> Option<Segment> {
        Segment::parse(frame, frame.len() as u32)
    }

    #[test]
    fn a_bare_segment_is_read_in_full() {
        let segment = parse(&bare(b"GET /")).unwrap();
        assert_eq!(segment.src, "10.8.0.2:40000".parse().unwrap());
        assert_eq!(segment.dst, "10.9.0.11:30080".parse().unwrap());
        assert_eq!((segment.seq, segment.ack, segment.tsval), (7, 99, Some(1234)));
        assert_eq!((segment.payload_bytes, segment.flags), (5, flags::ACK));
        assert!(!segment.encapsulated);
    }

    #[test]
    fn a_segment_inside_vxlan_is_the_inner_one() {
        let inner = parse(&bare(b"GET /")).unwrap();
        let outer = parse(&in_vxlan(&bare(b"GET /"))).unwrap();
        assert_eq!(outer, Segment { encapsulated: true, ..inner });
    }

    #[test]
    fn a_segment_of_ipv6_is_read_bare_and_inside_vxlan_of_either_family() {
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        let [client, node] = ["fd00:10:8::1", "fd00:10:9::b"].map(|text| {
            let address: std::net::Ipv6Addr = text.parse().unwrap();
            address.octets()
        });
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(client, node, 64)
            .tcp(40_000, 30_080, 7, 65_000)
            .ack(99)
            .write(&mut inner, b"GET /")
            .unwrap();
        let segment = parse(&inner).unwrap();
        assert_eq!(segment.src, "[fd00:10:8::1]:40000".parse().unwrap());
        assert_eq!(segment.dst, "[fd00:10:9::b]:30080".parse().unwrap());
        assert_eq!((segment.seq, segment.payload_bytes, segment.flags), (7, 5, flags::ACK));
        let payload = [&[VXLAN_FLAG_VNI, 0, 0, 0, 0, 0, 1, 0], &inner[..]].concat();
        PacketBuilder::ethernet2([6; 6], [8; 6])
            .ipv6(node, client, 64)
            .udp(50_000, VXLAN_PORT)
            .write(&mut outer, &payload)
            .unwrap();
        let encapsulated = Segment { encapsulated: true, ..segment };
        assert_eq!(parse(&outer), Some(encapsulated));
        assert_eq!(parse(&in_vxlan(&inner)), Some(encapsulated));
    }

    #[test]
    fn payload_is_counted_where_the_frame_is_cut_behind_the_headers() {
        let frame = bare(&[0; 1000]);
        assert_eq!(Segment::parse(&frame[..66], 1066).unwrap().payload_bytes, 1000);
    }

    #[test]
    fn a_packet_too_long_for_its_length_field_is_measured_by_its_frame() {
        let mut frame = bare(b"");
        frame[16..18].copy_from_slice(&[0, 0]);
        assert_eq!(Segment::parse(&frame, 66 + 100_000).unwrap().payload_bytes, 100_000);
    }

    #[test]
    fn a_fragment_is_not_a_segment() {
        let mut frame = bare(b"GET /");
        frame[20] = 0x20; // more fragments
        assert_eq!(parse(&frame), None);
    }

    fn message(ports: (u16, u16), answers: bool) -> Vec<u8> {
        let mut frame = Vec::new();
        let bits = if answers { 0x85 } else { 0x01 };
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 8, 0, 2], [10, 96, 0, 10], 64)
            .udp(ports.0, ports.1)
            .write(&mut frame, &[0x1a, 0x34, bits, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3])
            .unwrap();
        frame
    }

    #[test]
    fn a_query_and_its_answer_are_messages_bare_and_inside_vxlan_and_other_datagrams_are_nothing() {
        let query = parse(&message((4000, 53), false)).unwrap();
        assert_eq!(query.names, Some(Message { id: 0x1a34, answers: false }));
        assert_eq!((query.src.port(), query.dst.port(), query.payload_bytes), (4000, 53, 13));
        let answer = parse(&in_vxlan(&message((53, 4000), true))).unwrap();
        assert_eq!(answer.names, Some(Message { id: 0x1a34, answers: true }));
        assert!(answer.encapsulated);
        let answer = parse(&message((53, VXLAN_PORT), true)).unwrap();
        assert_eq!(answer.names, Some(Message { id: 0x1a34, answers: true }));
        assert_eq!(parse(&message((4000, 54), false)), None);
    }

    #[test]
    fn udp_on_another_port_is_not_vxlan() {
        let mut frame = in_vxlan(&bare(b"GET /"));
        frame[37] ^= 1;
        assert_eq!(parse(&frame), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            frame in prop::collection::vec(any::<u8>(), 0..256),
            wire_bytes: u32,
        ) {
            let _ = Segment::parse(&frame, wire_bytes);
        }

        #[test]
        fn a_damaged_or_cut_frame_is_read_without_a_panic(
            at in 0usize..200, value: u8, cut in 0usize..200, encapsulated: bool,
        ) {
            let mut frame = bare(&[1; 40]);
            if encapsulated {
                frame = in_vxlan(&frame);
            }
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            frame.truncate(cut);
            if let Some(segment) = parse(&frame) {
                prop_assert!(segment.payload_bytes <= 65_535);
            }
        }
    }
}
