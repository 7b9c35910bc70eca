// SPDX-License-Identifier: Apache-2.0
//! Finds the frames in a stream, and where messages begin, however reads and writes cut it
//! (RFC 6455, section 5.2).

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// Longest header: two bytes, eight of length, four of a mask.
const HEADER_MAX: usize = 14;
/// Longest payload of a frame that is about the connection (section 5.5), bytes.
pub(crate) const CONTROL_MAX: u64 = 125;

/// What came is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Position in a stream of frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; HEADER_MAX],
    have: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
}

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A frame's header is over.
    Header(Header),
    /// So much of its payload.
    Payload(&'a [u8]),
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: OpCode,
    /// Whether its message ends with it.
    pub(crate) last: bool,
    pub(crate) mask: Option<[u8; 4]>,
    /// Length of its payload, bytes.
    pub(crate) length: u64,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Takes the next piece off the beginning of `bytes`; `None` where they end.
    ///
    /// # Errors
    /// It is no frame; nothing that comes after it is one.
    pub(crate) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.left > 0 {
            let taken = self.left.min(bytes.len() as u64);
            let (payload, rest) = bytes.split_at(taken as usize);
            *bytes = rest;
            self.left -= taken;
            return Ok(Some(Piece::Payload(payload)));
        }
        let before = self.have;
        let taken = (HEADER_MAX - before).min(bytes.len());
        self.header[before..before + taken].copy_from_slice(&bytes[..taken]);
        let mut seen = Cursor::new(&self.header[..before + taken]);
        let Some((header, length)) = FrameHeader::parse(&mut seen).or(Err(Malformed))? else {
            self.have += taken;
            *bytes = &[];
            return Ok(None);
        };
        // What was there before was no whole header.
        *bytes = &bytes[seen.position() as usize - before..];
        (self.have, self.left) = (0, length);
        let FrameHeader { is_final: last, rsv1, rsv2, rsv3, opcode, mask } = header;
        let whole = matches!(opcode, OpCode::Data(_)) || last && length <= CONTROL_MAX;
        // No extension was agreed on that would give the reserved bits a meaning.
        if rsv1 || rsv2 || rsv3 || !whole {
            return Err(Malformed);
        }
        Ok(Some(Piece::Header(Header { opcode, last, mask, length })))
    }

    /// Passes over `chunk`, which lies at `offset` of the stream, and returns the offset of the first message
    /// that begins in it.
    pub(crate) fn message_in(&mut self, chunk: &[u8], offset: u64) -> Option<u64> {
        let mut found = None;
        let mut rest = chunk;
        loop {
            // The first byte of a frame tells what it is.
            let begins = rest.first().is_some_and(|&byte| {
                let opcode = OpCode::from(byte & 0xf);
                matches!(opcode, OpCode::Data(Data::Text | Data::Binary))
            });
            if found.is_none() && begins && self.is_between() {
                found = Some(offset + (chunk.len() - rest.len()) as u64);
            }
            // What is malformed ends the connection; that is for whoever reads it to say.
            let Ok(Some(_)) = self.next(&mut rest) else { return found };
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame, masked where there is a key.
    pub(crate) fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
        let flag = if key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(flag | length as u8),
            length @ 126..65_536 => {
                bytes.push(flag | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(flag | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(key.iter().flatten());
        let key = key.unwrap_or_default();
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    proptest! {
        #[test]
        fn messages_are_found_where_they_begin_however_the_stream_is_cut(
            frames in prop::collection::vec((0usize..5, 0usize..300, any::<Option<[u8; 4]>>()), 1..12),
            cut in 1usize..40,
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (kind, length, key) in frames {
                // Payloads full of what would begin a message if it were taken for a header.
                let (first, length) = [(0x82, length), (0x01, length), (0x80, length), (0x89, length % 126), (0x8a, 0)][kind];
                if kind < 2 {
                    expected.push(stream.len() as u64);
                }
                stream.extend(frame(first, &vec![0x82; length], key));
            }
            let mut scanner = Frames::default();
            let found: Vec<u64> = stream
                .iter()
                .enumerate()
                .filter_map(|(at, &byte)| scanner.message_in(&[byte], at as u64))
                .collect();
            prop_assert_eq!(&found, &expected);
            prop_assert!(scanner.is_between());

            let (mut first, mut offset) = (None, 0);
            for chunk in stream.chunks(cut) {
                first = first.or(scanner.message_in(chunk, offset));
                offset += chunk.len() as u64;
            }
            prop_assert_eq!(first, expected.first().copied());
        }
    }

    #[test]
    fn what_has_no_meaning_here_is_no_frame() {
        fn of(bytes: &[u8]) -> Result<Option<Piece<'_>>, Malformed> {
            Frames::default().next(&mut &*bytes)
        }
        for wrong in [
            &[0xc2, 0][..],       // a reserved bit
            &[0x83, 0],           // a reserved kind of message
            &[0x8b, 0],           // a reserved kind of control frame
            &[0x09, 0],           // a ping in parts
            &[0x89, 126, 0, 126], // a ping too long
        ] {
            assert_eq!(of(wrong), Err(Malformed), "{wrong:x?}");
        }
        let header =
            Header { opcode: OpCode::Data(Data::Binary), last: true, mask: None, length: 0 };
        assert_eq!(of(&[0x82, 0]), Ok(Some(Piece::Header(header))));
        assert_eq!(of(&[0x82]), Ok(None));
    }
}
