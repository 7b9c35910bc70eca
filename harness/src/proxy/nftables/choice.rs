// SPDX-License-Identifier: Apache-2.0
//! A chain's choice of an endpoint, `numgen random mod 2 vmap { 0 : goto ... , 1 : goto ... }`, given to the kernel
//! as netlink messages where there are thousands.
//!
//! Each has an anonymous map. nft has the kernel name all of them (`__map%d`), for which the kernel reads the number in
//! the name of every set of the table (`nf_tables_set_alloc_name`, net/netfilter/nf_tables_api.c), and finds
//! a map for its elements and its rule by two walks more over all sets. A map that comes with a name, and whose elements
//! tell it by its number in the transaction, takes three walks without reading numbers. And binding a map to its rule
//! walks over the transaction so far (`__nft_set_trans_bind`), so a transaction has few of them.

use std::io;

use super::kernel::message::{APPEND, NEW_RULE, NEW_SET, NEW_SET_ELEMENTS, SUBSYSTEM, expressions};
use super::kernel::names;
use super::transaction::{TABLE, table};
use crate::net::nfnetlink::{CREATE, Change, Socket, Subject, push, push_nested};
use crate::plan::IpFamily;

/// Endpoints of a choice that is given as messages; larger ones stay nft's.
const TARGETS_MAX: usize = 16;
/// Of changes at once, bytes; one choice is less, with the longest names that the kernel takes. A socket takes 208 KiB
/// (`net.core.wmem_default`).
const BYTES_MAX: usize = 160 << 10;

/// `NFT_SET_ANONYMOUS`, `_CONSTANT` and `_MAP`.
const FLAGS: u32 = 0x1 | 0x2 | 0x8;
/// nft's number for keys that are integers (`TYPE_INTEGER`, include/datatype.h), and `NFT_DATA_VERDICT`.
const INTEGER: u32 = 4;
const VERDICT: u32 = 0xffff_ff00;
/// Kept for nft, which shows keys by it: `NFTNL_UDATA_SET_KEYBYTEORDER` and its length, `BYTEORDER_HOST_ENDIAN`.
const KEYS_ARE: [u8; 2] = [0, 4];
const HOST_ENDIAN: u32 = 1;
/// `NFT_GOTO`.
const GOTO: i32 = -4;
/// `NFT_NG_RANDOM`.
const RANDOM: u32 = 1;
/// `NFT_REG_1`, in which the die lies, and `NFT_REG_VERDICT`.
const REGISTER: [u8; 4] = 1_u32.to_be_bytes();
const REGISTER_OF_VERDICTS: [u8; 4] = 0_u32.to_be_bytes();

/// The last rule of a chain, which sends a packet to one of these chains by the throw of a die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    chain: String,
    targets: Vec<String>,
}

/// The text without those choices that messages can carry, and them in its order.
pub(super) fn split(text: &str, family: IpFamily) -> (String, Vec<Choice>) {
    let (mut rest, mut choices) = (String::with_capacity(text.len()), Vec::new());
    for line in text.split_inclusive('\n') {
        match read(line.trim_end(), family) {
            Some(choice) if choice.targets.len() <= TARGETS_MAX => choices.push(choice),
            _ => rest.push_str(line),
        }
    }
    (rest, choices)
}

/// The choice that a line of our own text adds.
fn read(line: &str, family: IpFamily) -> Option<Choice> {
    let rule = line.strip_prefix("add rule ")?.strip_prefix(table(family))?.strip_prefix(' ')?;
    let (chain, rule) = rule.split_once(' ')?;
    let (_, elements) = rule.strip_prefix("numgen random mod ")?.split_once(" vmap { ")?;
    let elements = elements.strip_suffix(" }")?.split(" , ");
    let target = |element: &str| element.split_once(" : goto ").map(|(_, to)| to.to_owned());
    Some(Choice { chain: chain.to_owned(), targets: elements.map(target).collect::<Option<_>>()? })
}

/// Appends the choices to their chains in transactions of at most so many, in the calling thread's namespace.
///
/// # Errors
///
/// The kernel's, for the first transaction that it refuses; those before it are made.
pub(super) fn append(choices: &[Choice], family: IpFamily, at_once: usize) -> io::Result<()> {
    let socket = Socket::open(0)?;
    let commit = |changes: &[Change]| socket.commit(Subject::of(family), SUBSYSTEM, changes);
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for (number, choice) in (1..).zip(choices) {
        let more = choice.changes(number);
        let size = size(&more);
        if changes.len() >= more.len() * at_once || bytes + size > BYTES_MAX {
            commit(&changes)?;
            (changes, bytes) = (Vec::new(), 0);
        }
        changes.extend(more);
        bytes += size;
    }
    commit(&changes)
}

