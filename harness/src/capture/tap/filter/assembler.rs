// SPDX-License-Identifier: Apache-2.0
//! Classic BPF instructions by name, and labels to jump to.

use super::Instruction;

// include/uapi/linux/bpf_common.h and filter.h.
pub(super) const LD: u16 = 0x00;
pub(super) const LDX: u16 = 0x01;
pub(super) const ST: u16 = 0x02;
pub(super) const ALU: u16 = 0x04;
pub(super) const JMP: u16 = 0x05;
pub(super) const RET: u16 = 0x06;
pub(super) const MISC: u16 = 0x07;
pub(super) const HALF: u16 = 0x08;
pub(super) const BYTE: u16 = 0x10;
pub(super) const IMM: u16 = 0x00;
pub(super) const ABS: u16 = 0x20;
pub(super) const IND: u16 = 0x40;
pub(super) const MEM: u16 = 0x60;
pub(super) const MSH: u16 = 0xa0;
pub(super) const ADD: u16 = 0x00;
pub(super) const AND: u16 = 0x50;
pub(super) const LSH: u16 = 0x60;
pub(super) const RSH: u16 = 0x70;
pub(super) const JA: u16 = 0x00;
pub(super) const JEQ: u16 = 0x10;
pub(super) const JSET: u16 = 0x40;
pub(super) const X: u16 = 0x08;
pub(super) const TAX: u16 = 0x00;
pub(super) const TXA: u16 = 0x80;

/// A place in the program, known once it is [`Assembler::place`]d.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// Where a conditional jump goes.
#[derive(Clone, Copy, Debug)]
enum Jump {
    /// To the label where the condition holds, else on.
    If(Label),
    /// On where the condition holds, else to the label.
    Unless(Label),
    /// To the label.
    Always(Label),
}

/// Collects instructions and resolves their jumps.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<(u16, u32, Option<Jump>)>,
    places: Vec<Option<usize>>,
}

impl Assembler {
    /// Makes labels that are to be placed later.
    pub(super) fn labels<const N: usize>(&mut self) -> [Label; N] {
        std::array::from_fn(|_| {
            self.places.push(None);
            Label(self.places.len() - 1)
        })
    }

    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    fn plain(&mut self, code: u16, operand: u32) {
        self.code.push((code, operand, None));
    }

    pub(super) fn load_byte(&mut self, at: u32) {
        self.plain(LD | BYTE | ABS, at);
    }

    pub(super) fn load_half(&mut self, at: u32) {
        self.plain(LD | HALF | ABS, at);
    }

    pub(super) fn load_byte_at_index(&mut self, at: u32) {
        self.plain(LD | BYTE | IND, at);
    }

    pub(super) fn load_half_at_index(&mut self, at: u32) {
        self.plain(LD | HALF | IND, at);
    }

    pub(super) fn load_immediate(&mut self, value: u32) {
        self.plain(LD | IMM, value);
    }

    pub(super) fn load_cell(&mut self, cell: u32) {
        self.plain(LD | MEM, cell);
    }

    pub(super) fn load_index(&mut self, value: u32) {
        self.plain(LDX | IMM, value);
    }

    pub(super) fn load_index_cell(&mut self, cell: u32) {
        self.plain(LDX | MEM, cell);
    }

    /// Index = four times the low nibble of the byte at `at`: an IPv4 header's length.
    pub(super) fn load_index_with_ip_header_bytes(&mut self, at: u32) {
        self.plain(LDX | BYTE | MSH, at);
    }

    pub(super) fn store(&mut self, cell: u32) {
        self.plain(ST, cell);
    }

    pub(super) fn add(&mut self, value: u32) {
        self.plain(ALU | ADD, value);
    }

    pub(super) fn add_index(&mut self) {
        self.plain(ALU | ADD | X, 0);
    }

    pub(super) fn and(&mut self, mask: u32) {
        self.plain(ALU | AND, mask);
    }

    pub(super) fn shift_left(&mut self, bits: u32) {
        self.plain(ALU | LSH, bits);
    }

    pub(super) fn shift_right(&mut self, bits: u32) {
        self.plain(ALU | RSH, bits);
    }

    pub(super) fn accumulator_to_index(&mut self) {
        self.plain(MISC | TAX, 0);
    }

    pub(super) fn index_to_accumulator(&mut self) {
        self.plain(MISC | TXA, 0);
    }

    pub(super) fn finish_with(&mut self, bytes: u32) {
        self.plain(RET, bytes);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.code.push((JMP | JA, 0, Some(Jump::Always(to))));
    }

    pub(super) fn jump_if_equal(&mut self, value: u32, to: Label) {
        self.code.push((JMP | JEQ, value, Some(Jump::If(to))));
    }

    pub(super) fn jump_unless_equal(&mut self, value: u32, to: Label) {
        self.code.push((JMP | JEQ, value, Some(Jump::Unless(to))));
    }

    pub(super) fn jump_if_equal_to_index(&mut self, to: Label) {
        self.code.push((JMP | JEQ | X, 0, Some(Jump::If(to))));
    }

    pub(super) fn jump_if_any_bit(&mut self, mask: u32, to: Label) {
        self.code.push((JMP | JSET, mask, Some(Jump::If(to))));
    }

    pub(super) fn jump_unless_any_bit(&mut self, mask: u32, to: Label) {
        self.code.push((JMP | JSET, mask, Some(Jump::Unless(to))));
    }

    /// Resolves the jumps. The programs here are far shorter than the 255 instructions a
    /// conditional jump can pass over, whatever the selection; the tests assemble the longest.
    pub(super) fn assemble(self) -> Vec<Instruction> {
        let Self { code, places } = self;
        let distance = |from: usize, to: Label| {
            let place = places[to.0].expect("every label used is placed");
            place.checked_sub(from + 1).expect("classic BPF only jumps forward")
        };
        let short = |from, to| {
            u8::try_from(distance(from, to)).expect("programs are shorter than a jump's reach")
        };
        code.iter()
            .enumerate()
            .map(|(at, &(code, operand, jump))| {
                let (jump_true, jump_false, operand) = match jump {
                    None => (0, 0, operand),
                    Some(Jump::If(to)) => (short(at, to), 0, operand),
                    Some(Jump::Unless(to)) => (0, short(at, to), operand),
                    Some(Jump::Always(to)) => (0, 0, distance(at, to) as u32),
                };
                Instruction { code, jump_true, jump_false, operand }
            })
            .collect()
    }
}
