// SPDX-License-Identifier: Apache-2.0
//! Specs and commands, and addresses no other test uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use workloads::protocol::{
    Arrival, Connection, LoadCommand, LoadSpec, Pairs, PhaseReport, Protocol, Schedule, Sources,
};

pub(crate) const CLOSED: Arrival = Arrival::Closed { connections: 3 };
pub(crate) const OPEN: Arrival =
    Arrival::Open { rate: 400.0, schedule: Schedule::Poisson, max_in_flight: 256 };
pub(crate) const PROTOCOLS: [Protocol; 4] =
    [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::WebSocket];
pub(crate) const CONNECTIONS: [Connection; 2] = [Connection::Keepalive, Connection::Newconn];

/// A loopback address for this test alone: test processes run side by side, and so do the tests
/// in each.
pub(crate) fn address() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    assert!(count < 1023);
    Ipv4Addr::from_bits(0x7f80_0000 | (std::process::id() & 0x1fff) << 10 | count).into()
}

/// A place to listen at that no other test uses.
pub(crate) fn place() -> SocketAddr {
    SocketAddr::new(address(), 8080)
}

/// A closed loop of HTTP/1.1 on open connections; tests change what they are about.
pub(crate) fn spec(target: SocketAddr) -> LoadSpec {
    LoadSpec {
        target,
        host: None,
        request_ids: false,
        resolve: None,
        arrival: CLOSED,
        connection: Connection::Keepalive,
        protocol: Protocol::Http1,
        tls: None,
        request_bytes: 0,
        response_bytes: 10,
        server_work_ns: 0,
        sources: Sources { addresses: vec![address()], port_first: 10_000, port_last: 29_999 },
        timeout_ms: 30_000,
        seed: 7,
    }
}

/// So many requests, every connection sampled; the time is only what bounds a failure.
pub(crate) fn requests(count: u64) -> LoadCommand {
    LoadCommand::Run {
        duration_ms: 100_000,
        max_requests: Some(count),
        sample_every: 1,
        max_samples: 100_000,
    }
}

/// The only kind of error there was, and that there was no answer.
#[track_caller]
pub(crate) fn only_error(report: &PhaseReport) -> &str {
    assert_eq!(report.requests, 0, "{:?}", report.errors);
    let kinds: Vec<_> = report.errors.keys().collect();
    let [kind] = kinds[..] else { panic!("{kinds:?}") };
    kind
}

/// Values above so many milliseconds.
pub(crate) fn above_ms(pairs: &Pairs, ms: u64) -> u64 {
    pairs.iter().filter(|pair| pair.0 > ms * 1_000_000).map(|pair| pair.1).sum()
}
