// SPDX-License-Identifier: Apache-2.0
//! The two questions for a name's addresses, as messages, and what an answer says.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::protocol::{Answer, Queries};

/// What is asked for each name.
const KINDS: [RecordType; 2] = [RecordType::A, RecordType::AAAA];
/// Longest answer without EDNS, bytes (RFC 1035, section 4.2.1); glibc does not use it unless told to.
pub(crate) const ANSWER_BYTES_MAX: usize = 512;

/// One thing for each question: that for A, and that for AAAA.
pub(crate) type Both<T> = [T; KINDS.len()];

/// A name, and the messages that ask for its addresses.
#[derive(Debug)]
pub(crate) struct Questions {
    questions: Both<Query>,
    /// Their ids are still to be set.
    messages: Both<Vec<u8>>,
}

/// A fully qualified name, however it is written.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    let name = Name::from_ascii(text);
    let mut name = name.map_err(|error| format!("`{text}` is no name: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

impl Questions {
    /// For a name.
    ///
    /// # Errors
    /// It is too long for a message.
    pub(crate) fn new(name: Name) -> Result<Self, String> {
        let questions = KINDS.map(|kind| Query::query(name.clone(), kind));
        let message = |question: &Query| {
            let mut message = Message::query();
            message.metadata.recursion_desired = true;
            message.add_query(question.clone());
            message.to_vec().map_err(|error| format!("{name} cannot be asked for: {error}"))
        };
        let messages = [message(&questions[0])?, message(&questions[1])?];
        Ok(Self { questions, messages })
    }

    /// The messages with these ids.
    pub(crate) fn messages(&self, ids: Both<u16>) -> Both<Vec<u8>> {
        let mut messages = self.messages.clone();
        for (message, id) in messages.iter_mut().zip(ids) {
            message[..2].copy_from_slice(&id.to_be_bytes());
        }
        messages
    }

    /// Reads a datagram: which of the questions that were asked with these ids it answers, and how;
    /// `None` where it answers neither.
    pub(crate) fn answer(&self, ids: Both<u16>, datagram: &[u8]) -> Option<(usize, Answer)> {
        let message = Message::from_vec(datagram).ok()?;
        let [question] = &message.queries[..] else { return None };
        if message.metadata.message_type != MessageType::Response {
            return None;
        }
        let mut asked = self.questions.iter().zip(ids);
        let which = asked.position(|asked| asked == (question, message.metadata.id))?;
        Some((which, Answer::of(&message)))
    }
}

impl Answer {
    fn of(message: &Message) -> Self {
        // An answer repeats the one question it answers.
        let kind = message.queries.first().map(|query| query.query_type());
        let address = message.answers.iter().find_map(|record| match record.data {
            RData::A(address) if kind == Some(RecordType::A) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) if kind == Some(RecordType::AAAA) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        match (message.metadata.response_code, address) {
            _ if message.metadata.truncation => Self::Other,
            (ResponseCode::NoError, Some(address)) => Self::Address(address),
            (ResponseCode::NoError, None) => Self::NoData,
            (ResponseCode::NXDomain, _) => Self::NxDomain,
            (ResponseCode::ServFail, _) => Self::ServFail,
            (ResponseCode::Refused, _) => Self::Refused,
            _ => Self::Other,
        }
    }

    /// Counts it as what it is.
    pub(crate) fn count(self, queries: &mut Queries) {
        *match self {
            Self::Address(_) => &mut queries.addresses,
            Self::NoData => &mut queries.no_data,
            Self::NxDomain => &mut queries.nxdomain,
            Self::ServFail | Self::Refused | Self::Other => &mut queries.failed,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA};
    use proptest::prelude::*;

    use super::*;

    const WEB: &str = "web.default.svc.cluster.local";

    fn asked() -> Questions {
        Questions::new(name(WEB).unwrap()).unwrap()
    }

    fn answered(id: u16, change: impl FnOnce(&mut Message)) -> Option<(usize, Answer)> {
        let questions = asked();
        let mut message = Message::response(id, OpCode::Query);
        message.add_query(questions.questions[0].clone());
        change(&mut message);
        questions.answer([7, 8], &message.to_vec().unwrap())
    }

    #[test]
    fn an_answer_is_the_one_with_id_and_question_and_says_what_it_says() {
        let address = IpAddr::from([10, 96, 100, 100]);
        let found = answered(7, |message| {
            let record = Record::from_rdata(
                name(WEB).unwrap(),
                5,
                RData::A(A(Ipv4Addr::new(10, 96, 100, 100))),
            );
            message.add_answer(record);
        });
        assert_eq!(found, Some((0, Answer::Address(address))));
        assert_eq!(answered(7, |_| {}), Some((0, Answer::NoData)));
        // An address of the other family is not what A asks for.
        let other = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 1);
        let none = answered(7, |message| {
            let record = Record::from_rdata(name(WEB).unwrap(), 5, RData::AAAA(AAAA(other)));
            message.add_answer(record);
        });
        assert_eq!(none, Some((0, Answer::NoData)));
        // AAAA was asked for with id 8, A was not.
        assert_eq!(answered(8, |_| {}), None);
        assert_eq!(answered(9, |_| {}), None);
        assert_eq!(answered(7, |m| m.metadata.message_type = MessageType::Query), None);
        let other = name("api.default.svc.cluster.local").unwrap();
        assert_eq!(answered(7, |m| m.queries[0].name = other), None);
        assert_eq!(answered(7, |m| m.queries.clear()), None);
        for (code, answer) in [
            (ResponseCode::NXDomain, Answer::NxDomain),
            (ResponseCode::ServFail, Answer::ServFail),
            (ResponseCode::Refused, Answer::Refused),
            (ResponseCode::FormErr, Answer::Other),
        ] {
            assert_eq!(answered(7, |m| m.metadata.response_code = code), Some((0, answer)));
        }
        assert_eq!(answered(7, |m| m.metadata.truncation = true), Some((0, Answer::Other)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            asked().answer([7, 8], &bytes);
        }

        #[test]
        fn a_damaged_answer_is_read_without_a_panic(at in 0usize..80, value: u8, cut in 0usize..80) {
            let mut bytes = asked().messages([0, 1])[0].clone();
            bytes[2] |= 0x80; // an answer
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            asked().answer([0, 1], &bytes);
        }
    }
}
