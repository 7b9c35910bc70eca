// SPDX-License-Identifier: Apache-2.0
//! Any bytes are read as the attributes of a rule and of a set's elements.
//! `cargo +nightly fuzz run nf_tables` in `harness/`.

#![no_main]

use harness::proxy::nftables::kernel::{parse_elements, parse_rule};

libfuzzer_sys::fuzz_target!(|attributes: &[u8]| {
    if let Ok(rule) = parse_rule(attributes) {
        // Every name costs an attribute's header at least.
        assert!(rule.chains.len() + rule.maps.len() <= attributes.len() / 4);
    }
    if let Ok(chains) = parse_elements(attributes) {
        assert!(chains.len() <= attributes.len() / 4);
    }
});
