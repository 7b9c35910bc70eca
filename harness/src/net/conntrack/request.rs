// SPDX-License-Identifier: Apache-2.0
//! What ctnetlink's messages are numbered, and how a tuple is named in a request.

use std::net::IpAddr;

use super::flow::Tuple;
use crate::net::nfnetlink::{push, push_nested};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`.
pub(super) const CT_NEW: u16 = 1 << 8;
/// `... | IPCTNL_MSG_CT_GET`.
pub(super) const CT_GET: u16 = 1 << 8 | 1;
/// `... | IPCTNL_MSG_CT_DELETE`.
pub(super) const CT_DELETE: u16 = 1 << 8 | 2;

/// The inner part of `CTA_TUPLE_ORIG` or `CTA_TUPLE_REPLY`.
pub(super) fn encode_tuple(tuple: &Tuple) -> Vec<u8> {
    let (mut addresses, mut protocol, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, address) in [(1, tuple.source.ip()), (2, tuple.destination.ip())] {
        match address {
            IpAddr::V4(address) => push(&mut addresses, kind, &address.octets()),
            IpAddr::V6(address) => push(&mut addresses, kind + 2, &address.octets()),
        }
    }
    push(&mut protocol, 1, &[tuple.protocol]);
    push(&mut protocol, 2, &tuple.source.port().to_be_bytes());
    push(&mut protocol, 3, &tuple.destination.port().to_be_bytes());
    push_nested(&mut encoded, 1, &addresses);
    push_nested(&mut encoded, 2, &protocol);
    encoded
}
