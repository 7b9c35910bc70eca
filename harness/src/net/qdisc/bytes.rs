// SPDX-License-Identifier: Apache-2.0
//! Structures and attributes of linux/pkt_sched.h, in the byte order of the machine.

/// Length of an attribute's header: its length and its type, 16 bits each (`struct nlattr`).
const HEADER: usize = 4;

/// Appends an attribute, filled up to a multiple of four bytes.
pub(super) fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(HEADER + value.len()).expect("values here have a few bytes");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Values of attributes with their types, as far as they are whole.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (u16_at(bytes, 0)?, u16_at(bytes, 2)?);
        let value = bytes.get(HEADER..usize::from(length))?;
        let next = usize::from(length).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
        // The two highest bits are flags (`NLA_TYPE_MASK`).
        Some((kind & 0x3fff, value))
    })
}

/// The bytes of words.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        push(&mut bytes, 3, &[1, 2, 3, 4, 5]);
        push(&mut bytes, 10, &7u64.to_ne_bytes());
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &[1, 2, 3, 4, 5][..]), (10, &7u64.to_ne_bytes()[..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_on(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
