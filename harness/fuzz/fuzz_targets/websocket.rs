// SPDX-License-Identifier: Apache-2.0
//! Any bytes as what the other end of a connection of WebSocket sends, client or server: reading must not panic,
//! and says the same however reads cut the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workloads::read_messages;

fuzz_target!(|bytes: &[u8]| {
    for masked in [false, true] {
        let whole = read_messages(bytes, bytes.len(), masked);
        for cut in [1, 3, 14] {
            assert_eq!(read_messages(bytes, cut, masked), whole, "cut every {cut} bytes");
        }
    }
});
