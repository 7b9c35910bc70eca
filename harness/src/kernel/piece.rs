// SPDX-License-Identifier: Apache-2.0
//! What is said to a guest at a time. Its port may be a terminal line, and one of User-Mode Linux that is filled up to
//! its throttle, 128 bytes short of 4096 (`TTY_THRESHOLD_THROTTLE`, drivers/tty/n_tty.c), is never read from again:
//! `line_throttle()` takes the interrupt away, and `line_unthrottle()` does not give it back
//! (arch/um/drivers/line.c, Linux 7.2). So a longer line goes in pieces, each when the one before was read.

use std::io::{self, Read};

/// Longest piece, bytes.
pub(super) const PIECE_BYTES: usize = 1024;

/// Reads lines, and tells of each whole piece of a line that does not end with it.
pub(super) struct Pieces<R, T> {
    from: R,
    tell: T,
    /// Bytes of the present piece so far.
    read: usize,
}

impl<R: Read, T: FnMut() -> io::Result<()>> Pieces<R, T> {
    pub(super) fn of(from: R, tell: T) -> Self {
        Self { from, tell, read: 0 }
    }
}

impl<R: Read, T: FnMut() -> io::Result<()>> Read for Pieces<R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        for &byte in &buffer[..read] {
            self.read = if byte == b'\n' { 0 } else { self.read + 1 };
            if self.read == PIECE_BYTES {
                self.read = 0;
                (self.tell)()?;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_many_are_told_of_as_are_waited_for(
            lengths in prop::collection::vec(0usize..5000, 1..5), at_a_time in 1usize..3000,
        ) {
            let told = Cell::new(0);
            let lines = lengths.iter().map(|&length| [vec![b'x'; length], vec![b'\n']].concat());
            let lines: Vec<Vec<u8>> = lines.collect();
            let text = lines.concat();
            let mut reader = Pieces::of(&text[..], || { told.set(told.get() + 1); Ok(()) });
            let mut buffer = vec![0; at_a_time];
            let mut read = Vec::new();
            loop {
                let count = reader.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..count]);
            }
            prop_assert_eq!(read, text);
            // Whoever sends waits behind each piece but a line's last.
            let waited: usize = lines.iter().map(|line| line.chunks(PIECE_BYTES).len() - 1).sum();
            prop_assert_eq!(told.get(), waited);
        }
    }
}
