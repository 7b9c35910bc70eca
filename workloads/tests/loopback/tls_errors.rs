// SPDX-License-Identifier: Apache-2.0
//! Every kind of handshake that fails is reported under its own name.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use workloads::protocol::{Connection, LoadSpec, LoadTls, TlsVersion};

use crate::agents::Load;
use crate::certificates::Made;
use crate::rogue::{Rogue, close, reset};
use crate::workload::{CONNECTIONS, only_error, requests, spec};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The only error of six requests on new connections and on kept ones.
#[track_caller]
fn error_of(at: SocketAddr, tls: &LoadTls, timeout_ms: u64) -> String {
    let kinds = CONNECTIONS.map(|connection| {
        let spec = LoadSpec { connection, tls: Some(tls.clone()), timeout_ms, ..spec(at) };
        let report = Load::new(&spec).run(&requests(6));
        // The connections of a keepalive phase are tried before the clock starts, too.
        let ahead = if connection == Connection::Keepalive { 3 } else { 0 };
        assert_eq!(report.errors.values().sum::<u64>(), 6 + ahead, "{:?}", report.errors);
        assert_eq!((report.handshakes.full, report.handshakes.resumed), (0, 0));
        only_error(&report).to_owned()
    });
    assert_eq!(kinds[0], kinds[1]);
    kinds[0].clone()
}

#[test]
fn a_certificate_that_is_not_valid_now_is_expired_or_not_valid_yet() {
    let now = SystemTime::now();
    for version in [TlsVersion::V12, TlsVersion::V13] {
        for (from, to, kind) in [
            (now - 2 * DAY, now - DAY, "tls_expired"),
            (now + DAY, now + 2 * DAY, "tls_not_yet_valid"),
        ] {
            let made = Made::valid_in(from, to);
            let (_target, at) = made.target();
            assert_eq!(error_of(at, &made.load(version, false), 30_000), kind);
        }
    }
}

#[test]
fn a_certificate_of_somebody_else_or_for_another_name_is_named_so() {
    let (made, other) = (Made::valid(), Made::valid());
    let (_target, at) = made.target();
    let stranger = other.load(TlsVersion::V13, false);
    assert_eq!(error_of(at, &stranger, 30_000), "tls_unknown_authority");
    let misnamed =
        LoadTls { name: "db.default.svc".to_owned(), ..made.load(TlsVersion::V13, false) };
    assert_eq!(error_of(at, &misnamed, 30_000), "tls_wrong_name");
}

/// Reads what there is of the client's first words, then does something else than to answer them.
fn instead(answer: fn(TcpStream) -> io::Result<()>) -> Rogue {
    Rogue::new(move |mut stream| {
        let _ = stream.read(&mut [0; 4096])?;
        answer(stream)
    })
}

/// A fatal alert (RFC 8446, section 6).
fn alert(mut stream: TcpStream, description: u8) -> io::Result<()> {
    stream.write_all(&[21, 3, 3, 0, 2, 2, description])?;
    close(stream)
}

#[test]
fn the_other_side_may_refuse_end_or_say_nothing() {
    let tls = Made::valid().load(TlsVersion::V13, false);
    let kind = |rogue: &Rogue, timeout_ms| error_of(rogue.at, &tls, timeout_ms);
    assert_eq!(kind(&instead(|stream| alert(stream, 70)), 30_000), "tls_version");
    assert_eq!(kind(&instead(|stream| alert(stream, 120)), 30_000), "tls_protocol");
    assert_eq!(kind(&instead(|stream| alert(stream, 40)), 30_000), "tls_other");
    assert_eq!(kind(&instead(close), 30_000), "tls_closed");
    assert_eq!(kind(&instead(|stream| reset(&stream)), 30_000), "tls_reset");
    let talks = instead(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
        close(stream)
    });
    assert_eq!(kind(&talks, 30_000), "tls_other");
    let silent = instead(|mut stream| io::copy(&mut stream, &mut io::sink()).map(drop));
    assert_eq!(kind(&silent, 60), "tls_timeout");
}
