// SPDX-License-Identifier: Apache-2.0
//! What a message to the server begins with: what HTTP says in a path and in headers.

use crate::body::MAX_BYTES;
use crate::protocol::WORK_MAX_NS;

/// Its length, bytes: the same for all requests, so that they have the same bytes in every record.
pub(crate) const ASK_BYTES: usize = 24;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Length of the message that is to be answered with, bytes, at most [`MAX_BYTES`].
    pub(crate) response_bytes: u64,
    /// What it asks of the server's processor, nanoseconds, at most [`WORK_MAX_NS`].
    pub(crate) work_ns: u64,
    /// What the request calls itself.
    pub(crate) id: Option<u64>,
}

impl Ask {
    /// Three numbers, the most significant byte first; no request has the id 0.
    pub(crate) fn write(&self) -> [u8; ASK_BYTES] {
        let mut written = [0; ASK_BYTES];
        let numbers = [self.response_bytes, self.work_ns, self.id.unwrap_or(0)];
        for (place, number) in written.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        written
    }

    /// What a message that begins so asks; `None` where it asks nothing, or more than is given.
    pub(crate) fn read(lead: &[u8]) -> Option<Self> {
        let (lead, _) = lead.split_first_chunk::<ASK_BYTES>()?;
        let mut numbers = lead
            .chunks_exact(8)
            .map(|number| number.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)));
        let (response_bytes, work_ns) = (numbers.next()?, numbers.next()?);
        let id = numbers.next().filter(|&id| id != 0);
        let given = response_bytes <= MAX_BYTES && work_ns <= WORK_MAX_NS;
        given.then_some(Self { response_bytes, work_ns, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_asked_is_read_as_it_was_written(
            response_bytes in 0..=MAX_BYTES, work_ns in 0..=WORK_MAX_NS, id in any::<u64>(),
            more in 0usize..9,
        ) {
            let ask = Ask { response_bytes, work_ns, id: Some(id).filter(|&id| id != 0) };
            let mut message = ask.write().to_vec();
            message.resize(ASK_BYTES + more, b'.');
            prop_assert_eq!(Ask::read(&message), Some(ask));
        }

        #[test]
        fn no_beginning_makes_it_panic(lead in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Ask::read(&lead);
        }
    }

    #[test]
    fn more_than_is_given_is_not_asked() {
        let ask = Ask { response_bytes: MAX_BYTES, work_ns: WORK_MAX_NS, id: None };
        assert!(Ask::read(&ask.write()).is_some());
        let long = Ask { response_bytes: MAX_BYTES + 1, ..ask };
        let hard = Ask { work_ns: WORK_MAX_NS + 1, ..ask };
        for ask in [long, hard] {
            assert_eq!(Ask::read(&ask.write()), None);
        }
        assert_eq!(Ask::read(&ask.write()[..ASK_BYTES - 1]), None);
    }
}
