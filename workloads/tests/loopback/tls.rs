// SPDX-License-Identifier: Apache-2.0
//! Requests over TLS: every version of TLS and HTTP, sessions resumed and not.

use std::io::Write;
use std::process::{Command, Stdio};

use workloads::protocol::{Connection, Handshakes, LoadSpec, TlsVersion};

use crate::agents::{Agent, Load};
use crate::certificates::{Made, NAME};
use crate::workload::{CLOSED, CONNECTIONS, OPEN, PROTOCOLS, place, requests, spec};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

fn sum(pairs: &[(u64, u64)]) -> u64 {
    pairs.iter().map(|pair| pair.1).sum()
}

#[test]
fn every_version_is_answered_and_handshakes_are_as_many_as_connections() {
    let made = Made::valid();
    let (_target, at) = made.target();
    for (version, protocol) in VERSIONS.into_iter().flat_map(|v| PROTOCOLS.map(|p| (v, p))) {
        for connection in CONNECTIONS {
            for arrival in [CLOSED, OPEN] {
                let tls = Some(made.load(version, false));
                let bodies = LoadSpec { request_bytes: 3000, response_bytes: 70_000, ..spec(at) };
                let spec = LoadSpec { protocol, connection, arrival, tls, ..bodies };
                let report = Load::new(&spec).run(&requests(20));
                assert_eq!(report.requests, 20, "{:?}", report.errors);
                let full = report.tuples_spent;
                assert_eq!(report.handshakes, Handshakes { full, resumed: 0 });
                let fresh = if connection == Connection::Newconn { 20 } else { 0 };
                assert_eq!((sum(&report.connect), sum(&report.tls)), (fresh, fresh));
                for sample in &report.samples {
                    let times = [sample.connected_ns, sample.secured_ns, Some(sample.sent_ns)];
                    assert_eq!(sample.secured_ns.is_some(), connection == Connection::Newconn);
                    assert!(times.iter().flatten().is_sorted(), "{sample:?}");
                }
            }
        }
    }
}

#[test]
fn every_measured_connection_resumes_a_session_that_was_had_before_the_clock_started() {
    let made = Made::valid();
    let (_target, at) = made.target();
    for version in VERSIONS {
        for arrival in [CLOSED, OPEN] {
            let tls = Some(made.load(version, true));
            let connection = Connection::Newconn;
            let mut load = Load::new(&LoadSpec { connection, arrival, tls, ..spec(at) });
            for phase in 0..2 {
                let report = load.run(&requests(60));
                assert_eq!(report.requests, 60, "{:?}", report.errors);
                assert_eq!(report.handshakes, Handshakes { full: 0, resumed: 60 });
                let before = report.tuples_spent - 60;
                assert_eq!(before > 0, phase == 0, "sessions outlive their phase: {before}");
            }
        }
    }
}

#[test]
fn a_spec_that_makes_no_sense_is_refused_by_its_key() {
    let made = Made::valid();
    let refusal = |spec: &LoadSpec| {
        let mut agent = Agent::load();
        agent.say(&serde_json::to_string(spec).unwrap());
        let (answers, code, words) = agent.end();
        assert_eq!((answers.len(), code), (0, Some(2)));
        words
    };
    let resumed = Some(made.load(TlsVersion::V13, true));
    let kept = LoadSpec { tls: resumed, ..spec(place()) };
    assert!(refusal(&kept).contains("`tls.resume` is of new connections"));
    let nobody = workloads::protocol::LoadTls {
        authority: "nobody".to_owned(),
        ..made.load(TlsVersion::V13, false)
    };
    let untrusting = LoadSpec { tls: Some(nobody), ..spec(place()) };
    assert!(refusal(&untrusting).contains("`tls.authority` is no certificate"));
}

#[test]
fn openssl_agrees_on_the_version_and_on_the_protocol() {
    let made = Made::valid();
    let (_target, at) = made.target();
    let authority = tempfile::NamedTempFile::new().unwrap();
    authority.as_file().write_all(made.authority.as_bytes()).unwrap();
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for alpn in ["h2", "http/1.1"] {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &at.to_string(), flag, "-alpn", alpn]);
            command.args(["-servername", NAME, "-verify_hostname", NAME, "-verify_return_error"]);
            command.arg("-CAfile").arg(authority.path()).stdin(Stdio::null());
            let output = match command.output() {
                Ok(output) => output,
                Err(error) => return eprintln!("SKIP openssl cannot be run here: {error}"),
            };
            let words = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{words} {output:?}");
            assert!(words.contains(&format!("New, {version}")), "{words}");
            assert!(words.contains(&format!("ALPN protocol: {alpn}")), "{words}");
            assert!(words.contains("Verification: OK"), "{words}");
        }
    }
    // What the same client would make of a version that nobody speaks any more.
    let old = ["s_client", "-connect", &at.to_string(), "-tls1_1"];
    let refused = Command::new("openssl").args(old).stdin(Stdio::null()).output().unwrap();
    assert!(!refused.status.success());
}
