// SPDX-License-Identifier: Apache-2.0
//! What the probes of a node saw in a block, as bytes: a line of JSON, then 64 bytes for each packet,
//! numbers little-endian.

use std::net::{IpAddr, SocketAddr};

use super::protocol::{Block, Reply};
use crate::capture::packet::Message;
use crate::capture::{Direction, Packet, Segment};

/// Most packets of a node and block.
pub const PACKETS_MAX: usize = 500_000;
/// Longest line before the packets, bytes.
const HEAD_MAX: usize = 16 * 1024;
/// Bytes of a packet.
const PACKET_BYTES: usize = 64;
/// Longest answer, bytes.
pub const SIGHTINGS_BYTES_MAX: usize = HEAD_MAX + PACKETS_MAX * PACKET_BYTES;

const OUT: u8 = 1;
const ENCAPSULATED: u8 = 2;
const STAMPED: u8 = 4;
const NAMES: u8 = 8;

/// A node's part of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// Counts.
    pub block: Block,
    /// By the node's own clock; taps as they were placed.
    pub packets: Vec<Packet>,
}

/// The bytes are no sightings, or of probes that there are none of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to understand what the probes saw: {0}")]
pub struct MalformedSightings(String);

impl Sightings {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = head(&Reply::Done(self.block));
        bytes.reserve(self.packets.len() * PACKET_BYTES);
        for Packet { time_ns, segment, tap, direction } in &self.packets {
            let bits = u8::from(*direction == Direction::Out) * OUT
                + u8::from(segment.encapsulated) * ENCAPSULATED
                + u8::from(segment.tsval.is_some()) * STAMPED
                + u8::from(segment.names.is_some()) * NAMES;
            bytes.extend(time_ns.to_le_bytes());
            bytes.extend(sixteen(segment.src.ip()));
            bytes.extend(sixteen(segment.dst.ip()));
            bytes.extend(segment.src.port().to_le_bytes());
            bytes.extend(segment.dst.port().to_le_bytes());
            // A message of DNS has no sequence numbers: their place is its.
            let [seq, ack] = match segment.names {
                Some(names) => [names.id.into(), names.answers.into()],
                None => [segment.seq, segment.ack],
            };
            bytes.extend(seq.to_le_bytes());
            bytes.extend(ack.to_le_bytes());
            bytes.extend(segment.tsval.unwrap_or_default().to_le_bytes());
            bytes.extend(segment.payload_bytes.to_le_bytes());
            bytes.extend(tap.to_le_bytes());
            bytes.extend([segment.flags, bits]);
        }
        bytes
    }

    /// The same where there are none.
    pub fn none(reply: &Reply<Block>) -> Vec<u8> {
        head(reply)
    }

    /// Reads bytes of whoever sent them; `taps` is how many probes there are.
    ///
    /// # Errors
    /// They are not what this program writes.
    pub fn read(bytes: &[u8], taps: usize) -> Result<Reply<Self>, MalformedSightings> {
        let wrong = |problem: String| MalformedSightings(problem);
        let end = bytes.iter().take(HEAD_MAX).position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| wrong(format!("no line within {HEAD_MAX} bytes")))?;
        let reply: Reply<Block> =
            serde_json::from_slice(&bytes[..end]).map_err(|error| wrong(error.to_string()))?;
        let rest = &bytes[end + 1..];
        if !rest.len().is_multiple_of(PACKET_BYTES) || rest.len() > PACKETS_MAX * PACKET_BYTES {
            return Err(wrong(format!("{} bytes of packets", rest.len())));
        }
        let block = match reply {
            Reply::Done(block) => block,
            Reply::Unavailable(unavailable) => return Ok(Reply::Unavailable(unavailable)),
            Reply::Failed(why) => return Ok(Reply::Failed(why)),
        };
        let mut packets = Vec::with_capacity(rest.len() / PACKET_BYTES);
        for bytes in rest.as_chunks::<PACKET_BYTES>().0 {
            let packet = packet(bytes);
            if usize::from(packet.tap) >= taps {
                return Err(wrong(format!("a packet at probe {} of {taps}", packet.tap)));
            }
            packets.push(packet);
        }
        Ok(Reply::Done(Self { block, packets }))
    }
}

fn head(reply: &Reply<Block>) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(reply).expect("the protocol's types are written as JSON");
    bytes.push(b'\n');
    bytes
}

