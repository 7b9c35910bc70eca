// SPDX-License-Identifier: Apache-2.0
//! Tests of the parser with messages made by hand and with noise.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::flow::TcpState;
use super::super::request::encode_tuple;
use super::*;
use crate::net::nfnetlink::{Subject, frame, push, push_nested};
use crate::plan::IpFamily;

const SUBJECT: Subject = Subject::of(IpFamily::Ipv4);

/// Bytes of a message's header, the least that a step takes.
const HEADER: usize = 16;
/// `NLMSG_DONE`.
const DONE: u16 = 3;

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, host]), port)
}

fn tuples() -> (Tuple, Tuple) {
    (
        Tuple::tcp(address(1, 40_000), address(2, 80)),
        Tuple::tcp(address(3, 8080), address(1, 40_000)),
    )
}

/// Attributes as the kernel writes them for a TCP flow.
fn attributes() -> Vec<u8> {
    let (original, reply) = tuples();
    let (mut state, mut tcp, mut times, mut list) = (vec![], vec![], vec![], vec![]);
    push(&mut state, 1, &[3]);
    push(&mut state, 2, &[7]);
    push_nested(&mut tcp, 1, &state);
    push(&mut times, 1, &1_700_000_000_000_000_001_u64.to_be_bytes());
    push_nested(&mut list, 1, &encode_tuple(&original));
    push_nested(&mut list, 2, &encode_tuple(&reply));
    push(&mut list, 3, &0x1a6_u32.to_be_bytes());
    push_nested(&mut list, 4, &tcp);
    push(&mut list, 7, &120_u32.to_be_bytes());
    push(&mut list, 8, &0x4000_u32.to_be_bytes());
    push(&mut list, 12, &77_u32.to_be_bytes());
    push_nested(&mut list, 20, &times);
    push(&mut list, 27, &1_700_000_000_000_000_002_u64.to_be_bytes());
    push(&mut list, 99, &[0; 5]);
    list
}

#[test]
fn every_field_of_a_flow_is_read() {
    let (original, reply) = tuples();
    let datagram = frame(SUBJECT, CT_NEW, CREATE, &attributes());
    let read: Vec<_> = messages(&datagram).collect::<Result<_, _>>().unwrap();
    let flow = Flow {
        original,
        reply,
        status: Some(Status(0x1a6)),
        tcp_state: Some(TcpState::Established),
        mark: Some(0x4000),
        id: Some(77),
        timeout_s: Some(120),
        started_ns: Some(1_700_000_000_000_000_001),
    };
    let event_ns = Some(1_700_000_000_000_000_002);
    assert_eq!(read, [Message::Flow { kind: MessageKind::New, flow: Box::new(flow), event_ns }]);
}

#[test]
fn what_is_said_of_a_flow_is_told_from_the_message() {
    let mut foreign = frame(SUBJECT, CT_NEW, 0, &attributes());
    foreign[16] = nix::libc::AF_BRIDGE as u8;
    let datagram = [
        frame(SUBJECT, CT_NEW, 0, &attributes()),
        frame(SUBJECT, CT_DELETE, 0, &attributes()),
        foreign,
        frame(SUBJECT, DONE, 0, &[]),
    ]
    .concat();
    let read: Vec<_> = messages(&datagram).collect::<Result<_, _>>().unwrap();
    let kind = |message: &Message| match message {
        Message::Flow { kind, .. } => Some(*kind),
        _ => None,
    };
    assert_eq!(kind(&read[0]), Some(MessageKind::Present));
    assert_eq!(kind(&read[1]), Some(MessageKind::Gone));
    assert_eq!(read[2..], [Message::Foreign, Message::Other]);
}

#[test]
fn a_flow_without_a_reply_is_malformed() {
    let mut list = Vec::new();
    push_nested(&mut list, 1, &encode_tuple(&tuples().0));
    let read: Vec<_> =
        messages(&frame(SUBJECT, CT_NEW, 0, &list)).map(|message| message.err()).collect();
    assert_eq!(read, [Some(Malformed::Missing { what: "reply tuple" })]);
}

#[test]
fn a_number_of_the_wrong_length_is_malformed() {
    let mut list = attributes();
    push(&mut list, 8, &[1, 2]);
    let read = messages(&frame(SUBJECT, CT_NEW, 0, &list)).next();
    assert!(matches!(read, Some(Err(Malformed::Value { length: 2, wanted: 4, .. }))), "{read:?}");
}

proptest! {
    #[test]
    fn noise_never_panics_and_always_ends(noise in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let steps = messages(&noise).count();
        prop_assert!(steps <= noise.len() / HEADER + 1);
    }

    /// Noise seldom gets past the header; a message with a few bytes changed does.
    #[test]
    fn a_damaged_message_never_panics_and_always_ends(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut datagram = [
            frame(SUBJECT, CT_NEW, CREATE, &attributes()),
            frame(SUBJECT, CT_DELETE, 0, &attributes()),
        ].concat();
        for (index, byte) in changes {
            let place = index.index(datagram.len());
            datagram[place] = byte;
        }
        let cut = &datagram[..=length.index(datagram.len())];
        prop_assert!(messages(cut).count() <= cut.len() / HEADER + 1);
    }

    #[test]
    fn tuples_survive_being_written_and_read(
        protocol in any::<u8>(), source in any::<(u32, u16)>(), destination in any::<(u32, u16)>(),
        six in any::<bool>(),
    ) {
        let end = |(ip, port): (u32, u16)| match six {
            true => SocketAddr::new(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(ip)).into(), port),
            false => SocketAddr::new(Ipv4Addr::from_bits(ip).into(), port),
        };
        let tuple = Tuple { protocol, source: end(source), destination: end(destination) };
        prop_assert_eq!(parse_tuple(&encode_tuple(&tuple)), Ok(tuple));
    }
}
