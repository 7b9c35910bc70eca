// SPDX-License-Identifier: Apache-2.0
//! One resolution of the harness's own, to see what answers before anything is measured.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{ANSWER_BYTES_MAX, Questions, name};
use crate::protocol::Answer;

/// Ids of the two queries; nobody else asks from their source.
const IDS: [u16; 2] = [1, 2];

/// Asks `server` from `source` for the addresses of a fully qualified name, as a connection that is
/// measured does, and returns the one of its source's
/// family.
///
/// # Errors
/// It has none, nobody answers in time, or the system refuses a socket.
pub fn lookup(
    source: SocketAddr,
    server: SocketAddr,
    asked: &str,
    patience: Duration,
) -> io::Result<IpAddr> {
    let questions = name(asked).and_then(Questions::new).map_err(io::Error::other)?;
    let socket = UdpSocket::bind(source)?;
    socket.connect(server)?;
    for message in questions.messages(IDS) {
        socket.send(&message)?;
    }
    let deadline = Instant::now() + patience;
    let mut answers = [None; IDS.len()];
    let mut buffer = [0; ANSWER_BYTES_MAX];
    loop {
        if let [Some(of_a), Some(of_aaaa)] = answers {
            return match if source.is_ipv6() { of_aaaa } else { of_a } {
                Answer::Address(address) => Ok(address),
                other => Err(io::Error::other(format!("the answer to {asked} is {other:?}"))),
            };
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        if let Some((which, answer)) = questions.answer(IDS, &buffer[..length]) {
            answers[which] = Some(answer);
        }
    }
}
