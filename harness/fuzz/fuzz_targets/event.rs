// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a probe's event: reading must not panic, and takes one length only.
#![no_main]

use harness::capture::bpf::{Event, event_bytes};
use harness::plan::IpFamily;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if Event::read(bytes).is_some() {
        assert!(IpFamily::ALL.iter().any(|family| event_bytes(*family) == bytes.len()));
    }
});
