// SPDX-License-Identifier: Apache-2.0
//! The reverse proxy between `load` and `target`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use workloads::protocol::{
    Connection, IngressCommand, IngressReply, IngressRule, IngressSpec, LoadSpec, PhaseReport,
    Protocol, TargetSpec, TargetTls, TlsVersion,
};

use crate::agents::{Load, Target};
use crate::certificates::Made;
use crate::workload::{CONNECTIONS, PROTOCOLS, only_error, place, requests, spec};

const HOST: &str = "web.default.example";
/// Longest wait for an answer: it bounds a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent on a thread of the test's; ends when dropped.
struct Ingress {
    input: UnixStream,
    output: BufReader<UnixStream>,
}

impl Ingress {
    fn start(listen: SocketAddrV4, tls: Option<TargetTls>, rules: Vec<IngressRule>) -> Self {
        let (input, its_input) = UnixStream::pair().unwrap();
        let (output, its_output) = UnixStream::pair().unwrap();
        output.set_read_timeout(Some(PATIENCE)).unwrap();
        std::thread::spawn(move || {
            workloads::ingress::run(BufReader::new(its_input), its_output).unwrap();
        });
        let mut ingress = Self { input, output: BufReader::new(output) };
        let spec = IngressSpec { listen: vec![listen], tls, rules };
        writeln!(ingress.input, "{}", serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(ingress.answer(), IngressReply::Ready);
        ingress
    }

    fn answer(&mut self) -> IngressReply {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Requests that each of these backends answered.
    fn carried(&mut self, backends: &[SocketAddrV4]) -> Vec<u64> {
        let command = serde_json::to_string(&IngressCommand::Count).unwrap();
        writeln!(self.input, "{command}").unwrap();
        let IngressReply::Carried(all) = self.answer() else { panic!("no counts") };
        let of = |backend| all.iter().find(|(at, _)| at == backend).map_or(0, |(_, count)| *count);
        backends.iter().map(of).collect()
    }
}

fn rule(backends: &[SocketAddrV4]) -> IngressRule {
    IngressRule { host: HOST.to_owned(), path: "/".to_owned(), backends: backends.to_vec() }
}

/// A place where nobody listens.
fn dead() -> SocketAddrV4 {
    place()
}

fn pod(name: &str) -> (Target, SocketAddrV4) {
    let at = place();
    let spec = TargetSpec { listen: vec![at], tls: None, pod: name.to_owned() };
    (Target::listen_as(spec), at)
}

fn load(spec: &LoadSpec, count: u64) -> PhaseReport {
    Load::new(spec).run(&requests(count))
}

fn asking(at: SocketAddrV4) -> LoadSpec {
    LoadSpec { host: Some(HOST.to_owned()), request_ids: true, ..spec(at) }
}

#[test]
fn requests_go_to_the_backends_of_their_host_in_turn() {
    let ((_one, one), (_two, two)) = (pod("one"), pod("two"));
    let at = place();
    let mut ingress = Ingress::start(at, None, vec![rule(&[one, two])]);
    for protocol in PROTOCOLS {
        for connection in CONNECTIONS {
            let spec = LoadSpec {
                protocol,
                connection,
                request_bytes: 3000,
                response_bytes: 70_000,
                ..asking(at)
            };
            let report = load(&spec, 20);
            assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
        }
    }
    assert_eq!(ingress.carried(&[one, two]), [40, 40]);
    let elsewhere = LoadSpec { host: Some("other.example".to_owned()), ..asking(at) };
    assert_eq!(only_error(&load(&elsewhere, 3)), "status_404");
}

#[test]
fn tls_ends_at_it() {
    let (_pod, backend) = pod("one");
    let made = Made::valid();
    let (clear, at) = (place(), place());
    let tls = made.target_at(vec![at]);
    let _ingress = Ingress::start(clear, Some(tls), vec![rule(&[backend])]);
    for (version, protocol) in
        [(TlsVersion::V12, Protocol::Http1), (TlsVersion::V13, Protocol::Http2)]
    {
        let tls = Some(made.load(version, false));
        let spec = LoadSpec { connection: Connection::Newconn, protocol, tls, ..asking(at) };
        let report = load(&spec, 10);
        assert_eq!((report.requests, report.handshakes.full), (10, 10), "{:?}", report.errors);
    }
}

#[test]
fn a_backend_that_is_gone_is_passed_over_and_none_left_is_a_bad_gateway() {
    let (mut target, backend) = pod("one");
    let at = place();
    let (gone, lost) = (dead(), "lost.example");
    let alone = IngressRule { host: lost.to_owned(), ..rule(&[gone]) };
    let mut ingress = Ingress::start(at, None, vec![rule(&[gone, backend]), alone]);
    let report = load(&asking(at), 20);
    assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
    assert_eq!((ingress.carried(&[gone, backend]), target.drain().1), (vec![0, 20], 20));
    let only = LoadSpec { host: Some(lost.to_owned()), ..asking(at) };
    assert_eq!(only_error(&load(&only, 3)), "status_502");
    // What it keeps open ends with the backend, and is noticed.
    drop(target);
    assert_eq!(only_error(&load(&asking(at), 3)), "status_502");
}

#[test]
fn a_request_arrives_as_it_was_sent_but_for_what_is_between_neighbours() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(to) = backend.local_addr().unwrap() else { panic!("IPv4") };
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = backend.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=5\r\nx-pod: a\r\n\r\nhi")
            .unwrap();
        String::from_utf8(head).unwrap()
    });
    let at = place();
    let _ingress = Ingress::start(at, None, vec![rule(&[to])]);
    let mut client = TcpStream::connect(at).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /a?b=c HTTP/1.1\r\nHost: {HOST}:80\r\nConnection: close, x-hop\r\nx-hop: 1\r\n\
         x-request-id: 00000000000000ff\r\nTE: trailers\r\n\r\n"
    );
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"),
        "{answer}"
    );
    assert!(answer.contains("x-pod: a") && !answer.contains("keep-alive:"), "{answer}");
    let head = seen.join().unwrap();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    for line in [
        "host: web.default.example:80",
        "x-request-id: 00000000000000ff",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
    for gone in ["x-hop", "connection:", "te:"] {
        assert!(!head.contains(&format!("\r\n{gone}")), "{gone} in {head}");
    }
}
