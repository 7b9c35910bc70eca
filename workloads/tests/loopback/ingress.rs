// SPDX-License-Identifier: Apache-2.0
//! The reverse proxy between `load` and `target`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use workloads::protocol::{
    BackendTls, Connection, IngressCommand, IngressReply, IngressRule, IngressSpec, LoadSpec,
    LoadTls, PhaseReport, Protocol, TargetSpec, TargetTls, TlsVersion,
};

use crate::agents::{Load, Target};
use crate::certificates::{Made, NAME};
use crate::workload::{CONNECTIONS, only_error, place, requests, spec};

const HOST: &str = "web.default.example";
/// Longest wait for an answer: it bounds a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent on a thread of the test's; ends when dropped.
pub(crate) struct Ingress {
    input: UnixStream,
    output: BufReader<UnixStream>,
}

impl Ingress {
    fn start(listen: SocketAddr, tls: Option<TargetTls>, rules: Vec<IngressRule>) -> Self {
        Self::start_as(IngressSpec { tls, ..listening(listen, rules) })
    }

    pub(crate) fn start_as(spec: IngressSpec) -> Self {
        let (input, its_input) = UnixStream::pair().unwrap();
        let (output, its_output) = UnixStream::pair().unwrap();
        output.set_read_timeout(Some(PATIENCE)).unwrap();
        std::thread::spawn(move || {
            workloads::ingress::run(BufReader::new(its_input), its_output).unwrap();
        });
        let mut ingress = Self { input, output: BufReader::new(output) };
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
    fn carried(&mut self, backends: &[SocketAddr]) -> Vec<u64> {
        let command = serde_json::to_string(&IngressCommand::Count).unwrap();
        writeln!(self.input, "{command}").unwrap();
        let IngressReply::Carried(all) = self.answer() else { panic!("no counts") };
        let of = |backend| all.iter().find(|(at, _)| at == backend).map_or(0, |(_, count)| *count);
        backends.iter().map(of).collect()
    }
}

/// In the clear, over HTTP/1.1.
pub(crate) fn listening(at: SocketAddr, rules: Vec<IngressRule>) -> IngressSpec {
    IngressSpec {
        listen: vec![at],
        tls: None,
        passthrough: Vec::new(),
        backend_tls: None,
        backend_http2: false,
        rules,
    }
}

pub(crate) fn rule(backends: &[SocketAddr]) -> IngressRule {
    IngressRule { host: HOST.to_owned(), path: "/".to_owned(), backends: backends.to_vec() }
}

/// A place where nobody listens.
fn dead() -> SocketAddr {
    place()
}

fn pod(name: &str) -> (Target, SocketAddr) {
    let at = place();
    let spec =
        TargetSpec { listen: vec![at], proxy_protocol: false, tls: None, pod: name.to_owned() };
    (Target::listen_as(spec), at)
}

fn load(spec: &LoadSpec, count: u64) -> PhaseReport {
    Load::new(spec).run(&requests(count))
}

pub(crate) fn asking(at: SocketAddr) -> LoadSpec {
    LoadSpec { host: Some(HOST.to_owned()), request_ids: true, ..spec(at) }
}

#[test]
fn requests_go_to_the_backends_of_their_host_in_turn() {
    let ((_one, one), (_two, two)) = (pod("one"), pod("two"));
    let at = place();
    let mut ingress = Ingress::start(at, None, vec![rule(&[one, two])]);
    // Backends are asked over HTTP/1.1.
    for protocol in [Protocol::Http1, Protocol::Http2] {
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
fn upgrades_are_passed_on_and_their_connections_joined() {
    let ((mut first, one), (_two, two)) = (pod("one"), pod("two"));
    let (clear, at) = (place(), place());
    let made = Made::valid();
    let tls = made.target_at(vec![at]);
    let mut ingress = Ingress::start(clear, Some(tls), vec![rule(&[one, two])]);
    for connection in CONNECTIONS {
        for (at, tls) in [(clear, None), (at, Some(made.load(TlsVersion::V13, false)))] {
            let spec = LoadSpec {
                protocol: Protocol::WebSocket,
                connection,
                tls,
                request_bytes: 200_000,
                response_bytes: 70_000,
                ..asking(at)
            };
            let report = load(&spec, 20);
            assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
        }
    }
    let carried = ingress.carried(&[one, two]);
    assert_eq!(carried.iter().sum::<u64>(), 20 + 20 + 3 + 3, "each upgrade once");
    assert!((carried[0] as i64 - carried[1] as i64).abs() <= 1, "{carried:?}");
    assert!((20..60).contains(&first.drain().1));
    let spec = |host: &str| LoadSpec {
        protocol: Protocol::WebSocket,
        host: Some(host.to_owned()),
        ..asking(clear)
    };
    assert_eq!(only_error(&load(&spec("other.example"), 3)), "status_404");
    drop(first);
    let report = load(&spec(HOST), 10);
    assert_eq!((report.requests, report.errors.len()), (10, 0), "{:?}", report.errors);
}

#[test]
fn calls_are_asked_of_pods_over_http2_and_their_trailers_come_back() {
    let ((mut first, one), (_two, two)) = (pod("one"), pod("two"));
    let (clear, at) = (place(), place());
    let made = Made::valid();
    let mut ingress = Ingress::start_as(IngressSpec {
        tls: Some(made.target_at(vec![at])),
        backend_http2: true,
        ..listening(clear, vec![rule(&[one, two])])
    });
    for connection in CONNECTIONS {
        for (at, tls) in [(clear, None), (at, Some(made.load(TlsVersion::V13, false)))] {
            let spec = LoadSpec {
                protocol: Protocol::Grpc,
                connection,
                tls,
                request_bytes: 200_000,
                response_bytes: 70_000,
                ..asking(at)
            };
            // Without the trailers' word each would be an error, `grpc_2`.
            let report = load(&spec, 20);
            assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
        }
    }
    assert_eq!((ingress.carried(&[one, two]), first.drain().1), (vec![40, 40], 40));
    // Other requests too, and an upgrade is not what HTTP/2 has.
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let report = load(&LoadSpec { protocol, request_bytes: 3000, ..asking(clear) }, 20);
        assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
    }
    let upgrade = LoadSpec { protocol: Protocol::WebSocket, ..asking(clear) };
    assert!(only_error(&load(&upgrade, 3)).starts_with("status_4"));
    drop(first);
    let report = load(&LoadSpec { protocol: Protocol::Grpc, ..asking(clear) }, 10);
    assert_eq!((report.requests, report.errors.len()), (10, 0), "{:?}", report.errors);
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
fn pods_are_asked_by_tls_again_and_have_to_be_who_they_are_taken_for() {
    let (at_pod, made) = (Made::valid(), Made::valid());
    let (mut target, backend) = at_pod.target();
    let ask = |name: &str, authority: &Made, protocol: Protocol| {
        let (clear, at) = (place(), place());
        let backend_tls =
            BackendTls { name: name.to_owned(), authority: authority.authority.clone() };
        let ingress = Ingress::start_as(IngressSpec {
            tls: Some(made.target_at(vec![at])),
            backend_tls: Some(backend_tls),
            backend_http2: protocol == Protocol::Grpc,
            ..listening(clear, vec![rule(&[backend])])
        });
        let tls = Some(made.load(TlsVersion::V13, false));
        let spec = LoadSpec { connection: Connection::Newconn, protocol, tls, ..asking(at) };
        (load(&spec, 10), ingress)
    };
    // Requests on connections that are kept, and a connection for each upgrade; served is all so far.
    let protocols = [(Protocol::Http1, 10), (Protocol::WebSocket, 20), (Protocol::Grpc, 30)];
    for (protocol, served) in protocols {
        let (report, mut ingress) = ask(NAME, &at_pod, protocol);
        assert_eq!((report.requests, report.handshakes.full), (10, 10), "{:?}", report.errors);
        assert_eq!((ingress.carried(&[backend]), target.drain().1), (vec![10], served));
        let report = ask("other.default.svc", &at_pod, protocol).0;
        assert_eq!(only_error(&report), "status_502");
        let report = ask(NAME, &made, protocol).0;
        assert_eq!(only_error(&report), "status_502", "an authority of somebody else");
    }
}

#[test]
fn tls_that_is_passed_through_is_shaken_with_the_pod_of_the_name_that_is_asked_for() {
    let made = Made::valid();
    let (mut target, backend) = made.target();
    let gone = dead();
    let at = place();
    let named = IngressRule { host: NAME.to_owned(), ..rule(&[gone, backend]) };
    let passing =
        |rules| IngressSpec { listen: Vec::new(), passthrough: vec![at], ..listening(at, rules) };
    let mut ingress = Ingress::start_as(passing(vec![named]));
    for (version, protocol, resume) in [
        (TlsVersion::V12, Protocol::Http1, false),
        (TlsVersion::V13, Protocol::Http2, false),
        (TlsVersion::V13, Protocol::Http1, true),
        (TlsVersion::V13, Protocol::WebSocket, false),
    ] {
        for connection in CONNECTIONS {
            // Those that stay open resume nothing.
            let resume = resume && connection == Connection::Newconn;
            let tls = Some(made.load(version, resume));
            let bytes = 100_000;
            let spec = LoadSpec { connection, protocol, tls, request_bytes: bytes, ..asking(at) };
            let report = load(&LoadSpec { response_bytes: bytes, ..spec }, 10);
            assert_eq!((report.requests, report.errors.len()), (10, 0), "{:?}", report.errors);
            assert_eq!(report.handshakes.resumed > 0, resume, "{:?}", report.handshakes);
        }
    }
    assert!(target.drain().1 >= 80);
    let carried = ingress.carried(&[gone, backend]);
    assert!(carried[0] == 0 && carried[1] >= 40, "{carried:?}");

    // Names of no rule, and what is no TLS at all.
    let elsewhere =
        LoadTls { name: "x.default.svc".to_owned(), ..made.load(TlsVersion::V13, false) };
    let spec = LoadSpec { connection: Connection::Newconn, ..asking(at) };
    let report = load(&LoadSpec { tls: Some(elsewhere), ..spec.clone() }, 3);
    assert_eq!(only_error(&report), "tls_closed");
    let report = load(&spec, 3);
    let kind = only_error(&report);
    assert!(["closed", "reset"].contains(&kind), "{kind}");
    assert_eq!(ingress.carried(&[gone, backend]), carried);
    // Backends that are gone.
    drop(target);
    let report = load(&LoadSpec { tls: Some(made.load(TlsVersion::V13, false)), ..spec }, 3);
    assert_eq!(only_error(&report), "tls_closed");
}

#[test]
fn a_first_message_in_many_pieces_is_understood() {
    let made = Made::valid();
    let (mut target, backend) = made.target();
    let at = place();
    let named = IngressRule { host: NAME.to_owned(), ..rule(&[backend]) };
    let _ingress = Ingress::start_as(IngressSpec {
        listen: Vec::new(),
        passthrough: vec![at],
        ..listening(at, vec![named])
    });
    let mut client = made.client();
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for byte in hello.chunks(50) {
        stream.write_all(byte).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut stream = rustls::Stream::new(&mut client, &mut stream);
    stream.write_all(b"GET /bytes/0 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(target.drain().1, 1);
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
    let to = backend.local_addr().unwrap();
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
