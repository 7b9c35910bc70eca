// SPDX-License-Identifier: Apache-2.0
//! What a proxy that speaks the PROXY protocol says before a connection's own bytes
//! (haproxy/doc/proxy-protocol.txt): whose connection it passes on. Versions 1, a line of text, and 2.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::timer::Timer;

/// Longest preamble that is read, bytes: a version 2 of IPv6 with every field that HAProxy knows is shorter.
const LENGTH_MAX: usize = 536;
/// What the two versions begin with.
const BEGINNINGS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
/// How often the rest of one is looked for, and with what rest between: it is a proxy's first word, and comes
/// in one segment as a rule.
const LOOKS_MAX: u32 = 5_000;
const REST: Duration = Duration::from_millis(1);

/// What was read before a connection's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    /// Its length, bytes.
    pub(crate) length: u64,
    /// Whose connection it is; `None` where the proxy speaks for itself, as health checks do.
    pub(crate) source: Option<SocketAddr>,
}

/// Reads it from a new connection, and not a byte more.
///
/// # Errors
/// There is none, it is of another family of addresses than IP's, or it does not come.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Preamble> {
    let mut looks = 0;
    loop {
        // What is missing is not known before it is there: byte by byte would be dear, and a byte too many
        // would be the connection's own. So it is looked at where it lies.
        let mut seen = [0; LENGTH_MAX];
        let there = stream.peek(&mut seen).await?;
        match of(&seen[..there]) {
            Some(preamble) => {
                let preamble = preamble?;
                stream.read_exact(&mut seen[..preamble.length as usize]).await?;
                return Ok(preamble);
            }
            None if there == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None if there == LENGTH_MAX => return Err(invalid("it is too long")),
            None if looks == LOOKS_MAX => return Err(io::ErrorKind::TimedOut.into()),
            // A segment that was cut in two: a socket that can be read says nothing of more to come.
            None => Timer::new()?.rest(REST).await?,
        }
        looks += 1;
    }
}

/// The preamble that bytes begin with; `None` where more are needed to tell.
fn of(bytes: &[u8]) -> Option<io::Result<Preamble>> {
    // As long as there is no end of a line, the library takes anything for the beginning of version 1.
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if !BEGINNINGS.into_iter().any(begins) {
        return Some(Err(invalid("it begins otherwise")));
    }
    let header = HeaderResult::parse(bytes);
    if header.is_incomplete() {
        // A line that has ended is all there will be of it.
        let ended = bytes.starts_with(b"PROXY ") && bytes.windows(2).any(|end| end == b"\r\n");
        return ended.then(|| Err(invalid("its line lacks something")));
    }
    Some(match header {
        HeaderResult::V1(Ok(header)) => {
            let length = header.header.len() as u64;
            match header.addresses {
                v1::Addresses::Tcp4(of) => {
                    let source = SocketAddr::new(of.source_address.into(), of.source_port);
                    Ok(Preamble { length, source: Some(source) })
                }
                v1::Addresses::Tcp6(of) => {
                    let source = SocketAddr::new(of.source_address.into(), of.source_port);
                    Ok(Preamble { length, source: Some(source) })
                }
                v1::Addresses::Unknown => Ok(Preamble { length, source: None }),
            }
        }
        HeaderResult::V2(Ok(header)) => {
            let length = header.len() as u64;
            match (header.command, header.addresses) {
                (v2::Command::Local, _) | (_, v2::Addresses::Unspecified) => {
                    Ok(Preamble { length, source: None })
                }
                (v2::Command::Proxy, v2::Addresses::IPv4(of)) => {
                    let source = SocketAddr::new(of.source_address.into(), of.source_port);
                    Ok(Preamble { length, source: Some(source) })
                }
                (v2::Command::Proxy, v2::Addresses::IPv6(of)) => {
                    let source = SocketAddr::new(of.source_address.into(), of.source_port);
                    Ok(Preamble { length, source: Some(source) })
                }
                _ => Err(invalid("it is of another family than IP's")),
            }
        }
        HeaderResult::V1(Err(error)) => Err(invalid(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(invalid(&error.to_string())),
    })
}

/// A preamble of version 2: a connection from `source` to `destination` is passed on.
pub fn preamble(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let version = v2::Version::Two | v2::Command::Proxy;
    let addresses: v2::Addresses = (source, destination).into();
    v2::Builder::with_addresses(version, v2::Protocol::Stream, addresses)
        .build()
        .expect("two addresses are far shorter than the format's limit")
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no PROXY preamble: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(bytes: &[u8]) -> Option<Preamble> {
        of(bytes).and_then(Result::ok)
    }

    #[test]
    fn both_versions_tell_whose_connection_it_is_and_where_its_bytes_begin() {
        let (client, server) = ("10.8.0.1:900", "10.9.0.11:30080");
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let source = Some(client);
        let line = b"PROXY TCP4 10.8.0.1 10.9.0.11 900 30080\r\nGET / HTTP/1.1";
        assert_eq!(told(line), Some(Preamble { length: 41, source }));
        assert_eq!(told(b"PROXY UNKNOWN\r\n"), Some(Preamble { length: 15, source: None }));
        let mut binary = preamble(client, server);
        let length = binary.len() as u64;
        assert_eq!(length, 28);
        binary.extend(b"GET /");
        assert_eq!(told(&binary), Some(Preamble { length, source }));
    }

    #[test]
    fn more_is_waited_for_and_what_is_none_is_refused() {
        let whole = preamble("1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap());
        for length in 0..whole.len() {
            assert!(of(&whole[..length]).is_none(), "{length}");
        }
        for none in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 nonsense\r\n", &[0x16; 64]] {
            assert!(of(none).unwrap().is_err(), "{none:?}");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_told_too() {
        let (client, server) = ("[fd00:8::1]:900", "[fd00:9::b]:30080");
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let source = Some(client);
        let line = b"PROXY TCP6 fd00:8::1 fd00:9::b 900 30080\r\nGET";
        assert_eq!(told(line), Some(Preamble { length: 42, source }));
        assert_eq!(told(&preamble(client, server)), Some(Preamble { length: 52, source }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_claim_more_than_there_are(
            bytes in prop::collection::vec(any::<u8>(), 0..300), begins in 0usize..3,
        ) {
            let signature = [&b""[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"][begins];
            let bytes = [signature, &bytes].concat();
            if let Some(Ok(preamble)) = of(&bytes) {
                prop_assert!(preamble.length as usize <= bytes.len());
            }
        }
    }
}
