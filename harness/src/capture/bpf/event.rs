// SPDX-License-Identifier: Apache-2.0
//! What a probe writes: `struct event` of `harness/bpf/probes.h`.

use std::net::{IpAddr, SocketAddr};

use crate::capture::packet::{Direction, Message, Segment};

/// Bytes of an event in the ring: a cache line.
pub const EVENT_BYTES: usize = 64;

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
    /// Reads an event. `None` for anything that no probe of ours wrote.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; EVENT_BYTES] = bytes.try_into().ok()?;
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let address = |at: usize| IpAddr::from(four(at));
        let tsval = u32::from_be_bytes(four(36));
        Some(Self {
            time_ns: u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes")),
            netns: u32::from_ne_bytes(four(8)),
            device: u32::from_ne_bytes(four(12)),
            place: *Place::ALL.get(usize::from(bytes[44]))?,
            segment: Segment {
                src: SocketAddr::new(address(16), port(24)),
                dst: SocketAddr::new(address(20), port(26)),
                seq: u32::from_be_bytes(four(28)),
                ack: u32::from_be_bytes(four(32)),
                tsval: (tsval != 0).then_some(tsval),
                payload_bytes: u32::from_ne_bytes(four(40)),
                flags: bytes[45],
                encapsulated: bytes[46] != 0,
                names: None,
            }
            .of_names(bytes[47] != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_read_field_by_field() {
        let mut bytes = [0u8; EVENT_BYTES];
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
    fn a_message_for_names_is_read_where_its_header_is() {
        let mut bytes = [0u8; EVENT_BYTES];
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
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let event = Event::read(&bytes);
            let ours = bytes.len() == EVENT_BYTES && usize::from(bytes[44]) < Place::ALL.len();
            prop_assert_eq!(event.is_some(), ours);
        }
    }
}
