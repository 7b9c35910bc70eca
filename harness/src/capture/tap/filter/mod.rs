// SPDX-License-Identifier: Apache-2.0
//! The packet filter the kernel runs before a frame costs us anything, in classic BPF.
//!
//! Semantics: `Documentation/networking/filter.rst` in the Linux tree. A load beyond the frame's
//! end drops the frame.

mod assembler;
#[cfg(test)]
mod tests;

use socket2::SockFilter;
use workloads::protocol::SAMPLE_TOS;

use crate::capture::packet::DNS_PORT;
use crate::net::addresses::VXLAN_PORT;
use assembler::{Assembler, Label};

/// Most ports a [`Selection`] may name.
pub const PORTS_MAX: usize = 16;

/// The six bits of the TOS byte that are not ECN (RFC 2474, section 3).
const DSCP_MASK: u32 = 0xfc;
/// More-fragments bit and fragment offset (RFC 791, section 3.1).
const FRAGMENT_MASK: u32 = 0x3fff;
const FIN_SYN_RST: u32 = 0x07;

/// Which TCP connections a tap sees, and queries for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those that carry [`SAMPLE_TOS`]; ECN bits may be anything. DNS messages by UDP that carry it, too.
    Sampled,
    /// Those with one of these ports at either end; at most [`PORTS_MAX`]. No datagrams.
    Ports(Vec<u16>),
}

/// One instruction, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    operand: u32,
}

impl From<Instruction> for SockFilter {
    fn from(i: Instruction) -> Self {
        Self::new(i.code, i.jump_true, i.jump_false, i.operand)
    }
}

/// Ethernet types.
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
/// Protocols, in either header of IP.
const TCP: u32 = 6;
const UDP: u32 = 17;

/// Bytes of Ethernet's header, of IPv6's without extensions, of UDP's and of VXLAN's.
const ETHERNET_BYTES: u32 = 14;
const IPV6_BYTES: u32 = 40;
const UDP_BYTES: u32 = 8;
const VXLAN_BYTES: u32 = 8;

/// Scratch cells of the program.
const IP_HEADER_BYTES: u32 = 0;
const IP_TOTAL_BYTES: u32 = 1;
const PROTOCOL: u32 = 2;

/// Assembles the filter: unfragmented TCP over IPv4, or over IPv6 without extension headers, bare or inside
/// VXLAN (the inner headers decide), of the selected connections. Without `keep_acks`, segments that carry
/// neither payload nor SYN, FIN or RST are dropped. At most `snap_bytes` of a frame are kept.
pub(super) fn program(selection: &Selection, keep_acks: bool, snap_bytes: u32) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let [outer4, bare4, bare6, inner4, inner6, transport, accept, drop] = asm.labels();
    asm.load_half(12);
    asm.jump_if_equal(IPV4, outer4);
    asm.jump_unless_equal(IPV6, drop);
    asm.load_byte(ETHERNET_BYTES + 6);
    asm.jump_unless_equal(UDP, bare6);
    asm.load_index(IPV6_BYTES);
    vxlan(&mut asm, bare6, [inner4, inner6], drop);

    asm.place(outer4);
    asm.load_byte(ETHERNET_BYTES + 9);
    asm.jump_unless_equal(UDP, bare4);
    asm.load_half(ETHERNET_BYTES + 6);
    asm.jump_if_any_bit(FRAGMENT_MASK, drop);
    asm.load_index_with_ip_header_bytes(ETHERNET_BYTES);
    vxlan(&mut asm, bare4, [inner4, inner6], drop);

    asm.place(bare6);
    asm.load_index(ETHERNET_BYTES);
    // The index register points at the header of IP that counts.
    asm.place(inner6);
    if *selection == Selection::Sampled {
        asm.load_half_at_index(0);
        asm.shift_right(4);
        asm.and(DSCP_MASK);
        asm.jump_unless_equal(u32::from(SAMPLE_TOS) & DSCP_MASK, drop);
    }
    asm.load_byte_at_index(6);
    asm.store(PROTOCOL);
    // What this says does not count the header itself.
    asm.load_half_at_index(4);
    asm.add(IPV6_BYTES);
    asm.store(IP_TOTAL_BYTES);
    asm.index_to_accumulator();
    asm.add(IPV6_BYTES);
    asm.accumulator_to_index();
    asm.load_immediate(IPV6_BYTES);
    asm.store(IP_HEADER_BYTES);
    asm.jump(transport);

    asm.place(bare4);
    asm.load_index(ETHERNET_BYTES);
    asm.place(inner4);
    asm.load_half_at_index(6);
    asm.jump_if_any_bit(FRAGMENT_MASK, drop);
    if *selection == Selection::Sampled {
        asm.load_byte_at_index(1);
        asm.and(DSCP_MASK);
        asm.jump_unless_equal(u32::from(SAMPLE_TOS) & DSCP_MASK, drop);
    }
    asm.load_byte_at_index(9);
    asm.store(PROTOCOL);
    asm.load_half_at_index(2);
    asm.store(IP_TOTAL_BYTES);
    asm.load_byte_at_index(0);
    asm.and(0x0f);
    asm.shift_left(2);
    asm.store(IP_HEADER_BYTES);
    asm.add_index();
    asm.accumulator_to_index();

    // The index register points behind that header.
    asm.place(transport);
    asm.load_cell(PROTOCOL);
    if *selection == Selection::Sampled {
        names(&mut asm, accept, drop);
    }
    asm.jump_unless_equal(TCP, drop);
    tcp(&mut asm, selection, keep_acks, accept, drop);

    asm.place(accept);
    asm.finish_with(snap_bytes);
    asm.place(drop);
    asm.finish_with(0);
    asm.assemble()
}

