// SPDX-License-Identifier: Apache-2.0
//! Any bytes as what a plugin writes, and as a network configuration list: reading must not panic, and
//! a list that is taken has a name that is one part of a path and reads back alike.
#![no_main]

use std::path::Path;

use harness::cni::exec::{Answer, Refusal, versions};
use harness::plan::{CNI_VERSIONS, Conflist};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for version in CNI_VERSIONS {
        if let Ok(answer) = Answer::parse(bytes, version) {
            assert!(answer.addresses.iter().all(|cidr| cidr.prefix <= 128));
        }
    }
    let _ = (Refusal::parse(bytes), versions(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(list) = Conflist::parse(text) {
        assert_eq!(Path::new(list.name()).components().count(), 1);
        assert_eq!(Conflist::parse(list.text()).as_ref(), Ok(&list));
    }
});
