// SPDX-License-Identifier: Apache-2.0
//! What taps see and how much of it they keep.

use super::filter::{PORTS_MAX, Selection};
use super::ring::Shape;
use crate::capture::CaptureError;

/// Bytes of a ring's block while only headers are kept: some 200 frames. A slow trickle takes up a
/// block per block timeout whatever its size, so that the number of blocks is also how long the
/// reader may be kept from reading: 128 blocks of 10 ms in the default ring.
const BLOCK_BYTES: u32 = 64 * 1024;
/// Bytes of a block that a frame of the largest size fits into.
const LARGE_BLOCK_BYTES: u32 = 128 * 1024;
/// Smallest ring, bytes.
pub(super) const RING_BYTES_MIN: u32 = 1024 * 1024;
/// Largest ring, bytes.
pub(super) const RING_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Enough for the longest headers a lab's frames have: Ethernet, IPv4, UDP and VXLAN around
/// Ethernet, IPv4 and TCP with options (50 + 14 + 20 + 60), and IPv4 options to spare.
const SNAP_BYTES_MIN: u32 = 144;
/// Largest frame length AF_PACKET reports in full.
const SNAP_BYTES_MAX: u32 = 65_535;

/// Settings of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapOptions {
    /// Connections that are seen.
    pub selection: Selection,
    /// Whether segments are kept that only acknowledge; joining does not need them.
    pub keep_acks: bool,
    /// Bytes kept of a frame, 144 to 65,535.
    pub snap_bytes: u32,
    /// Bytes of each tap's ring, 1 MiB to 256 MiB, rounded down to a multiple of 128 KiB.
    pub ring_bytes: u32,
    /// When a block that is not full is read, milliseconds, 1 to 1,000: how stale a tap may be.
    pub block_timeout_ms: u32,
    /// Packets kept between two drains, all taps together, 48 bytes each; more are dropped and counted.
    pub packets_max: usize,
    /// Bytes of whole frames kept between two drains, for a capture file; 0 keeps none.
    pub frame_bytes_max: usize,
}

impl Default for TapOptions {
    /// Sampled connections, headers only, 8 MiB a tap: room for some 30,000 frames until the
    /// reader comes round.
    fn default() -> Self {
        Self {
            selection: Selection::Sampled,
            keep_acks: false,
            snap_bytes: 200,
            ring_bytes: 8 * 1024 * 1024,
            block_timeout_ms: 10,
            packets_max: 4_000_000,
            frame_bytes_max: 0,
        }
    }
}

impl TapOptions {
    pub(super) fn check(&self) -> Result<(), CaptureError> {
        within("bytes kept of a frame", self.snap_bytes, SNAP_BYTES_MIN, SNAP_BYTES_MAX)?;
        within("bytes of a ring", self.ring_bytes, RING_BYTES_MIN, RING_BYTES_MAX)?;
        within("block timeout in ms", self.block_timeout_ms, 1, 1_000)?;
        if let Selection::Ports(ports) = &self.selection {
            within("ports selected", ports.len() as u32, 1, PORTS_MAX as u32)?;
        }
        Ok(())
    }

    pub(super) fn shape(&self) -> Shape {
        let block_bytes =
            if self.snap_bytes < BLOCK_BYTES / 2 { BLOCK_BYTES } else { LARGE_BLOCK_BYTES };
        Shape {
            block_bytes: block_bytes as usize,
            block_count: (self.ring_bytes / LARGE_BLOCK_BYTES * LARGE_BLOCK_BYTES / block_bytes)
                as usize,
            block_timeout_ms: self.block_timeout_ms,
        }
    }
}

fn within(what: &str, value: u32, least: u32, most: u32) -> Result<(), CaptureError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(CaptureError::Options(format!("{what}: {least} to {most}, not {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_own_limits() {
        TapOptions::default().check().unwrap();
    }

    #[test]
    fn a_setting_out_of_range_is_named_with_its_range() {
        let options = TapOptions { snap_bytes: 64, ..TapOptions::default() };
        let message = options.check().unwrap_err().to_string();
        assert_eq!(message, "failed to set up taps: bytes kept of a frame: 144 to 65535, not 64");
        let none = TapOptions { selection: Selection::Ports(vec![]), ..TapOptions::default() };
        assert!(none.check().is_err());
    }
}
