// SPDX-License-Identifier: Apache-2.0
//! What a probe writes: `struct event` of `harness/bpf/probes.h`.

use std::net::{IpAddr, SocketAddr};

use crate::capture::packet::{Direction, Message, Segment};
use crate::plan::IpFamily;

/// Most bytes of an event in the ring.
pub const EVENT_BYTES_MAX: usize = event_bytes(IpFamily::Ipv6);

/// Bytes of an event of a family in the ring: of IPv4, a cache line.
pub const fn event_bytes(family: IpFamily) -> usize {
    match family {
        IpFamily::Ipv4 => 64,
        IpFamily::Ipv6 => 88,
    }
}

/// Which probe wrote an event: `enum place` of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Place {
    /// A device, in.
    TcIngress = 0,
    /// A device, out.
    TcEgress = 1,
    /// PREROUTING before connection tracking.
    PreConntrack = 2,
    /// PREROUTING behind connection tracking.
    Conntracked = 3,
    /// PREROUTING behind destination NAT.
    Translated = 4,
    /// INPUT.
    LocalIn = 5,
    /// FORWARD.
    Forward = 6,
    /// OUTPUT.
    LocalOut = 7,
    /// POSTROUTING.
    Postrouting = 8,
    /// POSTROUTING behind source NAT.
    Masqueraded = 9,
    /// A socket.
    Readable = 10,
}

impl Place {
    const ALL: [Self; 11] = [
        Self::TcIngress,
        Self::TcEgress,
        Self::PreConntrack,
        Self::Conntracked,
        Self::Translated,
        Self::LocalIn,
        Self::Forward,
        Self::LocalOut,
        Self::Postrouting,
        Self::Masqueraded,
        Self::Readable,
    ];

    /// Way of travel at this place; hooks and sockets count as passed inwards.
    pub fn direction(self) -> Direction {
        match self {
            Self::TcEgress => Direction::Out,
            _ => Direction::In,
        }
    }
}

impl Segment {
    /// With what a program leaves of a DNS message: the first words of its header are where TCP has the
    /// acknowledgement.
    fn of_names(self, is_message: bool) -> Self {
        if !is_message {
            return self;
        }
        let answers = self.ack & 0x8000 != 0;
        let names = Some(Message { id: (self.ack >> 16) as u16, answers });
        Self { seq: 0, ack: 0, tsval: None, flags: 0, names, ..self }
    }
}

/// A segment of a followed connection, or a message for one, passed a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Namespace it was in: inode number.
    pub netns: u32,
    /// Device it passed, index in its namespace; 0 at hooks and sockets.
    pub device: u32,
    /// Which probe.
    pub place: Place,
    /// The segment. Of a socket: the bytes that can be read.
    pub segment: Segment,
}

