// SPDX-License-Identifier: Apache-2.0
//! Messages of WebSocket against another implementation of it: its client at our server, its server at our
//! client; and servers that do what none should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, WebSocket};
use workloads::protocol::{Arrival, Connection, LoadSpec, Protocol, Schedule, TlsVersion};

use crate::agents::{Load, Target};
use crate::certificates::{Made, NAME};
use crate::rogue::{Rogue, Talk, close, reset};
use crate::workload::{CONNECTIONS, above_ms, only_error, place, requests, spec};

/// What a request begins with: the length of the answer, the work, the id.
const ASK_BYTES: usize = 24;

fn ask(response_bytes: u64, work_ns: u64, more: usize) -> Bytes {
    let mut message = [response_bytes, work_ns, 0].map(u64::to_be_bytes).concat();
    message.resize(ASK_BYTES + more, b'p');
    message.into()
}

/// A client that is not ours. It takes messages of any length.
fn client<S: Read + Write>(at: SocketAddr, stream: S) -> WebSocket<S> {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let url = format!("ws://{at}/websocket");
    tungstenite::client::client_with_config(url, stream, Some(config)).unwrap().0
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Asks for so many bytes and reads that many.
fn exchange<S: Read + Write>(client: &mut WebSocket<S>, response_bytes: u64, more: usize) {
    client.send(Message::Binary(ask(response_bytes, 0, more))).unwrap();
    let Message::Binary(answer) = client.read().unwrap() else { panic!("no bytes") };
    assert_eq!(answer.len() as u64, response_bytes);
    assert!(answer.iter().all(|&byte| byte == b'.'));
}

/// The code that the server closes with.
fn closed<S: Read + Write>(mut client: WebSocket<S>) -> u16 {
    loop {
        match client.read() {
            Ok(Message::Close(Some(CloseFrame { code, .. }))) => return code.into(),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_client_of_another_implementation_is_answered_by_ours() {
    let at = place();
    let mut target = Target::listen(at);
    let mut client = client(at, connect(at));
    let asked = [(0, 0), (1, 0), (125, 1), (126, 102), (65_536, 200_000), (3_000_000, 0)];
    for (response_bytes, more) in asked {
        exchange(&mut client, response_bytes, more);
    }
    // Parts of a message, with a ping between them, which is answered before the message is.
    let message = ask(7, 0, 30);
    let part = |range: std::ops::Range<usize>, opcode, last| {
        let bytes = message.slice(range);
        Message::Frame(Frame::message(bytes, OpCode::Data(opcode), last))
    };
    client.send(part(0..10, Data::Binary, false)).unwrap();
    client.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    client.send(part(10..11, Data::Continue, false)).unwrap();
    client.send(part(11..54, Data::Continue, true)).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
    assert_eq!(client.read().unwrap(), Message::Binary(Bytes::from_static(b".......")));
    // Several at once, which are answered one behind the other.
    for response_bytes in [300_000, 1, 0] {
        client.write(Message::Binary(ask(response_bytes, 0, 0))).unwrap();
    }
    client.flush().unwrap();
    for response_bytes in [300_000, 1, 0] {
        assert_eq!(client.read().unwrap().len(), response_bytes);
    }
    let reason = CloseFrame { code: CloseCode::Away, reason: "done".into() };
    client.close(Some(reason)).unwrap();
    assert_eq!(closed(client), 1001);
    assert_eq!(target.drain().1, 6 + 1 + 3);
}

#[test]
fn a_server_says_why_it_closes() {
    let at = place();
    let _target = Target::listen(at);
    let code_of = |message: Message| {
        let mut client = client(at, connect(at));
        client.send(message).unwrap();
        closed(client)
    };
    assert_eq!(code_of(Message::Text("bytes, please".into())), 1003);
    assert_eq!(code_of(Message::Binary(Bytes::from_static(b"short"))), 1008);
    assert_eq!(code_of(Message::Binary(ask(u64::MAX, 0, 0))), 1008);
    assert_eq!(code_of(Message::Binary(ask(0, 2_000_000_000, 0))), 1008);
    let continued = Frame::message(ask(0, 0, 0), OpCode::Data(Data::Continue), true);
    assert_eq!(code_of(Message::Frame(continued)), 1002);
    // A client that does not mask, and one whose message would be longer than any that is read.
    for (bytes, code) in [
        (&[0x82, 1, b'x'][..], 1002),
        (&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        (&[0xf2, 0x80, 1, 2, 3, 4], 1002),
    ] {
        let mut stream = client(at, connect(at)).into_inner();
        stream.write_all(bytes).unwrap();
        let config = Some(WebSocketConfig::default());
        assert_eq!(closed(WebSocket::from_raw_socket(stream, Role::Client, config)), code);
    }
}

#[test]
fn what_asks_for_no_upgrade_or_another_is_answered_by_http() {
    let at = place();
    let _target = Target::listen(at);
    let status = |head: &str| {
        let mut stream = connect(at);
        write!(stream, "{head}\r\nhost: a\r\nconnection: close, upgrade\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(status("GET /websocket HTTP/1.1"), "426");
    let old = format!(
        "GET /websocket HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\n{key}"
    );
    assert_eq!(status(&old), "426");
    let bare = "GET /websocket HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-version: 13";
    assert_eq!(status(bare), "400");
    assert_eq!(status(&format!("GET /bytes/3 HTTP/1.1\r\nupgrade: websocket\r\n{key}")), "200");
}

#[test]
fn a_client_of_another_implementation_is_answered_over_tls_too() {
    let made = Made::valid();
    let (mut target, at) = made.target();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.authority.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = client(at, rustls::StreamOwned::new(session, connect(at)));
    for (response_bytes, more) in [(0, 0), (100, 100), (1_000_000, 500_000)] {
        exchange(&mut client, response_bytes, more);
    }
    assert_eq!(target.drain().1, 3);
}

/// Answers to so many bytes that are something else than these bytes.
mod odd {
    pub(super) const CLOSED: u64 = 1001;
    pub(super) const CLOSED_WITHOUT_A_WORD: u64 = 1002;
    pub(super) const TEXT: u64 = 1003;
    pub(super) const SHORT: u64 = 1004;
    pub(super) const LONG: u64 = 1005;
    pub(super) const FIN: u64 = 1006;
    pub(super) const MASKED: u64 = 1007;
    /// And these behind a ping, and in parts.
    pub(super) const PINGED: u64 = 1008;
}

/// A server that is not ours.
fn serve(stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    // tungstenite's own type of error, of that size.
    #[expect(clippy::result_large_err)]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().path(), "/websocket");
        assert!(request.headers().contains_key("host"));
        Ok(response)
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let Ok(mut socket) = tungstenite::accept_hdr_with_config(stream, check, Some(config)) else {
        return Ok(());
    };
    loop {
        let Message::Binary(message) = socket.read()? else { continue };
        let bytes = u64::from_be_bytes(message[..8].try_into().unwrap());
        assert!(message[ASK_BYTES..].iter().all(|&byte| byte == b'.'), "it is unmasked to filler");
        let filler = |length| Bytes::from(vec![b'a'; length]);
        let part = |length, opcode, last| {
            Message::Frame(Frame::message(filler(length), OpCode::Data(opcode), last))
        };
        match bytes {
            odd::CLOSED => {
                socket.close(Some(CloseFrame { code: CloseCode::Again, reason: "".into() }))?
            }
            odd::CLOSED_WITHOUT_A_WORD => socket.close(None)?,
            odd::TEXT => socket.send(Message::Text("a".repeat(bytes as usize).into()))?,
            odd::SHORT => socket.send(Message::Binary(filler(bytes as usize - 1)))?,
            odd::LONG => socket.send(Message::Binary(filler(100_000)))?,
            odd::FIN => return Ok(close(socket.into_inner())?),
            odd::MASKED => socket.get_mut().write_all(&[0x82, 0x81, 1, 2, 3, 4, 5])?,
            odd::PINGED => {
                socket.send(Message::Ping(Bytes::from_static(b"first")))?;
                socket.send(part(8, Data::Binary, false))?;
                socket.send(Message::Ping(Bytes::from_static(b"then")))?;
                socket.send(part(0, Data::Continue, false))?;
                socket.send(part(1000, Data::Continue, true))?;
                // Of several pings the last may be the one that is answered.
                while socket.read()? != Message::Pong(Bytes::from_static(b"then")) {}
            }
            _ => socket.send(Message::Binary(filler(bytes as usize)))?,
        }
    }
}

#[test]
fn a_server_of_another_implementation_answers_our_client() {
    let server = Rogue::new(|stream| serve(stream).map_err(std::io::Error::other));
    for connection in CONNECTIONS {
        let spec = LoadSpec { protocol: Protocol::WebSocket, connection, ..spec(server.at) };
        let ask = |request_bytes, response_bytes| {
            Load::new(&LoadSpec { request_bytes, response_bytes, ..spec.clone() })
                .run(&requests(20))
        };
        for (send, receive) in [
            (0, 0),
            (0, 10),
            (1, 125),
            (100, 126),
            (70_000, 1_000_000),
            (3_000_000, 1),
            (0, odd::PINGED),
        ] {
            let report = ask(send, receive);
            assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
            let upgraded = report.upgrade.iter().map(|pair| pair.1).sum::<u64>();
            let each = if connection == Connection::Newconn { 20 } else { 0 };
            assert_eq!(upgraded, each);
        }
        for (answer, kind) in [
            (odd::CLOSED, "ws_close_1013"),
            (odd::CLOSED_WITHOUT_A_WORD, "closed"),
            (odd::TEXT, "ws_protocol"),
            (odd::SHORT, "length"),
            (odd::LONG, "length"),
            (odd::FIN, "closed"),
            (odd::MASKED, "ws_protocol"),
        ] {
            assert_eq!(only_error(&ask(0, answer)), kind, "{connection:?}");
        }
    }
}

/// The only error of requests on connections of both kinds whose upgrade a server answers so.
fn error_of_upgrade(serve: impl Fn(Talk) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let rogue = Rogue::new(move |stream| {
        let mut talk = Talk::new(stream)?;
        talk.request()?;
        serve(talk)
    });
    let kinds = CONNECTIONS.map(|connection| {
        let protocol = Protocol::WebSocket;
        let spec = LoadSpec { protocol, connection, timeout_ms: 300, ..spec(rogue.at) };
        only_error(&Load::new(&spec).run(&requests(4))).to_owned()
    });
    assert_eq!(kinds[0], kinds[1]);
    kinds[0].clone()
}

#[test]
fn an_upgrade_that_is_not_granted_is_an_error_by_its_kind() {
    let says = |text: &'static str| {
        error_of_upgrade(move |mut talk| {
            talk.respond(text)?;
            talk.hold()
        })
    };
    assert_eq!(says("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"), "status_503");
    assert_eq!(says("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"), "status_200");
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(says(wrong), "ws_accept");
    assert_eq!(says("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "ws_accept");
    assert_eq!(says("no HTTP\r\n\r\n"), "other");
    assert_eq!(says(""), "ws_timeout");
    assert_eq!(error_of_upgrade(Talk::close), "closed");
    assert_eq!(error_of_upgrade(Talk::reset), "reset");
}

#[test]
fn what_was_not_asked_for_ends_a_kept_connection_and_pings_do_not() {
    // In the write that grants the upgrade: a message, the beginning of one, the end.
    let said: [(&[u8], _); 3] = [
        (&[0x82, 1, b'x'], "ws_protocol"),
        (&[0x02, 1, b'x'], "ws_protocol"),
        (&[0x88, 2, 3, 0xf3], "ws_close_1011"),
    ];
    for (bytes, kind) in said {
        let rogue = Rogue::new(move |mut stream| {
            let mut head = BufReader::new(&stream).lines().map_while(Result::ok);
            let key =
                head.find_map(|line| Some(line.strip_prefix("sec-websocket-key: ")?.to_owned()));
            let accept = derive_accept_key(key.unwrap().as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            );
            stream.write_all(&[answer.as_bytes(), bytes].concat())?;
            std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
        });
        let spec = LoadSpec { protocol: Protocol::WebSocket, ..spec(rogue.at) };
        for connection in CONNECTIONS {
            let report = Load::new(&LoadSpec { connection, ..spec.clone() }).run(&requests(3));
            assert_eq!(only_error(&report), kind);
        }
    }
    // A ping behind every answer: it is answered whether or not the next request has been sent meanwhile.
    let rogue = Rogue::new(move |stream| {
        let mut socket = tungstenite::accept(stream).map_err(std::io::Error::other)?;
        loop {
            socket.send(Message::Ping(Bytes::from_static(b"?"))).map_err(std::io::Error::other)?;
            let said = [(); 2].map(|()| socket.read().unwrap_or(Message::Close(None)));
            let message = match said {
                [Message::Pong(pong), Message::Binary(message)]
                | [Message::Binary(message), Message::Pong(pong)]
                    if pong == "?" =>
                {
                    message
                }
                [.., Message::Close(_)] => return Ok(()),
                other => panic!("{other:?}"),
            };
            let bytes = u64::from_be_bytes(message[..8].try_into().unwrap());
            let answer = Message::Binary(vec![b'a'; bytes as usize].into());
            socket.send(answer).map_err(std::io::Error::other)?;
        }
    });
    let protocol = Protocol::WebSocket;
    let open = Arrival::Open { rate: 400.0, schedule: Schedule::Uniform, max_in_flight: 3 };
    for arrival in [open, Arrival::Closed { connections: 2 }] {
        let spec = LoadSpec { protocol, arrival, ..spec(rogue.at) };
        let report = Load::new(&spec).run(&requests(40));
        // A machine that stands still for a moment has the open loop send less than it was to.
        let overload = report.errors.get("overload").copied().unwrap_or_default();
        assert_eq!(report.requests + overload, 40, "{:?}", report.errors);
        let clients: std::collections::HashSet<_> =
            report.samples.iter().map(|sample| sample.client).collect();
        assert!(clients.len() <= 3, "connections are kept");
    }
}

#[test]
fn ids_and_work_reach_the_server_and_offsets_are_those_of_messages() {
    let at = place();
    let _target = Target::listen(at);
    let spec = LoadSpec {
        protocol: Protocol::WebSocket,
        request_ids: true,
        server_work_ns: 3_000_000,
        request_bytes: 10,
        response_bytes: 200,
        ..spec(at)
    };
    for connection in CONNECTIONS {
        let report = Load::new(&LoadSpec { connection, ..spec.clone() }).run(&requests(12));
        assert_eq!((report.requests, report.samples.len()), (12, 12), "{:?}", report.errors);
        assert_eq!(above_ms(&report.first_byte, 2), 12);
        let mut ids: Vec<_> = report.samples.iter().map(|sample| sample.id.unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=12).collect::<Vec<_>>());
        for a in &report.samples {
            assert_eq!(a.upgraded_ns.is_some(), connection == Connection::Newconn);
            let opened = [a.connected_ns, a.upgraded_ns, Some(a.sent_ns)];
            assert!(opened.iter().flatten().is_sorted(), "{a:?}");
            let next = report
                .samples
                .iter()
                .filter(|b| a.client == b.client && b.request_offset > a.request_offset);
            if let Some(next) = next.min_by_key(|b| b.request_offset) {
                // Headers of 6 and of 4 bytes: masked and short, bare and longer.
                assert_eq!(next.request_offset - a.request_offset, 6 + ASK_BYTES as u64 + 10);
                assert_eq!(next.response_offset - a.response_offset, 4 + 200);
            }
        }
    }
}

#[test]
fn our_ends_talk_over_tls_in_both_versions() {
    let made = Made::valid();
    let (mut target, at) = made.target();
    let mut served = 0;
    for version in [TlsVersion::V12, TlsVersion::V13] {
        for connection in CONNECTIONS {
            let tls = Some(made.load(version, connection == Connection::Newconn));
            let spec = LoadSpec {
                protocol: Protocol::WebSocket,
                connection,
                tls,
                request_bytes: 100_000,
                response_bytes: 200_000,
                ..spec(at)
            };
            let mut load = Load::new(&spec);
            let report = load.run(&requests(20));
            assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
            for sample in &report.samples {
                let upgraded_ns = sample.upgraded_ns.unwrap_or(sample.sent_ns);
                let times = [sample.secured_ns.unwrap_or(upgraded_ns), upgraded_ns, sample.sent_ns];
                assert!(times.is_sorted(), "{sample:?}");
            }
            // Connections that only sessions were had from are served, too.
            let now = target.drain().1;
            assert!(now >= served + 20);
            served = now;
        }
    }
}

#[test]
fn a_connection_that_is_reset_in_the_middle_of_an_answer_is_an_error_of_its_kind() {
    let rogue = Rogue::new(|stream| {
        let mut socket = tungstenite::accept(stream).map_err(std::io::Error::other)?;
        let _ = socket.read();
        let mut stream = socket.into_inner();
        stream.write_all(&[0x82, 10, b'h', b'a', b'l', b'f'])?;
        std::thread::sleep(Duration::from_millis(20));
        reset(&stream)
    });
    for connection in CONNECTIONS {
        let spec = LoadSpec { protocol: Protocol::WebSocket, connection, ..spec(rogue.at) };
        assert_eq!(only_error(&Load::new(&spec).run(&requests(4))), "reset");
    }
}
