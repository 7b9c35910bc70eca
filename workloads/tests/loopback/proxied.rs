// SPDX-License-Identifier: Apache-2.0
//! A target that is spoken to by proxies: whom it takes for its client, and what it does not serve.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use workloads::protocol::TargetSpec;

use crate::agents::Target;
use crate::workload::place;

const ASK: &[u8] = b"GET /bytes/3 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

/// What is answered to these pieces, sent apart; empty where the connection is closed.
fn answer(at: std::net::SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // It may have hung up before it is told all.
        let _ = stream.write_all(piece);
        // Each in a segment of its own, read by itself.
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn the_client_is_whom_the_proxy_says_and_a_connection_without_that_word_is_closed() {
    let at = place();
    let spec =
        TargetSpec { listen: vec![at], proxy_protocol: true, tls: None, pod: "p".to_owned() };
    let mut target = Target::listen_as(spec);
    let client = "10.8.0.1:900".parse().unwrap();
    let binary = workloads::preamble(client, at);
    let line = format!("PROXY TCP4 10.8.0.1 {} 900 {}\r\n", at.ip(), at.port());
    for preamble in [binary.as_slice(), line.as_bytes()] {
        let whole = [preamble, ASK].concat();
        let (first, rest) = preamble.split_at(5);
        for pieces in [&[&whole[..]][..], &[preamble, ASK], &[first, rest, ASK]] {
            let answer = answer(at, pieces);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("x-peer: 10.8.0.1:900"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n..."), "{answer}");
        }
    }
    // A health check of the proxy's own.
    let own = answer(at, &[b"PROXY UNKNOWN\r\n", ASK]);
    assert!(own.contains("x-peer: 127."), "{own}");
    // A client of the other family, whom the proxy has met as such.
    let six = answer(at, &[b"PROXY TCP6 fd00:10:8::1 fd00:10:9::b 900 80\r\n", ASK]);
    assert!(six.contains("x-peer: [fd00:10:8::1]:900"), "{six}");
    assert_eq!(target.drain().1, 8);
    for none in [&[ASK][..], &[b"PROXY TCP4 nonsense\r\n", ASK], &[b"PROXY TCP6 nonsense\r\n", ASK]]
    {
        assert_eq!(answer(at, none), "", "{none:?}");
    }
    assert_eq!(target.drain().1, 8, "what has no preamble is not served");
}
