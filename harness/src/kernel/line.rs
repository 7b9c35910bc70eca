// SPDX-License-Identifier: Apache-2.0
//! Lines of bounded length.

use std::io::{self, BufRead, Read};

/// Reads one line without its end; `None` where the stream ends.
///
/// # Errors
/// The stream fails, or the line is longer than `bytes_max`.
pub(super) fn read(from: &mut impl BufRead, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(bytes_max).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 + 1 < bytes_max => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(io::Error::other(format!("a line is longer than {bytes_max} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_end_and_never_grow_past_their_bound() {
        let mut text = &b"one\n\ntwo"[..];
        assert_eq!(read(&mut text, 8).unwrap(), Some(b"one".to_vec()));
        assert_eq!(read(&mut text, 8).unwrap(), Some(Vec::new()));
        assert_eq!(read(&mut text, 8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&mut text, 8).unwrap(), None);
        let error = read(&mut &b"123456789\n"[..], 8).unwrap_err();
        assert_eq!(error.to_string(), "a line is longer than 8 bytes");
    }
}
