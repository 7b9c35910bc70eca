// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a frame: the parser must not panic, and what it reads must fit the frame.
#![no_main]

use harness::capture::Segment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (wire_bytes, frame) = input;
    if let Some(segment) = Segment::parse(frame, wire_bytes) {
        // Ethernet, IPv4 and TCP at least; 50 bytes more with Ethernet, IPv4, UDP and VXLAN around.
        let headers = if segment.encapsulated { 54 + 50 } else { 54 };
        assert!(frame.len() >= headers);
        assert!(segment.payload_bytes <= 65_535.max(wire_bytes));
    }
});
