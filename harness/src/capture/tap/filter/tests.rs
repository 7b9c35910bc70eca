// SPDX-License-Identifier: Apache-2.0
//! The filter against an interpreter of our own and against the kernel's, with no privilege:
//! the kernel runs a socket's filter on UNIX datagrams too, their payload being the frame.

use std::os::unix::net::UnixDatagram;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use socket2::{SockFilter, SockRef};

use super::assembler::*;
use super::*;
use crate::capture::packet::{Segment, flags};

const SNAP: u32 = 200;

/// How many bytes of the frame `program` keeps.
fn interpret(program: &[Instruction], frame: &[u8]) -> u32 {
    let (mut a, mut x, mut cells, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
    let load = |at: u32, bytes: usize| -> Option<u32> {
        let at = at as usize;
        let bytes = frame.get(at..at.checked_add(bytes)?)?;
        Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    };
    // Jumps only go forward, so the loop ends.
    while let Some(i) = program.get(at) {
        let k = i.operand;
        at += 1;
        let mut branch = |holds: bool| {
            at += usize::from(if holds { i.jump_true } else { i.jump_false });
        };
        let value = match i.code {
            c if c == RET => return k.min(frame.len() as u32),
            c if c == LD | BYTE | ABS => load(k, 1),
            c if c == LD | HALF | ABS => load(k, 2),
            c if c == LD | BYTE | IND => load(x.wrapping_add(k), 1),
            c if c == LD | HALF | IND => load(x.wrapping_add(k), 2),
            c if c == LD | IMM => Some(k),
            c if c == LD | MEM => Some(cells[k as usize]),
            c if c == ALU | ADD => Some(a.wrapping_add(k)),
            c if c == ALU | ADD | X => Some(a.wrapping_add(x)),
            c if c == ALU | AND => Some(a & k),
            c if c == ALU | LSH => Some(a << k),
            c if c == ALU | RSH => Some(a >> k),
            c if c == MISC | TXA => Some(x),
            c if c == LDX | BYTE | MSH => match load(k, 1) {
                Some(byte) => {
                    x = (byte & 0xf) << 2;
                    Some(a)
                }
                None => None,
            },
            c => {
                match c {
                    _ if c == LDX | IMM => x = k,
                    _ if c == LDX | MEM => x = cells[k as usize],
                    _ if c == ST => cells[k as usize] = a,
                    _ if c == MISC | TAX => x = a,
                    _ if c == JMP | JA => at += k as usize,
                    _ if c == JMP | JEQ => branch(a == k),
                    _ if c == JMP | JEQ | X => branch(a == x),
                    _ if c == JMP | JSET => branch(a & k != 0),
                    _ => panic!("no such instruction: {c:#x}"),
                }
                Some(a)
            }
        };
        match value {
            Some(value) => a = value,
            None => return 0,
        }
    }
    panic!("the program has no end")
}

/// The kernel's opinion on the same question.
struct Kernel {
    sender: UnixDatagram,
    receiver: UnixDatagram,
}

impl Kernel {
    fn with(program: &[Instruction]) -> Self {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let code: Vec<SockFilter> = program.iter().copied().map(Into::into).collect();
        SockRef::from(&receiver).attach_filter(&code).unwrap();
        Self { sender, receiver }
    }

    fn keeps(&self, frame: &[u8]) -> u32 {
        self.sender.send(frame).unwrap();
        let mut buffer = [0; 2048];
        match self.receiver.recv(&mut buffer) {
            Ok(bytes) => bytes as u32,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Shape {
    tos: u8,
    flags: u8,
    ports: (u16, u16),
    payload: usize,
    /// Words of options, of IPv4.
    options: usize,
    vxlan: bool,
    /// Whether of IPv6, inside and outside.
    six: [bool; 2],
}

/// Headers of IP for a protocol.
fn ip(six: bool, options: usize, protocol: etherparse::IpNumber) -> etherparse::IpHeaders {
    if six {
        let header = etherparse::Ipv6Header {
            next_header: protocol,
            hop_limit: 64,
            source: [0xfd; 16],
            destination: [0xfc; 16],
            ..Default::default()
        };
        return etherparse::IpHeaders::Ipv6(header, Default::default());
    }
    let header = etherparse::Ipv4Header {
        protocol,
        time_to_live: 64,
        options: etherparse::Ipv4Options::try_from(&[1u8; 40][..options * 4]).unwrap(),
        ..Default::default()
    };
    etherparse::IpHeaders::Ipv4(header, Default::default())
}

/// Writes the type of service into a bare frame.
fn set_service_type(frame: &mut [u8], six: bool, value: u8) {
    match six {
        true => {
            frame[14] = 0x60 | value >> 4;
            frame[15] = value << 4;
        }
        false => frame[15] = value,
    }
}

/// A frame inside VXLAN.
fn in_vxlan(frame: &[u8], six: bool) -> Vec<u8> {
    let mut outer = Vec::new();
    let payload = [&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat();
    PacketBuilder::ethernet2([6; 6], [8; 6])
        .ip(ip(six, 0, etherparse::ip_number::UDP))
        .udp(50_000, VXLAN_PORT)
        .write(&mut outer, &payload)
        .unwrap();
    outer
}

impl Shape {
    fn ip_bytes(&self) -> usize {
        if self.six[0] { 40 } else { 20 + self.options * 4 }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ip(ip(self.six[0], self.options, etherparse::ip_number::TCP))
            .tcp(self.ports.0, self.ports.1, 1, 65_000)
            .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
            .unwrap()
            .write(&mut frame, &vec![7; self.payload])
            .unwrap();
        set_service_type(&mut frame, self.six[0], self.tos);
        frame[14 + self.ip_bytes() + 13] = self.flags;
        if self.vxlan { in_vxlan(&frame, self.six[1]) } else { frame }
    }

    fn expected(&self, selection: &Selection, keep_acks: bool) -> bool {
        let selected = match selection {
            Selection::Sampled => self.tos & 0xfc == SAMPLE_TOS,
            Selection::Ports(p) => p.contains(&self.ports.0) || p.contains(&self.ports.1),
        };
        let says_something = self.flags & (flags::SYN | flags::FIN | flags::RST) != 0;
        selected && (keep_acks || self.payload > 0 || says_something)
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let tos = prop_oneof![Just(SAMPLE_TOS), Just(SAMPLE_TOS | 2), Just(0), any::<u8>()];
    let port = prop_oneof![Just(8080), Just(30_080), any::<u16>()];
    let payload = prop_oneof![Just(0), 0usize..600];
    let headers = (0usize..=10, any::<bool>(), any::<[bool; 2]>());
    (tos, any::<u8>(), (port.clone(), port), payload, headers).prop_map(
        |(tos, flags, ports, payload, (options, vxlan, six))| Shape {
            tos,
            flags,
            ports,
            payload,
            options,
            vxlan,
            six,
        },
    )
}

fn selections() -> [Selection; 2] {
    [Selection::Sampled, Selection::Ports(vec![8080, 30_080])]
}

proptest! {
    #[test]
    fn tcp_is_kept_or_dropped_as_selected(shape in shape(), keep_acks: bool) {
        let frame = shape.frame();
        for selection in selections() {
            let program = program(&selection, keep_acks, SNAP);
            let expected = match shape.expected(&selection, keep_acks) {
                true => SNAP.min(frame.len() as u32),
                false => 0,
            };
            prop_assert_eq!(interpret(&program, &frame), expected);
            prop_assert_eq!(Kernel::with(&program).keeps(&frame), expected);
        }
    }

    #[test]
    fn the_kernel_and_the_interpreter_agree_on_damaged_frames(
        shape in shape(),
        damage in prop::collection::vec((0usize..120, any::<u8>()), 0..4),
        cut in 1usize..300,
    ) {
        let mut frame = shape.frame();
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut);
        for selection in selections() {
            let program = program(&selection, false, SNAP);
            prop_assert_eq!(interpret(&program, &frame), Kernel::with(&program).keeps(&frame));
        }
    }

    #[test]
    fn what_the_filter_keeps_of_sound_frames_the_parser_can_read(shape in shape()) {
        let frame = shape.frame();
        let program = program(&Selection::Sampled, false, SNAP);
        let kept = interpret(&program, &frame) as usize;
        if kept > 0 {
            let segment = Segment::parse(&frame[..kept], frame.len() as u32).unwrap();
            prop_assert_eq!(segment.payload_bytes as usize, shape.payload);
            prop_assert_eq!(segment.encapsulated, shape.vxlan);
        }
    }
}

#[test]
fn the_longest_program_assembles_and_the_kernel_takes_it() {
    let ports = (1..=PORTS_MAX as u16).collect();
    let program = program(&Selection::Ports(ports), false, SNAP);
    Kernel::with(&program);
}

/// A datagram, bare or inside VXLAN.
fn datagram(tos: u8, ports: (u16, u16), vxlan: bool, six: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ip(ip(six, 0, etherparse::ip_number::UDP))
        .udp(ports.0, ports.1)
        .write(&mut frame, &[0x1a, 0x34, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 3])
        .unwrap();
    set_service_type(&mut frame, six, tos);
    if vxlan { in_vxlan(&frame, six) } else { frame }
}

#[test]
fn a_message_for_names_is_kept_with_the_mark_and_no_other_datagram_is() {
    for (vxlan, six) in [(false, false), (true, false), (false, true), (true, true)] {
        for (tos, ports, expected) in [
            (SAMPLE_TOS, (4000, 53), true),
            (SAMPLE_TOS | 1, (53, 4000), true),
            (SAMPLE_TOS, (53, VXLAN_PORT), true),
            (SAMPLE_TOS, (VXLAN_PORT, 53), true),
            (0, (4000, 53), false),
            (SAMPLE_TOS, (4000, 54), false),
        ] {
            let frame = datagram(tos, ports, vxlan, six);
            for selection in selections() {
                let program = program(&selection, false, SNAP);
                let kept =
                    if expected && selection == Selection::Sampled { frame.len() } else { 0 };
                assert_eq!(interpret(&program, &frame) as usize, kept, "{tos} {ports:?} {vxlan}");
                assert_eq!(Kernel::with(&program).keeps(&frame) as usize, kept);
            }
            let segment = Segment::parse(&frame, frame.len() as u32);
            let names = segment.and_then(|segment| segment.names);
            assert_eq!(names.is_some(), ports != (4000, 54));
        }
    }
}

#[test]
fn a_fragment_is_dropped_bare_or_inside() {
    for vxlan in [false, true] {
        let (tos, six) = (SAMPLE_TOS, [false; 2]);
        let shape = Shape { tos, flags: 2, ports: (1, 2), payload: 9, options: 0, vxlan, six };
        let mut frame = shape.frame();
        frame[if vxlan { 70 } else { 20 }] |= 0x20;
        let program = program(&Selection::Sampled, true, SNAP);
        assert_eq!(interpret(&program, &frame), 0);
        assert_eq!(Kernel::with(&program).keeps(&frame), 0);
    }
}
