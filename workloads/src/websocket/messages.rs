// SPDX-License-Identifier: Apache-2.0
//! Messages out of frames: put together where they come in parts (RFC 6455, section 5.4), with what
//! is about the connection between the parts.
//!
//! Of a message only the beginning is kept, unmasked. The rest is counted and not looked at, as bodies are.

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::ask::ASK_BYTES;
use super::frames::{CONTROL_MAX, Frames, Header, Malformed, Piece};

/// What a stream of frames says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message of bytes is there to its last one.
    Message {
        /// What it begins with, at most [`ASK_BYTES`].
        lead: Vec<u8>,
        /// Its length.
        length: u64,
    },
    /// The other side wants to hear this.
    Ping(Vec<u8>),
    /// The other side has heard us.
    Pong,
    /// The other side is done; why, if it says so.
    Close(Option<u16>),
}

/// Why no message can be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What came is no frame, or not where it may be.
    Protocol,
    /// A message of text.
    Unsupported,
    /// A message longer than the limit.
    TooLong,
    /// The stream ended or broke.
    Stream,
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Protocol
    }
}

/// Position in a stream of messages.
#[derive(Debug)]
pub(crate) struct Messages {
    frames: Frames,
    /// Whether the other side masks: clients do, servers do not (section 5.1).
    masked: bool,
    /// Longest message, bytes.
    limit: u64,
    /// The frame under way.
    frame: Option<Header>,
    /// Bytes of its payload that were seen.
    seen: u64,
    /// What it says, if it is about the connection.
    control: Vec<u8>,
    /// Length of the message under way so far, if one is.
    message: Option<u64>,
    lead: Vec<u8>,
}

