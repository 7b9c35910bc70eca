// SPDX-License-Identifier: Apache-2.0
//! What messages that change nf_tables are made of (`linux/netfilter/nf_tables.h`).

use super::names;
use crate::net::nfnetlink::push_nested;

/// `NFNL_SUBSYS_NFTABLES`, and its `NFT_MSG_NEWRULE`, `_NEWSET` and `_NEWSETELEM`.
pub(in super::super) const SUBSYSTEM: u8 = 10;
pub(in super::super) const NEW_RULE: u16 = 10 << 8 | 6;
pub(in super::super) const NEW_SET: u16 = 10 << 8 | 9;
pub(in super::super) const NEW_SET_ELEMENTS: u16 = 10 << 8 | 12;
/// `NLM_F_APPEND`.
pub(in super::super) const APPEND: u16 = 0x800;

/// A rule's expressions by name, each with its attributes.
pub(in super::super) fn expressions(expressions: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, data) in expressions {
        let mut expression = names([(1, name)]);
        push_nested(&mut expression, 2, data);
        push_nested(&mut all, 1, &expression);
    }
    all
}
