// SPDX-License-Identifier: Apache-2.0
//! A frame as it is written: a beginning, and filler that has no memory of its own.

use std::io::IoSlice;

use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frames::CONTROL_MAX;
use crate::body::FILLER;

/// Pieces of filler that are written at once at most: a mebibyte.
const PIECES: usize = 16;

/// What of a frame is still to be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The header and what was given of the payload, if anything is left of that.
    lead: Bytes,
    /// Filler as it is on the wire: with a mask it repeats itself every four bytes.
    chunk: Bytes,
    /// Filler written so far, and still to be written, bytes.
    written: u64,
    left: u64,
}

impl Outgoing {
    /// A message: some bytes, and filler behind them. Those are a multiple of four where there is a key.
    pub(crate) fn message(given: &[u8], filler_bytes: u64, key: Option<[u8; 4]>) -> Self {
        let chunk = match key {
            None => Bytes::from_static(&FILLER),
            Some(key) => {
                // Rounded up, so that it can begin anywhere among the key's bytes.
                let length =
                    (filler_bytes.min(FILLER.len() as u64 - 4) as usize).next_multiple_of(4);
                masked(&FILLER[..length], key)
            }
        };
        let length = given.len() as u64 + filler_bytes;
        let lead = lead(OpCode::Data(Data::Binary), given, length, key);
        Self { lead, chunk, written: 0, left: filler_bytes }
    }

    /// An answer to a ping, with its payload.
    pub(crate) fn pong(payload: &[u8], key: Option<[u8; 4]>) -> Self {
        Self::control(Control::Pong, payload, key)
    }

    /// The end, and why.
    pub(crate) fn close(code: u16, key: Option<[u8; 4]>) -> Self {
        Self::control(Control::Close, &code.to_be_bytes(), key)
    }

    fn control(kind: Control, payload: &[u8], key: Option<[u8; 4]>) -> Self {
        let payload = &payload[..payload.len().min(CONTROL_MAX as usize)];
        let lead = lead(OpCode::Control(kind), payload, payload.len() as u64, key);
        Self { lead, chunk: Bytes::new(), written: 0, left: 0 }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_written(&self) -> bool {
        self.lead.is_empty() && self.left == 0
    }

    /// What is to be written next, and how many slices that is.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; PIECES]) -> usize {
        let (mut count, mut at, mut left) = (0, self.written, self.left);
        if !self.lead.is_empty() {
            into[0] = IoSlice::new(&self.lead);
            count = 1;
        }
        while left > 0 && count < PIECES {
            let piece = &self.chunk[(at % 4) as usize..];
            let piece = &piece[..left.min(piece.len() as u64) as usize];
            into[count] = IoSlice::new(piece);
            (count, at, left) = (count + 1, at + piece.len() as u64, left - piece.len() as u64);
        }
        count
    }

    /// No slice at all, for [`Outgoing::slices`].
    pub(crate) fn none<'a>() -> [IoSlice<'a>; PIECES] {
        [IoSlice::new(&[]); PIECES]
    }

    /// So many bytes of it were written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let of_lead = self.lead.len().min(bytes);
        let _ = self.lead.split_to(of_lead);
        let of_filler = ((bytes - of_lead) as u64).min(self.left);
        self.written += of_filler;
        self.left -= of_filler;
    }
}

/// A frame's header, and the first of its payload.
fn lead(opcode: OpCode, given: &[u8], length: u64, mask: Option<[u8; 4]>) -> Bytes {
    let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
    let mut lead = Vec::with_capacity(header.len(length) + given.len());
    header.format(length, &mut lead).expect("a vector takes what is written to it");
    match mask {
        Some(key) => lead.extend_from_slice(&masked(given, key)),
        None => lead.extend_from_slice(given),
    }
    lead.into()
}

/// Bytes as the other side is to see them (RFC 6455, section 5.3).
fn masked(bytes: &[u8], key: [u8; 4]) -> Bytes {
    let mut masked = bytes.to_vec();
    for piece in masked.chunks_mut(4) {
        piece.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
    masked.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::messages::{Event, Messages};
    use super::*;

    /// All of it, written so many bytes at a time.
    fn written(mut outgoing: Outgoing, mut room: impl FnMut() -> usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !outgoing.is_written() {
            let room = room();
            let before = all.len();
            let mut slices = Outgoing::none();
            let count = outgoing.slices(&mut slices);
            let there = slices[..count].iter().flat_map(|slice| slice.iter());
            all.extend(there.take(room).copied());
            outgoing.advance(all.len() - before);
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_piece_by_piece_is_one_message_of_filler(
            given in prop::collection::vec(any::<u8>(), 0..7),
            filler in 0u64..300_000,
            key in any::<Option<[u8; 4]>>(),
            rooms in prop::collection::vec(1usize..100_000, 1..9),
        ) {
            let given: Vec<u8> = given.iter().flat_map(|byte| [*byte; 4]).collect();
            let mut rooms = rooms.into_iter().cycle();
            let outgoing = Outgoing::message(&given, filler, key);
            let stream = written(outgoing, || rooms.next().unwrap());
            // The library's own reading of it, payload and all.
            let mut cursor = std::io::Cursor::new(&stream);
            let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            let key = header.mask.unwrap_or_default();
            let payload: Vec<u8> = stream[cursor.position() as usize..]
                .iter()
                .zip(key.iter().cycle())
                .map(|(byte, key)| byte ^ key)
                .collect();
            prop_assert_eq!(payload.len() as u64, length);
            prop_assert_eq!(&payload[..given.len()], &given);
            prop_assert!(payload[given.len()..].iter().all(|&byte| byte == b'.'));
            let mut messages = Messages::new(header.mask.is_some(), length);
            let event = messages.next(&mut &stream[..]);
            let whole = matches!(event, Ok(Some(Event::Message { length: of, .. })) if of == length);
            prop_assert!(whole, "{event:?}");
        }
    }

    #[test]
    fn what_is_about_the_connection_is_one_frame() {
        let read = |outgoing, masked| {
            let stream = written(outgoing, || 3);
            Messages::new(masked, 0).next(&mut &stream[..]).unwrap().unwrap()
        };
        assert_eq!(read(Outgoing::close(1009, None), false), Event::Close(Some(1009)));
        assert_eq!(read(Outgoing::close(1002, Some([7; 4])), true), Event::Close(Some(1002)));
        assert_eq!(read(Outgoing::pong(&[1; 125], Some([7; 4])), true), Event::Pong);
    }
}