impl Messages {
    /// Of an end that masks or does not, of messages of at most `limit` bytes.
    pub(crate) fn new(masked: bool, limit: u64) -> Self {
        Self {
            frames: Frames::default(),
            masked,
            limit,
            frame: None,
            seen: 0,
            control: Vec::new(),
            message: None,
            lead: Vec::new(),
        }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_amid_message(&self) -> bool {
        self.message.is_some()
    }

    /// Takes what it says next off the beginning of `bytes`; `None` where they end.
    ///
    /// # Errors
    /// What cannot be read, nor anything after it.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Fault> {
        while let Some(piece) = self.frames.next(bytes)? {
            match piece {
                Piece::Header(header) => self.begin(header)?,
                Piece::Payload(payload) => self.take(payload),
            }
            if let Some(event) = self.end()? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, header: Header) -> Result<(), Fault> {
        if header.mask.is_some() != self.masked {
            return Err(Fault::Protocol);
        }
        match (header.opcode, self.message) {
            (OpCode::Data(Data::Continue), Some(_)) | (OpCode::Control(_), _) => {}
            (OpCode::Data(Data::Binary), None) => {
                self.message = Some(0);
                self.lead.clear();
            }
            (OpCode::Data(Data::Text), None) => return Err(Fault::Unsupported),
            (OpCode::Data(_), _) => return Err(Fault::Protocol),
        }
        if let (OpCode::Data(_), Some(message)) = (header.opcode, &mut self.message) {
            *message = message.saturating_add(header.length);
            if *message > self.limit {
                return Err(Fault::TooLong);
            }
        }
        self.control.clear();
        (self.frame, self.seen) = (Some(header), 0);
        Ok(())
    }

    fn take(&mut self, payload: &[u8]) {
        let Some(Header { opcode, mask, .. }) = self.frame else { return };
        let (into, most) = match opcode {
            OpCode::Data(_) => (&mut self.lead, ASK_BYTES),
            OpCode::Control(_) => (&mut self.control, CONTROL_MAX as usize),
        };
        let kept = &payload[..payload.len().min(most - into.len().min(most))];
        let key = mask.unwrap_or_default();
        let turned = key.iter().cycle().skip((self.seen % 4) as usize);
        into.extend(kept.iter().zip(turned).map(|(byte, key)| byte ^ key));
        self.seen += payload.len() as u64;
    }

    /// What a frame says that is over.
    fn end(&mut self) -> Result<Option<Event>, Fault> {
        if !self.frames.is_between() {
            return Ok(None);
        }
        let Some(Header { opcode, last, .. }) = self.frame.take() else { return Ok(None) };
        match opcode {
            OpCode::Data(_) if !last => Ok(None),
            OpCode::Data(_) => {
                let length = self.message.take().unwrap_or(0);
                Ok(Some(Event::Message { lead: self.lead.clone(), length }))
            }
            OpCode::Control(Control::Ping) => {
                Ok(Some(Event::Ping(std::mem::take(&mut self.control))))
            }
            OpCode::Control(Control::Close) => match self.control[..] {
                [] => Ok(Some(Event::Close(None))),
                [_] => Err(Fault::Protocol),
                [first, second, ..] => {
                    Ok(Some(Event::Close(Some(u16::from_be_bytes([first, second])))))
                }
            },
            OpCode::Control(_) => Ok(Some(Event::Pong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::coding::CloseCode;
    use tungstenite::protocol::frame::{CloseFrame, Frame};

    use super::super::frames::tests::frame;
    use super::*;

    fn read(stream: &[u8], cut: usize, masked: bool, limit: u64) -> Result<Vec<Event>, Fault> {
        let mut messages = Messages::new(masked, limit);
        let mut events = Vec::new();
        for mut chunk in stream.chunks(cut) {
            while let Some(event) = messages.next(&mut chunk)? {
                events.push(event);
            }
        }
        Ok(events)
    }

    proptest! {
        #[test]
        fn messages_in_parts_with_pings_between_them_come_out_whole(
            said in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..400), 1usize..200, any::<[u8; 4]>(), any::<bool>()),
                1..6,
            ),
            cut in 1usize..70,
            masked in any::<bool>(),
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (payload, part, key, pings) in &said {
                let key = masked.then_some(*key);
                let mut parts: Vec<&[u8]> = payload.chunks(*part).collect();
                if parts.is_empty() {
                    parts.push(&[]);
                }
                for (index, bytes) in parts.iter().enumerate() {
                    let last = index + 1 == parts.len();
                    let first = if index == 0 { 2 } else { 0 } | if last { 0x80 } else { 0 };
                    stream.extend(frame(first, bytes, key));
                    if *pings && !last {
                        stream.extend(frame(0x89, b"there?", key));
                        expected.push(Event::Ping(b"there?".to_vec()));
                    }
                }
                let lead = payload[..payload.len().min(ASK_BYTES)].to_vec();
                expected.push(Event::Message { lead, length: payload.len() as u64 });
            }
            prop_assert_eq!(read(&stream, cut, masked, 400), Ok(expected));
        }

        #[test]
        fn no_stream_makes_it_panic(
            stream in prop::collection::vec(any::<u8>(), 0..300), cut in 1usize..50, masked: bool,
        ) {
            let _ = read(&stream, cut, masked, 1000);
            let read = |cut| super::super::read_messages(&stream, cut, masked);
            prop_assert_eq!(read(cut), read(stream.len()));
        }

        #[test]
        fn what_the_library_writes_is_read(payload in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let mut stream = Vec::new();
            let opcode = OpCode::Data(Data::Binary);
            Frame::message(payload.clone(), opcode, true).format(&mut stream).unwrap();
            Frame::ping(b"p".to_vec()).format(&mut stream).unwrap();
            Frame::pong(b"p".to_vec()).format(&mut stream).unwrap();
            let close = CloseFrame { code: CloseCode::Size, reason: "long".into() };
            Frame::close(Some(close)).format(&mut stream).unwrap();
            let length = payload.len() as u64;
            let lead = payload[..payload.len().min(ASK_BYTES)].to_vec();
            let expected = vec![
                Event::Message { lead, length },
                Event::Ping(b"p".to_vec()),
                Event::Pong,
                Event::Close(Some(1009)),
            ];
            prop_assert_eq!(read(&stream, 4096, false, 70_000), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let of = |stream: &[u8]| read(stream, 1000, false, 10);
        assert_eq!(of(&frame(0x82, b"0123456789x", None)), Err(Fault::TooLong));
        let parts = [frame(0x02, b"012345", None), frame(0x80, b"012345", None)].concat();
        assert_eq!(of(&parts), Err(Fault::TooLong));
        let endless = [0x02, 1, b'.', 0x80, 127, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(of(&endless), Err(Fault::TooLong));
        assert_eq!(of(&frame(0x81, b"text", None)), Err(Fault::Unsupported));
        for wrong in [
            frame(0x82, b"masked", Some([1; 4])),
            frame(0x80, b"of no message", None),
            [frame(0x02, b"a", None), frame(0x82, b"b", None)].concat(),
            frame(0x88, b"c", None),
        ] {
            assert_eq!(of(&wrong), Err(Fault::Protocol), "{wrong:x?}");
        }
        assert_eq!(read(&frame(0x82, b"bare", None), 9, true, 10), Err(Fault::Protocol));
        assert_eq!(of(&frame(0x88, b"", None)), Ok(vec![Event::Close(None)]));
    }
}
