// SPDX-License-Identifier: Apache-2.0
//! Finds where HTTP/2 messages begin in a stream of bytes, however reads and writes cut it.

/// Length of a frame header: RFC 9113 section 4.1.
const HEADER: usize = 9;
/// Type of the frame that begins a message: RFC 9113 section 6.2.
const HEADERS: u8 = 0x1;

/// Position in a stream of HTTP/2 frames. Only their headers are looked at.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes to pass over before the next frame header.
    skip: u64,
    header: [u8; HEADER],
    have: usize,
}

impl Frames {
    /// A stream whose first frame comes after `preface` bytes.
    pub(crate) fn after(preface: u64) -> Self {
        Self { skip: preface, header: [0; HEADER], have: 0 }
    }

    /// Passes over `chunk`, which lies at `offset` of the bytes, and tells the HTTP/2 stream and the
    /// offset of each HEADERS frame whose header ends in it.
    pub(crate) fn headers_in(
        &mut self,
        mut chunk: &[u8],
        mut offset: u64,
        mut found: impl FnMut(u32, u64),
    ) {
        while !chunk.is_empty() {
            let passed = self.skip.min(chunk.len() as u64);
            self.skip -= passed;
            offset += passed;
            chunk = &chunk[passed as usize..];

            let taken = (HEADER - self.have).min(chunk.len());
            self.header[self.have..self.have + taken].copy_from_slice(&chunk[..taken]);
            self.have += taken;
            offset += taken as u64;
            chunk = &chunk[taken..];
            if self.have == HEADER {
                let [a, b, c, kind, _, stream @ ..] = self.header;
                self.skip = u64::from(u32::from_be_bytes([0, a, b, c]));
                self.have = 0;
                if kind == HEADERS {
                    // The first bit has no meaning (RFC 9113, section 4.1).
                    found(u32::from_be_bytes(stream) & !(1 << 31), offset - HEADER as u64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut bytes = (payload as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0]);
        bytes.extend((stream | 1 << 31).to_be_bytes());
        // A payload full of what would be a HEADERS frame if it were taken for a header.
        bytes.extend([0, 0, 0, HEADERS].iter().cycle().take(payload));
        bytes
    }

    proptest! {
        #[test]
        fn headers_are_found_where_they_begin_however_the_stream_is_cut(
            frames in prop::collection::vec((0u8..10, 0usize..70), 1..20),
            cut in 1usize..40,
        ) {
            let preface = 24;
            let mut stream = vec![0; preface];
            let mut expected = Vec::new();
            for (&(kind, payload), id) in frames.iter().zip(1..) {
                if kind == HEADERS {
                    expected.push((id, stream.len() as u64));
                }
                stream.extend(frame(kind, id, payload));
            }
            let mut scanner = Frames::after(preface as u64);
            let mut found = Vec::new();
            let mut offset = 0;
            for chunk in stream.chunks(cut) {
                scanner.headers_in(chunk, offset, |id, at| found.push((id, at)));
                offset += chunk.len() as u64;
            }
            prop_assert_eq!(found, expected);
        }
    }
}
