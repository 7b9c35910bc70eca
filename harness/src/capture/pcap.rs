// SPDX-License-Identifier: Apache-2.0
//! The captured frames as one pcapng file, one interface per tap, as Wireshark opens it.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};

use super::tap::Frame;
use super::{CaptureError, Direction, TapCapture, TapInfo};

/// `if_tsresol`: times are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;
/// Direction bits of `epb_flags` (draft-ietf-opsawg-pcapng, section 4.3.1).
const INBOUND: u32 = 0b01;
const OUTBOUND: u32 = 0b10;

/// Writes the frames of a capture in time order, with UTC times and the direction of each.
/// `snap_bytes` is what the capture was made with. Returns the number of frames.
///
/// # Errors
/// The writer says no.
pub fn write(
    to: impl Write,
    taps: &[TapInfo],
    capture: &TapCapture,
    snap_bytes: u32,
) -> Result<u64, CaptureError> {
    let mut writer = PcapNgWriter::new(to)?;
    for tap in taps {
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: snap_bytes,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(&tap.name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        writer.write_block(&block.into_block())?;
    }
    let mut frames: Vec<Frame<'_>> = capture.frames.iter().collect();
    frames.sort_by_key(|frame| frame.time_ns);
    for frame in &frames {
        let direction = match frame.direction {
            Direction::In => INBOUND,
            Direction::Out => OUTBOUND,
        };
        let block = EnhancedPacketBlock {
            interface_id: u32::from(frame.tap),
            timestamp: Duration::from_nanos(capture.clock.realtime_ns(frame.time_ns)),
            original_len: frame.wire_bytes,
            data: Cow::Borrowed(frame.bytes),
            options: vec![EnhancedPacketOption::Flags(direction)],
        };
        writer.write_block(&block.into_block())?;
    }
    Ok(frames.len() as u64)
}