impl Event {
    /// Reads an event of either family. `None` for anything that no probe of ours wrote.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let family = IpFamily::ALL.iter().find(|family| event_bytes(**family) == bytes.len())?;
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let (source, destination, rest) = match family {
            IpFamily::Ipv4 => {
                let (addresses, rest) = rest.split_first_chunk::<8>()?;
                let [a, b, c, d, e, f, g, h] = *addresses;
                (IpAddr::from([a, b, c, d]), IpAddr::from([e, f, g, h]), rest)
            }
            IpFamily::Ipv6 => {
                let (source, rest) = rest.split_first_chunk::<16>()?;
                let (destination, rest) = rest.split_first_chunk::<16>()?;
                (IpAddr::from(*source), IpAddr::from(*destination), rest)
            }
        };
        // What follows the addresses is laid out alike.
        let rest: &[u8; 24] = rest.first_chunk()?;
        let four =
            |bytes: &[u8], at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        let tsval = u32::from_be_bytes(four(rest, 12));
        Some(Self {
            time_ns: u64::from_ne_bytes(head[..8].try_into().expect("eight bytes")),
            netns: u32::from_ne_bytes(four(head, 8)),
            device: u32::from_ne_bytes(four(head, 12)),
            place: *Place::ALL.get(usize::from(rest[20]))?,
            segment: Segment {
                src: SocketAddr::new(source, port(0)),
                dst: SocketAddr::new(destination, port(2)),
                seq: u32::from_be_bytes(four(rest, 4)),
                ack: u32::from_be_bytes(four(rest, 8)),
                tsval: (tsval != 0).then_some(tsval),
                payload_bytes: u32::from_ne_bytes(four(rest, 16)),
                flags: rest[21],
                encapsulated: rest[22] != 0,
                names: None,
            }
            .of_names(rest[23] != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_read_field_by_field() {
        let mut bytes = [0u8; event_bytes(IpFamily::Ipv4)];
        bytes[..8].copy_from_slice(&7_000_000_123u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&4_026_532_000u32.to_ne_bytes());
        bytes[12..16].copy_from_slice(&3u32.to_ne_bytes());
        bytes[16..20].copy_from_slice(&[10, 8, 0, 2]);
        bytes[20..24].copy_from_slice(&[10, 9, 0, 11]);
        bytes[24..28].copy_from_slice(&[0x9c, 0x40, 0x75, 0x80]);
        bytes[28..32].copy_from_slice(&77u32.to_be_bytes());
        bytes[32..36].copy_from_slice(&99u32.to_be_bytes());
        bytes[36..40].copy_from_slice(&1234u32.to_be_bytes());
        bytes[40..44].copy_from_slice(&120u32.to_ne_bytes());
        bytes[44..47].copy_from_slice(&[1, 0x18, 1]);
        let event = Event::read(&bytes).unwrap();
        assert_eq!((event.time_ns, event.netns, event.device), (7_000_000_123, 4_026_532_000, 3));
        assert_eq!((event.place, event.place.direction()), (Place::TcEgress, Direction::Out));
        let segment = event.segment;
        assert_eq!(segment.src, "10.8.0.2:40000".parse().unwrap());
        assert_eq!(segment.dst, "10.9.0.11:30080".parse().unwrap());
        assert_eq!((segment.seq, segment.ack, segment.tsval), (77, 99, Some(1234)));
        assert_eq!((segment.payload_bytes, segment.flags), (120, 0x18));
        assert!(segment.encapsulated);
    }

    #[test]
    fn an_event_of_ipv6_has_longer_addresses_and_the_same_behind_them() {
        let mut bytes = [0u8; event_bytes(IpFamily::Ipv6)];
        bytes[16..32].copy_from_slice(&[0xfd, 0, 0, 0x10, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes[32..48].copy_from_slice(&[0xfd, 0, 0, 0x10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11]);
        bytes[48..52].copy_from_slice(&[0x9c, 0x40, 0x75, 0x80]);
        bytes[52..56].copy_from_slice(&77u32.to_be_bytes());
        bytes[64..68].copy_from_slice(&120u32.to_ne_bytes());
        bytes[68..70].copy_from_slice(&[Place::LocalIn as u8, 0x18]);
        let Event { place, segment, .. } = Event::read(&bytes).unwrap();
        assert_eq!(place, Place::LocalIn);
        assert_eq!(segment.src, "[fd00:10:8::2]:40000".parse().unwrap());
        assert_eq!(segment.dst, "[fd00:10:9::11]:30080".parse().unwrap());
        assert_eq!((segment.seq, segment.payload_bytes, segment.flags), (77, 120, 0x18));
    }

    #[test]
    fn a_message_for_names_is_read_where_its_header_is() {
        let mut bytes = [0u8; event_bytes(IpFamily::Ipv4)];
        bytes[24..28].copy_from_slice(&[0x9c, 0x40, 0, 53]);
        // Length and checksum, then the id and the flags of an answer.
        bytes[28..36].copy_from_slice(&[0, 60, 0xab, 0xcd, 0x12, 0x34, 0x85, 0x03]);
        bytes[40..44].copy_from_slice(&52u32.to_ne_bytes());
        bytes[47] = 1;
        let Segment { seq, ack, flags, payload_bytes, names, .. } =
            Event::read(&bytes).unwrap().segment;
        assert_eq!(names, Some(Message { id: 0x1234, answers: true }));
        assert_eq!((seq, ack, flags, payload_bytes), (0, 0, 0, 52));
    }

    #[test]
    fn places_have_the_numbers_the_programs_write() {
        let source = include_str!("../../../bpf/probes.h");
        let (_, rest) = source.split_once("enum place {").unwrap();
        let (names, _) = rest.split_once('}').unwrap();
        let names: Vec<String> = names
            .split(',')
            .map(|name| name.trim().replace('_', "").to_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        let ours: Vec<String> =
            Place::ALL.iter().map(|place| format!("{place:?}").to_lowercase()).collect();
        assert_eq!(names, ours);
        for (number, place) in Place::ALL.into_iter().enumerate() {
            assert_eq!(place as usize, number);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let event = Event::read(&bytes);
            let place = match bytes.len() {
                64 => Some(bytes[44]),
                88 => Some(bytes[68]),
                _ => None,
            };
            let ours = place.is_some_and(|place| usize::from(place) < Place::ALL.len());
            prop_assert_eq!(event.is_some(), ours);
        }
    }
}
