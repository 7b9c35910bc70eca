// SPDX-License-Identifier: Apache-2.0
//! The load client as a worker, and the target as a pod's program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use workloads::clock::unix_ns;
use workloads::protocol::{
    Appointment, Arrival, Connection, Kept, LoadCommand, LoadSpec, Protocol, Sources, WorkerClock,
};

const TOKEN: &str = "0123456789abcdef";

/// A program that is killed with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listener.local_addr().unwrap().port())
}

/// Starts a program as a pod would: with its standard input at its end.
fn start(path: &str, arguments: &[&str]) -> Program {
    let mut command = Command::new(path);
    command.args(arguments).env("NIC2POD_TOKEN", TOKEN).stdin(Stdio::null());
    Program(command.spawn().unwrap())
}

/// Connects once the other side listens.
fn connect(address: SocketAddr) -> TcpStream {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    }
}

fn ask(address: SocketAddr, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = connect(address);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = BufReader::new(stream);
    let mut status = String::new();
    answer.read_line(&mut status).unwrap();
    let mut line = String::from("-");
    while !line.trim().is_empty() {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    let mut body = Vec::new();
    answer.read_to_end(&mut body).unwrap();
    (status.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

fn appointment(target: SocketAddr, start_unix_ns: u64) -> Appointment {
    Appointment {
        spec: LoadSpec {
            host: None,
            request_ids: false,
            resolve: None,
            target,
            arrival: Arrival::Closed { connections: 2 },
            connection: Connection::Keepalive,
            protocol: Protocol::Http1,
            tls: None,
            request_bytes: 0,
            response_bytes: 10,
            server_work_ns: 0,
            sources: Sources {
                addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                port_first: 20_000,
                port_last: 29_999,
            },
            timeout_ms: 1_000,
            seed: 1,
        },
        command: LoadCommand::Run {
            duration_ms: 60_000,
            max_requests: Some(50),
            sample_every: 0,
            max_samples: 0,
        },
        start_unix_ns,
    }
}

#[test]
fn a_worker_starts_no_sooner_than_it_was_told_and_reports_when_it_did() {
    let (worker, target) = (free_address(), free_address());
    let spec = format!(r#"{{"listen": ["{target}"], "pod": "target-0"}}"#);
    let _target = start(env!("CARGO_BIN_EXE_target"), &["--spec", &spec]);
    let _worker = start(env!("CARGO_BIN_EXE_load"), &["--worker", &worker.to_string()]);
    drop(connect(target));

    let (status, clock) = ask(worker, &format!("/{TOKEN}/clock"), b"");
    let clock: WorkerClock = serde_json::from_slice(&clock).unwrap();
    assert_eq!(status, 200);
    let start_unix_ns = clock.unix_ns + 300_000_000;
    let asked = serde_json::to_vec(&appointment(target, start_unix_ns)).unwrap();
    let (status, kept) = ask(worker, &format!("/{TOKEN}/run"), &asked);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&kept));
    let kept: Kept = serde_json::from_slice(&kept).unwrap();
    assert_eq!((kept.report.requests, kept.report.errors.len()), (50, 0));
    assert!(kept.started_unix_ns >= start_unix_ns && unix_ns() > kept.started_unix_ns);
    assert_eq!(kept.late_ns, kept.started_unix_ns - start_unix_ns);

    // What is past starts at once, and says how late it is.
    let asked = serde_json::to_vec(&appointment(target, start_unix_ns)).unwrap();
    let (status, kept) = ask(worker, &format!("/{TOKEN}/run"), &asked);
    let kept: Kept = serde_json::from_slice(&kept).unwrap();
    assert!(status == 200 && kept.late_ns > 0);
}

#[test]
fn a_worker_tells_nothing_to_whoever_does_not_know_its_word() {
    let worker = free_address();
    let _worker = start(env!("CARGO_BIN_EXE_load"), &["--worker", &worker.to_string()]);
    for path in ["/clock", "/run", "/", "/0123456789abcdee/clock"] {
        assert_eq!(ask(worker, path, b"").0, 404, "{path}");
    }
    let (status, words) = ask(worker, &format!("/{TOKEN}/run"), b"{}");
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&words).contains("missing field"), "{words:?}");
    let ahead = appointment(worker, unix_ns() + 3_600_000_000_000);
    let asked = serde_json::to_vec(&ahead).unwrap();
    let (status, words) = ask(worker, &format!("/{TOKEN}/run"), &asked);
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&words).contains("`start_unix_ns`"), "{words:?}");
}

#[test]
fn a_worker_without_a_word_of_its_own_does_not_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.args(["--worker", "127.0.0.1:0"]).env("NIC2POD_TOKEN", "short").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the token is not 16"));
}
