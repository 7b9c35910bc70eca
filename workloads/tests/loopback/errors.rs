// SPDX-License-Identifier: Apache-2.0
//! Every kind of error a server or a spec can provoke is reported under its own name.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use workloads::protocol::{Arrival, Connection, LoadSpec, PhaseReport, Protocol, Schedule};

use crate::agents::{Load, Target};
use crate::rogue::{Rogue, Talk, close, reset, response};
use crate::workload::{CONNECTIONS, PROTOCOLS, only_error, place, requests, spec};

fn report(spec: &LoadSpec) -> PhaseReport {
    Load::new(spec).run(&requests(6))
}

/// The only error of six requests, on new connections and on open ones.
#[track_caller]
fn error_of(rogue: &Rogue, timeout_ms: u64) -> String {
    let kinds = CONNECTIONS.map(|connection| {
        let spec = LoadSpec { connection, timeout_ms, ..spec(rogue.at) };
        let report = report(&spec);
        assert_eq!(report.errors.values().sum::<u64>(), 6);
        only_error(&report).to_owned()
    });
    assert_eq!(kinds[0], kinds[1]);
    kinds[0].clone()
}

#[test]
fn a_port_nobody_listens_at_is_connect_refused() {
    for protocol in PROTOCOLS {
        for connection in CONNECTIONS {
            let spec = LoadSpec { protocol, connection, ..spec(place()) };
            assert_eq!(only_error(&report(&spec)), "connect_refused");
        }
    }
}

#[test]
fn a_listener_that_drops_syns_is_connect_timeout() {
    let at = place();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    // A full queue drops SYNs (`tcp_conn_request`): one connection fills a backlog of zero.
    let wait = Duration::from_millis(500);
    let queued: Vec<_> =
        (0..16).map_while(|_| TcpStream::connect_timeout(&at, wait).ok()).collect();
    assert!((1..16).contains(&queued.len()), "the queue takes {}", queued.len());
    for connection in CONNECTIONS {
        let spec = LoadSpec { connection, timeout_ms: 50, ..spec(at) };
        assert_eq!(only_error(&report(&spec)), "connect_timeout");
    }
    drop((queued, listener));
}

#[test]
fn a_rst_in_the_middle_of_a_response_is_reset() {
    let rogue = Rogue::new(|stream| {
        let mut talk = Talk::new(stream)?;
        talk.request()?;
        talk.respond("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
        talk.reset()
    });
    assert_eq!(error_of(&rogue, 30_000), "reset");
}

#[test]
fn a_fin_in_the_middle_of_a_response_is_closed() {
    let rogue = Rogue::new(|stream| {
        let mut talk = Talk::new(stream)?;
        talk.request()?;
        talk.respond("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
        talk.close()
    });
    assert_eq!(error_of(&rogue, 30_000), "closed");
}

#[test]
fn a_fin_instead_of_a_response_is_closed() {
    let rogue = Rogue::new(|stream| {
        let mut talk = Talk::new(stream)?;
        talk.request()?;
        talk.close()
    });
    assert_eq!(error_of(&rogue, 30_000), "closed");
}

#[test]
fn a_silent_server_is_timeout() {
    let rogue = Rogue::new(|stream| Talk::new(stream)?.hold());
    assert_eq!(error_of(&rogue, 60), "timeout");
}

#[test]
fn a_response_that_stops_halfway_is_timeout() {
    let rogue = Rogue::new(|stream| {
        let mut talk = Talk::new(stream)?;
        talk.request()?;
        talk.respond("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
        talk.hold()
    });
    assert_eq!(error_of(&rogue, 60), "timeout");
}

fn answering(text: String) -> Rogue {
    Rogue::new(move |stream| {
        let mut talk = Talk::new(stream)?;
        loop {
            talk.request()?;
            talk.respond(&text)?;
        }
    })
}

#[test]
fn another_status_is_named_by_its_number_and_another_length_is_length() {
    let ten = "0123456789";
    assert_eq!(error_of(&answering(response("503 Busy", ten)), 30_000), "status_503");
    assert_eq!(error_of(&answering(response("404 None", "")), 30_000), "status_404");
    assert_eq!(error_of(&answering(response("200 OK", "short")), 30_000), "length");
    assert_eq!(error_of(&answering(response("200 OK", "far too long")), 30_000), "length");
    let longest = "x".repeat(100_000);
    assert_eq!(error_of(&answering(response("200 OK", &longest)), 30_000), "length");
}

/// Waits for the first bytes, then ends the connection.
fn after_first_bytes(end: fn(TcpStream) -> io::Result<()>) -> Rogue {
    Rogue::new(move |mut stream| {
        let _ = stream.read(&mut [0; 24])?;
        end(stream)
    })
}

#[test]
fn the_end_of_an_http2_connection_has_the_same_names() {
    let of = |rogue: &Rogue, connection, timeout_ms| {
        let spec = LoadSpec { protocol: Protocol::Http2, connection, timeout_ms, ..spec(rogue.at) };
        only_error(&report(&spec)).to_owned()
    };
    let closed = after_first_bytes(close);
    let reset = after_first_bytes(|stream| reset(&stream));
    for connection in CONNECTIONS {
        assert_eq!(of(&closed, connection, 30_000), "closed");
        assert_eq!(of(&reset, connection, 30_000), "reset");
    }
    let silent = after_first_bytes(|mut stream| io::copy(&mut stream, &mut io::sink()).map(drop));
    assert_eq!(of(&silent, Connection::Newconn, 60), "timeout");
}

#[test]
fn a_request_due_while_all_slots_are_taken_is_overload() {
    let rogue = Rogue::new(|stream| Talk::new(stream)?.hold());
    let arrival = Arrival::Open { rate: 1000.0, schedule: Schedule::Uniform, max_in_flight: 2 };
    let report = report(&LoadSpec { arrival, timeout_ms: 300, ..spec(rogue.at) });
    // Six requests are due within 5 ms, and the first two hold both slots for 300 ms.
    let errors: Vec<_> =
        report.errors.iter().map(|(kind, &count)| (kind.as_str(), count)).collect();
    assert_eq!(errors, [("overload", 4), ("timeout", 2)]);
}

#[test]
fn a_phase_without_tuples_left_is_tuples_exhausted_and_ends() {
    let at = place();
    let mut target = Target::listen(at);
    let mut spec = LoadSpec { connection: Connection::Newconn, ..spec(at) };
    spec.arrival = Arrival::Closed { connections: 1 };
    spec.sources.port_last = spec.sources.port_first + 3;
    let mut load = Load::new(&spec);

    let first = load.run(&requests(6));
    assert_eq!((first.requests, first.tuples_spent, first.tuples_left), (4, 4, 0));
    assert_eq!(first.errors["tuples_exhausted"], 1);
    assert_eq!(first.errors.len(), 1);
    let second = load.run(&requests(6));
    assert_eq!((only_error(&second), second.tuples_spent), ("tuples_exhausted", 0));
    assert_eq!(target.drain().1, 4);
}
