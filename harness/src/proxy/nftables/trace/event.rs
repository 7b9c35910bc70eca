// SPDX-License-Identifier: Apache-2.0
//! What the kernel tells of a traced packet (`nft_trace_notify`, net/netfilter/nf_tables_trace.c).
//! Pure, and bounded by the input.

use std::net::{IpAddr, SocketAddr};

use super::super::kernel::text;
use crate::net::conntrack::Tuple;
use crate::net::nfnetlink::{Malformed, exactly, first};

/// `NFTA_TRACE_*`.
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const TYPE: u16 = 4;
const VERDICT: u16 = 5;
const ID: u16 = 6;
const NETWORK_HEADER: u16 = 8;
const TRANSPORT_HEADER: u16 = 9;
/// `NFT_TRACETYPE_POLICY`, `_RETURN` and `_RULE`.
const POLICY: u32 = 1;
const RETURN: u32 = 2;
const RULE: u32 = 3;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Event {
    /// The same for all events of a packet on its way through the host.
    pub(super) id: u32,
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) step: Step,
    /// Addresses of the packet; with the first event of each base chain.
    pub(super) packet: Option<Tuple>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A rule matched.
    Rule { handle: u64, verdict: Verdict },
    /// The chain's rules came to their end.
    End,
    /// The base chain's policy decided.
    Policy,
}

/// What a rule decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// On to the next rule.
    Continue,
    /// Through a chain and back.
    Jump(String),
    /// Through a chain and back to where this one was jumped to from.
    Goto(String),
    /// Back to where this chain was jumped to from.
    Return,
    /// For the whole base chain: accepted, dropped, queued.
    Final,
}

/// Reads an event from the attributes of its message; `None` for a kind this code does not know.
pub(super) fn parse(attributes: &[u8]) -> Result<Option<Event>, Malformed> {
    let number = |kind| -> Result<Option<u32>, Malformed> {
        first(attributes, kind)?.map(|value| exactly(value).map(u32::from_be_bytes)).transpose()
    };
    let name = |kind| -> Result<String, Malformed> {
        Ok(first(attributes, kind)?.map(text).unwrap_or_default())
    };
    let handle = first(attributes, RULE_HANDLE)?.map(exactly).transpose()?.map(u64::from_be_bytes);
    let step = match (number(TYPE)?, handle) {
        (Some(POLICY), _) => Step::Policy,
        // A rule that returns has the type of a chain that ends, and a handle.
        (Some(RULE | RETURN), Some(handle)) => Step::Rule {
            handle,
            verdict: verdict(first(attributes, VERDICT)?.unwrap_or_default())?,
        },
        (Some(RETURN), None) => Step::End,
        _ => return Ok(None),
    };
    let Some(id) = number(ID)? else { return Err(Malformed::Missing { what: "a trace's id" }) };
    let header =
        |kind| -> Result<&[u8], Malformed> { Ok(first(attributes, kind)?.unwrap_or_default()) };
    let packet = addresses(header(NETWORK_HEADER)?, header(TRANSPORT_HEADER)?);
    Ok(Some(Event { id, table: name(TABLE)?, chain: name(CHAIN)?, step, packet }))
}

/// `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`; codes are `enum nft_verdicts`, or netfilter's,
/// which are not negative.
fn verdict(list: &[u8]) -> Result<Verdict, Malformed> {
    let code = first(list, 1)?.ok_or(Malformed::Missing { what: "a verdict's code" })?;
    let chain = || -> Result<String, Malformed> {
        first(list, 2)?.map(text).ok_or(Malformed::Missing { what: "a jump's chain" })
    };
    Ok(match u32::from_be_bytes(exactly(code)?).cast_signed() {
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => Verdict::Final,
    })
}

