// SPDX-License-Identifier: Apache-2.0
//! What goes over the wire in a handshake, read by a parser that shares nothing with the library that
//! made it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use workloads::protocol::{Connection, LoadSpec, Protocol, TlsVersion};

use crate::agents::Load;
use crate::certificates::{Made, NAME};
use crate::rogue::Rogue;
use crate::workload::{requests, spec};

/// Types of handshake messages and extensions that are looked for.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;

/// Bytes of both directions of one connection.
#[derive(Default)]
struct Heard {
    client: Vec<u8>,
    server: Vec<u8>,
}

/// Connections, in the order in which they were opened.
type All = Arc<Mutex<Vec<Arc<Mutex<Heard>>>>>;

/// Passes everything on to `to` and keeps a copy.
fn listening_in(to: SocketAddr) -> (Rogue, All) {
    let all = All::default();
    let kept = all.clone();
    let rogue = Rogue::new(move |client| {
        let server = TcpStream::connect(to)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        kept.lock().unwrap().push(heard.clone());
        let (from, into, copy) = (client.try_clone()?, server.try_clone()?, heard.clone());
        let there = std::thread::spawn(move || {
            pass(from, into, |bytes| copy.lock().unwrap().client.extend(bytes))
        });
        pass(server, client, |bytes| heard.lock().unwrap().server.extend(bytes))?;
        there.join().unwrap()
    });
    (rogue, all)
}

fn pass(mut from: TcpStream, mut into: TcpStream, keep: impl Fn(&[u8])) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => {
                // Whoever is left is told; it may have gone as well.
                let _ = into.shutdown(Shutdown::Both);
                return Ok(());
            }
            Ok(length) => {
                keep(&buffer[..length]);
                into.write_all(&buffer[..length])?;
            }
        }
    }
}

/// The handshake messages that are not encrypted: up to the change of cipher (RFC 5246, section 7.1)
/// or the first encrypted record.
fn messages(mut stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
    const HANDSHAKE: u8 = 22;
    let mut text = Vec::new();
    while let [HANDSHAKE, _, _, high, low, rest @ ..] = stream {
        let (record, behind) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        text.extend(record);
        stream = behind;
    }
    let (mut messages, mut text) = (Vec::new(), &text[..]);
    while let [kind, a, b, c, rest @ ..] = text {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        messages.push((*kind, rest[..length].to_vec()));
        text = &rest[length..];
    }
    messages
}

/// Extensions of a hello (RFC 8446, sections 4.1.2 and 4.1.3).
fn extensions(kind: u8, hello: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let two = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let behind_session = &hello[35 + usize::from(hello[34])..];
    let rest = match kind {
        CLIENT_HELLO => {
            let behind_ciphers = &behind_session[2 + two(behind_session)..];
            &behind_ciphers[1 + usize::from(behind_ciphers[0])..]
        }
        _ => &behind_session[3..],
    };
    let mut list = &rest[2..2 + two(rest)];
    let mut extensions = Vec::new();
    while !list.is_empty() {
        let length = two(&list[2..]);
        extensions.push((two(list) as u16, list[4..4 + length].to_vec()));
        list = &list[4 + length..];
    }
    extensions
}

fn extension(kind: u8, stream: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let messages = messages(stream);
    let (_, hello) = messages.iter().find(|(found, _)| *found == kind).unwrap();
    extensions(kind, hello).into_iter().find(|(found, _)| *found == wanted).map(|(_, data)| data)
}

/// Runs six requests on new connections and returns what each connection carried.
fn heard(made: &Made, version: TlsVersion, protocol: Protocol, resume: bool) -> Vec<Heard> {
    let (_target, at) = made.target();
    let (rogue, all) = listening_in(at);
    let tls = Some(made.load(version, resume));
    let arrival = workloads::protocol::Arrival::Closed { connections: 1 };
    let connection = Connection::Newconn;
    let spec = LoadSpec { protocol, connection, arrival, tls, ..spec(rogue.at) };
    let report = Load::new(&spec).run(&requests(6));
    assert_eq!(report.requests, 6, "{:?}", report.errors);
    let all = all.lock().unwrap();
    assert_eq!(all.len() as u64, report.tuples_spent);
    let handshakes = report.handshakes.full + report.handshakes.resumed;
    assert_eq!(handshakes, 6, "one for each measured connection");
    all.iter().map(|heard| std::mem::take(&mut *heard.lock().unwrap())).collect()
}

#[test]
fn a_client_hello_asks_for_one_version_one_protocol_and_the_name_and_gets_them() {
    let made = Made::valid();
    for (version, code) in [(TlsVersion::V12, [3, 3]), (TlsVersion::V13, [3, 4])] {
        for (protocol, alpn) in
            [(Protocol::Http1, &b"\x00\x09\x08http/1.1"[..]), (Protocol::Http2, b"\x00\x03\x02h2")]
        {
            for Heard { client, server } in heard(&made, version, protocol, false) {
                let asked = |wanted| extension(CLIENT_HELLO, &client, wanted);
                let offered = asked(SUPPORTED_VERSIONS).unwrap();
                assert_eq!(offered, [&[2], &code[..]].concat());
                assert_eq!(asked(ALPN).unwrap(), alpn);
                let name = asked(SERVER_NAME).unwrap();
                assert!(name.ends_with(NAME.as_bytes()), "{name:?}");
                assert_eq!(asked(PRE_SHARED_KEY), None);
                match version {
                    TlsVersion::V12 => {
                        let protocol = extension(SERVER_HELLO, &server, ALPN).unwrap();
                        assert_eq!(protocol, alpn);
                    }
                    TlsVersion::V13 => {
                        let chosen = extension(SERVER_HELLO, &server, SUPPORTED_VERSIONS);
                        assert_eq!(chosen.unwrap(), code);
                    }
                }
            }
        }
    }
}

#[test]
fn a_resumed_handshake_has_no_certificate_and_fewer_bytes_than_a_full_one() {
    let made = Made::valid();
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut connections = heard(&made, version, Protocol::Http1, true);
        // Those that sessions were had from.
        let resumed = connections.split_off(connections.len() - 6);
        assert!(!connections.is_empty());
        let with_certificate = |heard: &Heard| match version {
            // In the clear up to TLS 1.2.
            TlsVersion::V12 => messages(&heard.server).iter().any(|(kind, _)| *kind == CERTIFICATE),
            // Encrypted since, and left out exactly where a pre-shared key was chosen (RFC 8446,
            // section 4.4.2).
            TlsVersion::V13 => extension(SERVER_HELLO, &heard.server, PRE_SHARED_KEY).is_none(),
        };
        assert!(connections.iter().all(with_certificate));
        assert!(!resumed.iter().any(with_certificate));
        let bytes = |heard: &Heard| heard.server.len();
        let (fewest, most) = (connections.iter().map(bytes).min(), resumed.iter().map(bytes).max());
        assert!(most < fewest, "{most:?} of a resumed one, {fewest:?} of a full one");
    }
}
