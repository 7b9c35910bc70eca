// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a datagram of the kernel's: the parser must not panic, must end, and stops at the
//! first message it cannot read.
#![no_main]

use harness::net::conntrack::messages;
use libfuzzer_sys::fuzz_target;

/// `NLMSG_HDRLEN`: no message is shorter.
const HEADER_BYTES: usize = 16;

fuzz_target!(|datagram: &[u8]| {
    let read: Vec<_> = messages(datagram).collect();
    // One error may follow the last whole message, about what is left.
    assert!(read.len() <= datagram.len() / HEADER_BYTES + 1);
    let errors = read.iter().filter(|message| message.is_err()).count();
    assert!(errors == 0 || (errors == 1 && read.last().is_some_and(Result::is_err)));
    assert_eq!(read, messages(datagram).collect::<Vec<_>>());
});