/// Source and destination from a header of IP without extensions and the start of a TCP or UDP header.
fn addresses(network: &[u8], transport: &[u8]) -> Option<Tuple> {
    let four = |place: usize| network.get(place..)?.first_chunk::<4>().copied().map(IpAddr::from);
    let six = |place: usize| network.get(place..)?.first_chunk::<16>().copied().map(IpAddr::from);
    let port =
        |place: usize| transport.get(place..)?.first_chunk::<2>().copied().map(u16::from_be_bytes);
    // The version of IP is the first byte's upper half.
    let (protocol, source, destination) = match network.first()? >> 4 {
        6 => (*network.get(6)?, six(8)?, six(24)?),
        _ => (*network.get(9)?, four(12)?, four(16)?),
    };
    Some(Tuple {
        protocol,
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::nfnetlink::{push, push_nested};

    fn attributes(kind: u32, handle: Option<u64>, code: i32, chain: Option<&str>) -> Vec<u8> {
        let (mut list, mut verdict) = (Vec::new(), Vec::new());
        push(&mut list, ID, &7_u32.to_be_bytes());
        push(&mut list, TABLE, b"kube-proxy\0");
        push(&mut list, CHAIN, b"services\0");
        push(&mut list, TYPE, &kind.to_be_bytes());
        if let Some(handle) = handle {
            push(&mut list, RULE_HANDLE, &handle.to_be_bytes());
        }
        push(&mut verdict, 1, &code.to_be_bytes());
        if let Some(chain) = chain {
            push(&mut verdict, 2, &[chain.as_bytes(), &[0]].concat());
        }
        push_nested(&mut list, VERDICT, &verdict);
        list
    }

    fn step(attributes: &[u8]) -> Step {
        parse(attributes).unwrap().unwrap().step
    }

    #[test]
    fn a_rule_is_told_from_the_end_of_its_chain() {
        let goto = Verdict::Goto("service-X".to_owned());
        let expected = Step::Rule { handle: 9, verdict: goto };
        assert_eq!(step(&attributes(RULE, Some(9), -4, Some("service-X"))), expected);
        let expected = Step::Rule { handle: 9, verdict: Verdict::Return };
        assert_eq!(step(&attributes(RETURN, Some(9), -5, None)), expected);
        assert_eq!(step(&attributes(RETURN, None, -1, None)), Step::End);
        assert_eq!(step(&attributes(POLICY, None, 1, None)), Step::Policy);
        assert_eq!(parse(&attributes(77, None, 1, None)).unwrap(), None);
    }

    #[test]
    fn addresses_are_read_from_the_headers() {
        let mut list = attributes(POLICY, None, 1, None);
        let mut network = [0; 20];
        network[9] = 6;
        network[12..16].copy_from_slice(&[10, 8, 0, 1]);
        network[16..20].copy_from_slice(&[10, 96, 0, 1]);
        push(&mut list, NETWORK_HEADER, &network);
        push(&mut list, TRANSPORT_HEADER, &[0x9c, 0x40, 0, 80]);
        let expected =
            Tuple::tcp("10.8.0.1:40000".parse().unwrap(), "10.96.0.1:80".parse().unwrap());
        assert_eq!(parse(&list).unwrap().unwrap().packet, Some(expected));
        let mut list = attributes(POLICY, None, 1, None);
        let mut network = [0; 40];
        (network[0], network[6]) = (0x60, 6);
        (network[8], network[23]) = (0xfd, 1);
        (network[24], network[39]) = (0xfd, 2);
        push(&mut list, NETWORK_HEADER, &network);
        push(&mut list, TRANSPORT_HEADER, &[0x9c, 0x40, 0, 80]);
        let expected =
            Tuple::tcp("[fd00::1]:40000".parse().unwrap(), "[fd00::2]:80".parse().unwrap());
        assert_eq!(parse(&list).unwrap().unwrap().packet, Some(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_event_is_read_without_a_panic(
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut list = attributes(RULE, Some(9), -4, Some("service-X"));
            push(&mut list, NETWORK_HEADER, &[0; 20]);
            let place = place.index(list.len());
            list[place] = byte;
            let _ = parse(&list);
        }
    }
}
