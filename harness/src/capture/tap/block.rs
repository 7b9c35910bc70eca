// SPDX-License-Identifier: Apache-2.0
//! A filled block of a ring, walked without trusting a single offset in it.

use std::mem::{offset_of, size_of};

use nix::libc;

use super::super::packet::Direction;

const BLOCK_HEADER_AT: usize = offset_of!(libc::tpacket_block_desc, hdr);
/// Where a block's status word stands.
pub(super) const BLOCK_STATUS_AT: usize =
    BLOCK_HEADER_AT + offset_of!(libc::tpacket_hdr_v1, block_status);
const BLOCK_FRAMES_AT: usize = BLOCK_HEADER_AT + offset_of!(libc::tpacket_hdr_v1, num_pkts);
const BLOCK_FIRST_AT: usize =
    BLOCK_HEADER_AT + offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt);
/// The frame's `sockaddr_ll` stands behind its header, aligned to TPACKET_ALIGNMENT.
const ADDRESS_AT: usize = size_of::<libc::tpacket3_hdr>().next_multiple_of(16);
const NS_PER_S: u64 = 1_000_000_000;

/// A block that belongs to us for now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    bytes: &'a [u8],
}

/// One frame of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Its first bytes, from the Ethernet header on.
    pub(super) bytes: &'a [u8],
    /// Its length on the wire.
    pub(super) wire_bytes: u32,
    /// When it passed, CLOCK_REALTIME, nanoseconds.
    pub(super) realtime_ns: u64,
    /// Whether the stamp was in the frame before it reached this tap.
    pub(super) stamped_before: bool,
    /// Which way it went.
    pub(super) direction: Direction,
}

impl<'a> Block<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Frames in the block by its own count.
    pub(super) fn frame_count(self) -> u32 {
        self.word(BLOCK_FRAMES_AT).unwrap_or(0)
    }

    /// The frames in order. Ends early, never reads outside, where an offset leads out of the block.
    pub(super) fn frames(self) -> impl Iterator<Item = Frame<'a>> {
        let mut at = self.word(BLOCK_FIRST_AT).map(|at| at as usize);
        (0..self.frame_count()).map_while(move |_| {
            let here = at?;
            let step = self.word(here + offset_of!(libc::tpacket3_hdr, tp_next_offset))?;
            at = here.checked_add(step as usize);
            self.frame(here)
        })
    }

    fn frame(self, at: usize) -> Option<Frame<'a>> {
        let field = |offset| self.word(at + offset);
        let mac = self.array(at + offset_of!(libc::tpacket3_hdr, tp_mac))?;
        let start = at.checked_add(u16::from_ne_bytes(mac).into())?;
        let kept = field(offset_of!(libc::tpacket3_hdr, tp_snaplen))? as usize;
        let [kind] = self.array(at + ADDRESS_AT + offset_of!(libc::sockaddr_ll, sll_pkttype))?;
        let seconds = field(offset_of!(libc::tpacket3_hdr, tp_sec))?;
        let nanoseconds = field(offset_of!(libc::tpacket3_hdr, tp_nsec))?;
        let status = field(offset_of!(libc::tpacket3_hdr, tp_status))?;
        Some(Frame {
            bytes: self.bytes.get(start..start.checked_add(kept)?)?,
            wire_bytes: field(offset_of!(libc::tpacket3_hdr, tp_len))?,
            realtime_ns: u64::from(seconds) * NS_PER_S + u64::from(nanoseconds),
            stamped_before: status & libc::TP_STATUS_TS_SOFTWARE != 0,
            direction: match kind {
                libc::PACKET_OUTGOING => Direction::Out,
                _ => Direction::In,
            },
        })
    }

    fn word(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_are_those_of_the_kernels_header() {
        // include/uapi/linux/if_packet.h, tpacket_block_desc and tpacket3_hdr.
        assert_eq!((BLOCK_STATUS_AT, BLOCK_FRAMES_AT, BLOCK_FIRST_AT), (8, 12, 16));
        assert_eq!(ADDRESS_AT, 48);
    }

    proptest! {
        #[test]
        fn a_block_of_any_bytes_is_walked_inside_its_bounds(
            mut bytes in prop::collection::vec(any::<u8>(), 0..512),
            first in 0u32..600,
            frames in 0u32..40,
        ) {
            if bytes.len() > 20 {
                bytes[12..16].copy_from_slice(&frames.to_ne_bytes());
                bytes[16..20].copy_from_slice(&first.to_ne_bytes());
            }
            prop_assert!(Block::new(&bytes).frames().count() <= 40.max(frames as usize));
        }
    }
}
