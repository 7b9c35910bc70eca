// SPDX-License-Identifier: Apache-2.0
//! Every kind of workload against the real server: all requests are answered, none is invented.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use workloads::protocol::{Arrival, Connection, LoadCommand, LoadSpec};

use crate::agents::{Load, Target};
use crate::rogue::{Rogue, Talk, response};
use crate::workload::{CLOSED, CONNECTIONS, OPEN, PROTOCOLS, place, requests, spec};

#[test]
fn every_workload_is_answered_in_full_and_spends_the_tuples_it_should() {
    let at = place();
    let mut target = Target::listen(at);
    let mut served_before = 0;
    for protocol in PROTOCOLS {
        for connection in CONNECTIONS {
            for arrival in [CLOSED, OPEN] {
                let what = format!("{protocol:?} {connection:?} {arrival:?}");
                let bodies = LoadSpec { request_bytes: 3000, response_bytes: 5000, ..spec(at) };
                let spec = LoadSpec { protocol, connection, arrival, ..bodies };
                let report = Load::new(&spec).run(&requests(60));
                assert!(report.errors.is_empty(), "{what}: {:?}", report.errors);
                assert_eq!(report.requests, 60, "{what}");
                let (_, served) = target.drain();
                assert_eq!(served - served_before, 60, "{what}");
                served_before = served;

                let opened: u64 = report.connect.iter().map(|pair| pair.1).sum();
                let (tuples, connects) = match (connection, arrival) {
                    (Connection::Newconn, _) => (60, 60),
                    // Opened before the clock starts, and so no part of any request.
                    (_, Arrival::Closed { connections }) => (u64::from(connections), 0),
                    (_, Arrival::Open { max_in_flight, .. }) => (u64::from(max_in_flight), 0),
                };
                assert_eq!((report.tuples_spent, opened), (tuples, connects), "{what}");
                assert!(report.elapsed_ns > 0 && report.cpu_ns > 0, "{what}");
            }
        }
    }
}

#[test]
fn bodies_of_every_size_come_whole_on_every_protocol() {
    let at = place();
    let mut target = Target::listen(at);
    for protocol in PROTOCOLS {
        for (request_bytes, response_bytes) in [(0, 0), (1, 1), (100_000, 0), (0, 3_000_000)] {
            let spec = LoadSpec { protocol, request_bytes, response_bytes, ..spec(at) };
            let report = Load::new(&spec).run(&requests(12));
            assert!(report.errors.is_empty(), "{spec:?}: {:?}", report.errors);
            assert_eq!(report.requests, 12);
            // On a connection at least the body lies between a request's start and the next's.
            for (a, b) in
                report.samples.iter().flat_map(|a| report.samples.iter().map(move |b| (a, b)))
            {
                if a.client == b.client && a.request_offset < b.request_offset {
                    assert!(b.request_offset - a.request_offset > request_bytes);
                    assert!(b.response_offset - a.response_offset > response_bytes);
                }
            }
        }
    }
    assert_eq!(target.drain().1, 4 * 4 * 12);
}

#[test]
fn a_server_reads_request_bodies_of_the_length_asked_for() {
    for bytes in [0, 1, 70_000] {
        let (whole, odd) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (whole.clone(), odd.clone());
        let rogue = Rogue::new(move |stream| {
            let mut talk = Talk::new(stream)?;
            loop {
                let count = if talk.request()? == bytes { &counts.0 } else { &counts.1 };
                count.fetch_add(1, Ordering::Relaxed);
                talk.respond(&response("200 OK", "0123456789"))?;
            }
        });
        let spec = LoadSpec { request_bytes: bytes, ..spec(rogue.at) };
        assert_eq!(Load::new(&spec).run(&requests(9)).requests, 9);
        assert_eq!((whole.load(Ordering::Relaxed), odd.load(Ordering::Relaxed)), (9, 0));
    }
}

#[test]
fn a_phase_ends_by_its_time_when_no_count_ends_it() {
    let at = place();
    let _target = Target::listen(at);
    let command =
        LoadCommand::Run { duration_ms: 200, max_requests: None, sample_every: 0, max_samples: 10 };
    for arrival in [CLOSED, OPEN] {
        let mut load = Load::new(&LoadSpec { arrival, ..spec(at) });
        let report = load.run(&command);
        assert!(report.requests > 0 && report.errors.is_empty(), "{:?}", report.errors);
        assert!(report.samples.is_empty() && report.samples_not_kept == 0);
        // No request starts after the end; what began before it may end later.
        let answered_ns = report.latency.last().unwrap().0;
        assert!(report.elapsed_ns <= 200_000_000 + answered_ns, "{}", report.elapsed_ns);
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_requests() {
    const GROWTH_MAX: u64 = 4 << 20;
    // What the spawning process holds is no part of the agent's resident set.
    let ballast = std::hint::black_box(vec![1u8; 96 << 20]);
    let at = place();
    let _target = Target::listen(at);
    let mut load = Load::new(&spec(at));
    let command = LoadCommand::Run {
        duration_ms: 100_000,
        max_requests: Some(40_000),
        sample_every: 0,
        max_samples: 0,
    };
    let reports: Vec<_> = (0..5).map(|_| load.run(&command)).collect();
    assert!(reports.iter().all(|report| report.requests == 40_000));
    let (first, last) = (reports[0].peak_rss_bytes, reports[4].peak_rss_bytes);
    assert!((1 << 20..ballast.len() as u64).contains(&first), "peak of {first} bytes");
    assert!(last - first < GROWTH_MAX, "from {first} to {last} bytes");
}

/// Sockets in TIME_WAIT (state 06 of /proc/net/tcp) with that address at either end.
fn in_time_wait(at: std::net::SocketAddr) -> usize {
    let std::net::SocketAddr::V4(at) = at else { panic!("{at}") };
    let shown = format!("{:08X}:{:04X} ", u32::from_ne_bytes(at.ip().octets()), at.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().filter(|line| line.contains(&shown) && line.contains(" 06 ")).count()
}

#[test]
fn new_connections_leave_nothing_in_time_wait_on_either_side() {
    let at = place();
    let _target = Target::listen(at);
    for protocol in PROTOCOLS {
        let spec = LoadSpec { protocol, connection: Connection::Newconn, ..spec(at) };
        assert_eq!(Load::new(&spec).run(&requests(100)).requests, 100);
        assert_eq!(in_time_wait(at), 0, "{protocol:?}");
    }
    // A connection that is closed without a reset is seen: the count can be other than 0.
    let closed = place();
    let listener = std::net::TcpListener::bind(closed).unwrap();
    let client = std::net::TcpStream::connect(closed).unwrap();
    drop(client);
    drop(listener.accept().unwrap());
    assert_eq!(in_time_wait(closed), 1);
}
