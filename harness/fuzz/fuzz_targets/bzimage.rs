// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a kernel's boot image: reading must not panic, and a release it says must be one
//! name, because it becomes part of paths.
#![no_main]

use harness::kernel::qemu::BzImage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    if let Ok(read) = BzImage::read(image) {
        assert!(!read.release.is_empty() && read.version.contains(&read.release));
        assert!(!read.release.starts_with('.') && !read.release.contains(['/', '\0']));
    }
});