/// An address of either family; of IPv4 as IPv6 maps it (RFC 4291, section 2.5.5.2).
fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn packet(bytes: &[u8; PACKET_BYTES]) -> Packet {
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let number = |at: usize| u32::from_le_bytes(four(at));
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let end = |at: usize, port: usize| {
        let address: [u8; 16] = bytes[at..at + 16].try_into().expect("sixteen of them");
        SocketAddr::new(IpAddr::from(address).to_canonical(), short(port))
    };
    let bits = bytes[63];
    let names =
        (bits & NAMES != 0).then(|| Message { id: number(44) as u16, answers: number(48) != 0 });
    let [seq, ack] = if names.is_some() { [0; 2] } else { [number(44), number(48)] };
    Packet {
        time_ns: u64::from(number(0)) | u64::from(number(4)) << 32,
        segment: Segment {
            src: end(8, 40),
            dst: end(24, 42),
            seq,
            ack,
            tsval: (bits & STAMPED != 0).then(|| number(52)),
            payload_bytes: number(56),
            flags: bytes[62],
            encapsulated: bits & ENCAPSULATED != 0,
            names,
        },
        tap: short(60),
        direction: if bits & OUT != 0 { Direction::Out } else { Direction::In },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::Unavailable;

    prop_compose! {
        fn packets()(
            time_ns: u64, seq: u32, ack: u32, tsval: Option<u32>, payload_bytes: u32, flags: u8,
            encapsulated: bool, out: bool, tap in 0u16..7, ends: [(u32, u16); 2], six: bool,
            names: Option<(u16, bool)>,
        ) -> Packet {
            let [src, dst] = ends.map(|(number, port)| {
                let address = match six {
                    true => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number)).into(),
                    false => Ipv4Addr::from_bits(number).into(),
                };
                SocketAddr::new(address, port)
            });
            let names = names.map(|(id, answers)| Message { id, answers });
            let [seq, ack] = if names.is_some() { [0; 2] } else { [seq, ack] };
            let segment =
                Segment { src, dst, seq, ack, tsval, payload_bytes, flags, encapsulated, names };
            let direction = if out { Direction::Out } else { Direction::In };
            Packet { time_ns, segment, tap, direction }
        }
    }

    proptest! {
        #[test]
        fn what_was_seen_comes_over_as_it_was(
            packets in prop::collection::vec(packets(), 0..20), events: u64, dropped: u64,
        ) {
            let block = Block { events, dropped, conntrack: Some((3, 4)), ..Block::default() };
            let sent = Sightings { block, packets };
            let bytes = sent.to_bytes();
            prop_assert_eq!(Sightings::read(&bytes, 7), Ok(Reply::Done(sent)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), taps in 0usize..9,
        ) {
            let _ = Sightings::read(&bytes, taps);
            let mut headed = head(&Reply::Done(Block::default()));
            headed.extend(&bytes);
            if let Ok(Reply::Done(read)) = Sightings::read(&headed, taps) {
                prop_assert_eq!(read.packets.len() * PACKET_BYTES, bytes.len());
            }
        }
    }

    #[test]
    fn more_than_there_may_be_is_refused_and_so_is_a_probe_that_is_none() {
        let mut bytes = head(&Reply::Done(Block::default()));
        bytes.resize(bytes.len() + (PACKETS_MAX + 1) * PACKET_BYTES, 0);
        assert!(Sightings::read(&bytes, 1).is_err());
        let mut one = head(&Reply::Done(Block::default()));
        one.resize(one.len() + PACKET_BYTES, 0);
        assert!(Sightings::read(&one, 1).is_ok());
        let said = Sightings::read(&one, 0).unwrap_err().to_string();
        assert_eq!(said, "failed to understand what the probes saw: a packet at probe 0 of 0");
        one.pop();
        assert!(Sightings::read(&one, 1).is_err());
        assert!(Sightings::read(&[b' '; 2 * HEAD_MAX], 1).is_err());
    }

    #[test]
    fn a_refusal_comes_over_in_its_words() {
        let unavailable = Unavailable::new("a", "b", "c");
        let bytes = Sightings::none(&Reply::Unavailable(unavailable.clone()));
        assert_eq!(Sightings::read(&bytes, 0), Ok(Reply::Unavailable(unavailable)));
    }
}