/// Bytes of the changes as messages, each after two headers.
fn size(changes: &[Change]) -> usize {
    changes.iter().map(|change| 20 + change.attributes.len()).sum()
}

impl Choice {
    /// A map, its elements and the rule; `number` is this map's alone.
    fn changes(&self, number: u32) -> [Change; 3] {
        // Nobody sees it but who asks the kernel: nft shows an anonymous map where it is used.
        let name = format!("__choice{number}");
        let count = u32::try_from(self.targets.len()).expect("there are few");
        let mut map = names([(1, TABLE), (2, &name)]);
        for (kind, value) in [(3, FLAGS), (4, INTEGER), (5, 4), (6, VERDICT), (10, number)] {
            push(&mut map, kind, &value.to_be_bytes());
        }
        push_nested(&mut map, 9, &numbers([(1, count)]));
        push(&mut map, 13, &[&KEYS_ARE[..], &HOST_ENDIAN.to_ne_bytes()].concat());
        let mut elements = names([(1, TABLE)]);
        push(&mut elements, 4, &number.to_be_bytes());
        push_nested(&mut elements, 3, &self.elements());
        let mut rule = names([(1, TABLE), (2, &self.chain)]);
        let mut chosen = names([(1, &name)]);
        push(&mut chosen, 2, &REGISTER);
        push(&mut chosen, 3, &REGISTER_OF_VERDICTS);
        push(&mut chosen, 4, &number.to_be_bytes());
        let mut thrown = Vec::new();
        push(&mut thrown, 1, &REGISTER);
        thrown.extend(numbers([(2, count), (3, RANDOM), (4, 0)]));
        push_nested(&mut rule, 4, &expressions(&[("numgen", thrown), ("lookup", chosen)]));
        [
            Change { kind: NEW_SET, flags: CREATE, attributes: map },
            Change { kind: NEW_SET_ELEMENTS, flags: CREATE, attributes: elements },
            Change { kind: NEW_RULE, flags: CREATE | APPEND, attributes: rule },
        ]
    }

    fn elements(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for (key, target) in (0_u32..).zip(&self.targets) {
            let (mut side, mut data, mut element) = (Vec::new(), Vec::new(), Vec::new());
            let mut verdict = Vec::new();
            push(&mut verdict, 1, &GOTO.to_be_bytes());
            verdict.extend(names([(2, target)]));
            push_nested(&mut data, 2, &verdict);
            // What registers hold is in the processor's order.
            push(&mut side, 1, &key.to_ne_bytes());
            push_nested(&mut element, 1, &side);
            push_nested(&mut element, 2, &data);
            push_nested(&mut list, 1, &element);
        }
        list
    }
}

fn numbers<const N: usize>(numbers: [(u16, u32); N]) -> Vec<u8> {
    let mut attributes = Vec::new();
    for (kind, number) in numbers {
        push(&mut attributes, kind, &number.to_be_bytes());
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_and_what_is_none_or_too_large_stays_text() {
        let choice = "add rule ip kube-proxy service-A numgen random mod 2 vmap { 0 : goto endpoint-B , 1 : goto endpoint-C }\n";
        let other = "add rule ip kube-proxy service-A ip saddr 10.0.0.1 goto endpoint-B\n";
        let elements: Vec<_> =
            (0..=TARGETS_MAX).map(|index| format!("{index} : goto endpoint-{index}")).collect();
        let large = format!(
            "add rule ip kube-proxy local-A numgen random mod {} vmap {{ {} }}\n",
            elements.len(),
            elements.join(" , ")
        );
        let text = [other, choice, &large, other].concat();
        let (rest, choices) = split(&text, IpFamily::Ipv4);
        assert_eq!(rest, [other, &large, other].concat());
        let targets = ["endpoint-B", "endpoint-C"].map(str::to_owned).to_vec();
        assert_eq!(choices, [Choice { chain: "service-A".to_owned(), targets }]);
        assert_eq!(split(&text, IpFamily::Ipv6), (text, Vec::new()), "of another family's table");
    }

    #[test]
    fn the_longest_choice_fits_in_a_transaction() {
        let name = "n".repeat(255);
        let choice = Choice { chain: name.clone(), targets: vec![name; TARGETS_MAX] };
        assert!(size(&choice.changes(u32::MAX)) < BYTES_MAX);
    }
}
