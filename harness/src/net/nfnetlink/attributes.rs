// SPDX-License-Identifier: Apache-2.0
//! Netlink attributes: a list of (length, type, value), each padded to four bytes (RFC 3549,
//! `linux/netlink.h`). Numbers inside netfilter's are in network order.

use super::message::Malformed;

/// Bytes of an attribute's header.
const HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the upper two bits are flags.
const TYPE_MASK: u16 = 0x3fff;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Walks a list of attributes. Ends at the first that does not fit; takes at least four bytes a
/// step, so it ends on any input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    /// Type and value.
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let Some((header, _)) = rest.split_at_checked(HEADER) else {
            return Some(Err(Malformed::Attribute { length: rest.len(), left: rest.len() }));
        };
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let Some(value) = rest.get(HEADER..length) else {
            return Some(Err(Malformed::Attribute { length, left: rest.len() }));
        };
        // The last one may lack its padding.
        self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((kind, value)))
    }
}

/// Value of the first attribute of a type in a list.
pub(crate) fn first(list: &[u8], wanted: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in Attributes(list) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A value that has to be `N` bytes long.
pub(crate) fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    match value.as_array() {
        Some(&array) => Ok(array),
        None => Err(Malformed::Value { length: value.len(), wanted: N }),
    }
}

/// Appends an attribute.
pub(crate) fn push(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(HEADER + value.len()).expect("requests are small");
    buffer.extend(length.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(value);
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// Appends an attribute that is a list of attributes.
pub(crate) fn push_nested(buffer: &mut Vec<u8>, kind: u16, inner: &[u8]) {
    push(buffer, kind | NESTED, inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_read_back() {
        let mut buffer = Vec::new();
        push(&mut buffer, 3, &[1]);
        push_nested(&mut buffer, 4, &[1, 2, 3, 4, 5]);
        let read: Vec<_> = Attributes(&buffer).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [(3, &[1][..]), (4, &[1, 2, 3, 4, 5][..])]);
    }

    #[test]
    fn a_length_past_the_end_or_below_the_header_is_malformed() {
        for length in [0_u16, 3, 9] {
            let mut buffer = length.to_ne_bytes().to_vec();
            buffer.extend([1, 0, 0, 0, 0, 0]);
            let read: Vec<_> = Attributes(&buffer).collect();
            assert_eq!(
                read,
                [Err(Malformed::Attribute { length: length.into(), left: 8 })],
                "length {length}"
            );
        }
    }
}