/// A datagram of UDP, where the index register holds the length of the header of IP before it: to the header of
/// IP inside VXLAN, by its family, or to `bare` where it is none of VXLAN's.
fn vxlan(asm: &mut Assembler, bare: Label, [inner4, inner6]: [Label; 2], drop: Label) {
    let [six] = asm.labels();
    // A client may ask for names from the port of VXLAN, and be answered there.
    asm.load_half_at_index(ETHERNET_BYTES); // source port
    asm.jump_if_equal(u32::from(DNS_PORT), bare);
    asm.load_half_at_index(ETHERNET_BYTES + 2); // destination port
    asm.jump_unless_equal(u32::from(VXLAN_PORT), bare);
    asm.load_byte_at_index(ETHERNET_BYTES + UDP_BYTES); // VXLAN flags
    asm.jump_unless_any_bit(0x08, drop);
    let inner = ETHERNET_BYTES + UDP_BYTES + VXLAN_BYTES;
    asm.load_half_at_index(inner + 12); // Ethernet's type
    asm.jump_if_equal(IPV6, six);
    asm.jump_unless_equal(IPV4, drop);
    for (label, family) in [(None, inner4), (Some(six), inner6)] {
        if let Some(label) = label {
            asm.place(label);
        }
        asm.index_to_accumulator();
        asm.add(inner + ETHERNET_BYTES);
        asm.accumulator_to_index();
        asm.jump(family);
    }
}

/// DNS messages are whole behind UDP's header. The index register points at it, the accumulator holds the
/// protocol.
fn names(asm: &mut Assembler, accept: Label, drop: Label) {
    let [segment] = asm.labels();
    asm.jump_unless_equal(UDP, segment);
    for at in [0, 2] {
        asm.load_half_at_index(at);
        asm.jump_if_equal(u32::from(DNS_PORT), accept);
    }
    asm.jump(drop);
    asm.place(segment);
}

/// The index register points at the TCP header.
fn tcp(asm: &mut Assembler, selection: &Selection, keep_acks: bool, accept: Label, drop: Label) {
    if let Selection::Ports(ports) = selection {
        let [selected] = asm.labels();
        for at in [0, 2] {
            asm.load_half_at_index(at);
            for &port in ports {
                asm.jump_if_equal(u32::from(port), selected);
            }
        }
        asm.jump(drop);
        asm.place(selected);
    }
    if keep_acks {
        asm.jump(accept);
        return;
    }
    asm.load_byte_at_index(13);
    asm.jump_if_any_bit(FIN_SYN_RST, accept);
    // Length 0 is a packet of more than 64 KiB (BIG TCP): it does carry payload.
    asm.load_cell(IP_TOTAL_BYTES);
    asm.jump_if_equal(0, accept);
    // Payload is what both headers leave of the packet.
    asm.load_byte_at_index(12);
    asm.shift_right(4);
    asm.shift_left(2);
    asm.load_index_cell(IP_HEADER_BYTES);
    asm.add_index();
    asm.accumulator_to_index();
    asm.load_cell(IP_TOTAL_BYTES);
    asm.jump_if_equal_to_index(drop);
    asm.jump(accept);
}
