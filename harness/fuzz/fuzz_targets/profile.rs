// SPDX-License-Identifier: Apache-2.0
//! Any text as a profile: the parser must not panic; what it takes it must read back alike from
//! its own resolved text, and what it refuses it must place within the text.
#![no_main]

use std::path::Path;

use harness::plan::{Profile, ProfileError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("fuzz.toml");
    match Profile::parse(path, text) {
        Ok(profile) => {
            let resolved = profile.resolved();
            let again = Profile::parse(path, &resolved).expect("a resolved profile is a profile");
            assert_eq!(resolved, again.resolved());
        }
        Err(ProfileError::Malformed { line, .. }) => {
            assert!((1..=text.matches('\n').count() + 1).contains(&line), "line {line}");
        }
        Err(other) => panic!("only a file can be too large or unreadable: {other}"),
    }
});
