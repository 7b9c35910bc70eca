// SPDX-License-Identifier: Apache-2.0
//! The table that marks first packets for tracing while a node is being watched. A socket owns it,
//! so the kernel removes it when the socket is closed, whatever becomes of this process
//! (`NFT_TABLE_F_OWNER`, Linux 5.12).

use std::io;

use super::super::kernel::message::{APPEND, NEW_RULE, SUBSYSTEM, expressions};
use super::super::kernel::names;
use crate::net::nfnetlink::{CREATE, Change, Socket, Subject, push, push_nested};
use crate::plan::IpFamily;

/// Name of the table.
pub(super) const TABLE: &str = "nic2pod-watch";
/// `NFT_MSG_NEWTABLE`, `_DELTABLE` and `_NEWCHAIN`.
const NEW_TABLE: u16 = 10 << 8;
const DELETE_TABLE: u16 = 10 << 8 | 2;
const NEW_CHAIN: u16 = 10 << 8 | 3;
/// `NLM_F_EXCL`: it must not be there yet.
const EXCLUSIVE: u16 = 0x200;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// Before every other chain; raw's is -300.
const PRIORITY: i32 = -350;
/// Base chains and the numbers of their hooks: every packet enters by one of them.
const CHAINS: [(&str, u32); 2] = [("prerouting", 0), ("output", 3)];

/// Register that the rule computes in (`NFT_REG_1`).
const REGISTER: [u8; 4] = 1_u32.to_be_bytes();
/// SYN and ACK in the fourteenth byte of a TCP header; a first packet has only the former.
const FLAGS_AT: u32 = 13;
const SYN: u8 = 0x02;
const SYN_OR_ACK: u8 = 0x12;

/// Makes the table, owned by `socket`.
pub(super) fn make(socket: &Socket, family: IpFamily) -> io::Result<()> {
    let mut table = names([(1, TABLE)]);
    push(&mut table, 2, &OWNER.to_be_bytes());
    let mut changes =
        vec![Change { kind: NEW_TABLE, flags: CREATE | EXCLUSIVE, attributes: table }];
    for (chain, hook) in CHAINS {
        let (mut at, mut attributes) = (Vec::new(), names([(1, TABLE), (3, chain)]));
        push(&mut at, 1, &hook.to_be_bytes());
        push(&mut at, 2, &PRIORITY.to_be_bytes());
        push_nested(&mut attributes, 4, &at);
        attributes.extend(names([(7, "filter")]));
        changes.push(Change { kind: NEW_CHAIN, flags: CREATE, attributes });
        let mut attributes = names([(1, TABLE), (2, chain)]);
        push_nested(&mut attributes, 4, &trace_first_packets());
        changes.push(Change { kind: NEW_RULE, flags: CREATE | APPEND, attributes });
    }
    socket.commit(Subject::of(family), SUBSYSTEM, &changes)
}

/// Removes it. Closing the socket would do so too, but only once no child process that is being
/// started holds a copy of its descriptor.
pub(super) fn remove(socket: &Socket, family: IpFamily) -> io::Result<()> {
    let attributes = names([(1, TABLE)]);
    let change = Change { kind: DELETE_TABLE, flags: 0, attributes };
    socket.commit(Subject::of(family), SUBSYSTEM, &[change])
}

/// `meta l4proto tcp tcp flags & (syn | ack) == syn meta nftrace set 1`, in expressions.
fn trace_first_packets() -> Vec<u8> {
    /// `NFT_META_L4PROTO` and `NFT_META_NFTRACE`.
    const L4PROTO: u32 = 16;
    const NFTRACE: u32 = 12;
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`.
    const TRANSPORT: u32 = 2;
    let number = |number: u32| number.to_be_bytes();
    let tcp = nix::libc::IPPROTO_TCP as u8;
    expressions(&[
        ("meta", list(&[(1, &REGISTER), (2, &number(L4PROTO))])),
        equals(tcp),
        (
            "payload",
            list(&[
                (1, &REGISTER),
                (2, &number(TRANSPORT)),
                (3, &number(FLAGS_AT)),
                (4, &number(1)),
            ]),
        ),
        ("bitwise", {
            let mut masked = list(&[(1, &REGISTER), (2, &REGISTER), (3, &number(1))]);
            push_nested(&mut masked, 4, &list(&[(1, &[SYN_OR_ACK])]));
            push_nested(&mut masked, 5, &list(&[(1, &[0])]));
            masked
        }),
        equals(SYN),
        ("immediate", {
            let mut loaded = list(&[(1, &REGISTER)]);
            push_nested(&mut loaded, 2, &list(&[(1, &[1])]));
            loaded
        }),
        ("meta", list(&[(2, &number(NFTRACE)), (3, &REGISTER)])),
    ])
}

/// Goes on if the register is `value`: `NFT_CMP_EQ` is 0.
fn equals(value: u8) -> (&'static str, Vec<u8>) {
    let mut compared = list(&[(1, &REGISTER), (2, &0_u32.to_be_bytes())]);
    push_nested(&mut compared, 3, &list(&[(1, &[value])]));
    ("cmp", compared)
}

fn list(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, value) in attributes {
        push(&mut list, *kind, value);
    }
    list
}
