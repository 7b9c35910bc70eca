// SPDX-License-Identifier: Apache-2.0
//! The server's marks are the client's samples seen from the other end.
//!
//! Needs a network namespace of its own: the host's `net.ipv4.tcp_reflect_tos` is the host's.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use workloads::protocol::{
    Arrival, Connection, IngressSpec, LoadCommand, LoadSpec, Mark, Protocol, TlsVersion,
};

use crate::agents::{Load, Target};
use crate::certificates::Made;
use crate::ingress::{Ingress, asking, listening, rule};
use crate::workload::{CONNECTIONS, PROTOCOLS, only_error, place, requests, spec};

/// Runs `test` on a thread in a network namespace of its own, which the processes it starts are
/// in too; says why not and returns false where that is not permitted.
fn in_namespace(test: impl FnOnce() + Send + 'static) -> Result<(), nix::Error> {
    let apart = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // Resolved for the thread that opens it, and so the new namespace's.
        std::fs::write("/proc/sys/net/ipv4/tcp_reflect_tos", "1").unwrap();
        ip(&["link", "set", "lo", "up"]);
        test();
        Ok(())
    });
    apart.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

fn assert_marks_match(protocol: Protocol, connection: Connection, tls: Option<TlsVersion>) {
    let made = Made::valid();
    let (mut target, at) = match tls {
        None => {
            let at = place();
            (Target::listen(at), at)
        }
        Some(_) => made.target(),
    };
    let tls = tls.map(|version| made.load(version, connection == Connection::Newconn));
    let bodies = LoadSpec { request_bytes: 1_000_000, response_bytes: 100_000, ..spec(at) };
    let arrival = Arrival::Closed { connections: 4 };
    let mut load =
        Load::new(&LoadSpec { protocol, connection, arrival, tls: tls.clone(), ..bodies });
    let max_requests = Some(40);
    let command =
        LoadCommand::Run { duration_ms: 100_000, max_requests, sample_every: 2, max_samples: 100 };
    for _ in 0..2 {
        let report = load.run(&command);
        assert_eq!((report.requests, report.samples_not_kept), (40, 0), "{:?}", report.errors);
        let (marks, _) = target.drain();
        assert_eq!(marks.len(), report.samples.len());
        assert!((1..40).contains(&marks.len()), "every second connection is sampled");
        let marks: HashMap<_, _> = marks
            .into_iter()
            .map(|mark| ((mark.peer, mark.request_offset, mark.response_offset), mark))
            .collect();
        for sample in &report.samples {
            let key = (sample.client, sample.request_offset, sample.response_offset);
            let of_same = || marks.keys().filter(|other| other.0 == key.0).collect::<Vec<_>>();
            let mark = marks.get(&key).unwrap_or_else(|| {
                panic!("{protocol:?} {connection:?} {tls:?}: {key:?} of {:?}", of_same())
            });
            assert_eq!(mark.local, at);
            let Mark { read_ns, received_ns, written_ns, .. } = *mark;
            let times_ns = [sample.sent_ns, read_ns, received_ns, written_ns, sample.first_byte_ns];
            assert!(times_ns.is_sorted(), "{sample:?} {mark:?}");
            // Far more than hyper reads at a time.
            assert!(received_ns > read_ns, "{sample:?} {mark:?}");
            let Some(secured_ns) = sample.secured_ns else {
                assert!(tls.is_none() || connection == Connection::Keepalive);
                continue;
            };
            let shaken = mark.handshake.unwrap();
            let first = shaken.turns[0].unwrap();
            let connected_ns = sample.connected_ns.unwrap();
            let client_ns = [connected_ns, first.read_ns, first.written_ns, secured_ns];
            assert!(client_ns.is_sorted(), "{sample:?} {mark:?}");
            let server_ns = [shaken.accepted_ns, first.read_ns, shaken.secured_ns, mark.written_ns];
            assert!(server_ns.is_sorted(), "{sample:?} {mark:?}");
        }
        assert!(target.drain().0.is_empty(), "a drain takes the marks along");
    }
}

#[test]
fn marks_match_samples_by_peer_and_offsets_and_lie_between_their_times() {
    let refused = in_namespace(|| {
        for protocol in PROTOCOLS {
            for connection in CONNECTIONS {
                for tls in [None, Some(TlsVersion::V12), Some(TlsVersion::V13)] {
                    assert_marks_match(protocol, connection, tls);
                }
            }
        }
    });
    if let Err(error) = refused {
        eprintln!("SKIP no network namespace can be made here: {error}");
    }
}

/// Calls by way of a proxy that has them share a connection: each is marked by itself, whichever it overtook.
fn assert_marks_match_beyond(response_bytes: u64) {
    let (at, proxy) = (place(), place());
    let mut target = Target::listen(at);
    let _ingress = Ingress::start_as(IngressSpec {
        backend_http2: true,
        ..listening(proxy, vec![rule(&[at])])
    });
    let spec = LoadSpec {
        protocol: Protocol::Grpc,
        arrival: Arrival::Closed { connections: 8 },
        request_bytes: 100_000,
        response_bytes,
        server_work_ns: 100_000,
        ..asking(proxy)
    };
    let report = Load::new(&spec).run(&requests(200));
    assert_eq!((report.requests, report.samples.len()), (200, 200), "{:?}", report.errors);
    let marks = target.drain().0;
    let by_id: HashMap<_, _> = marks.iter().map(|mark| (mark.id.unwrap(), mark)).collect();
    assert_eq!((marks.len(), by_id.len()), (200, 200));
    for sample in &report.samples {
        let mark = by_id[&sample.id.unwrap()];
        let Mark { read_ns, received_ns, written_ns, .. } = *mark;
        let times_ns = [sample.sent_ns, read_ns, received_ns, written_ns, sample.first_byte_ns];
        assert!(times_ns.is_sorted(), "{sample:?} {mark:?}");
    }
    // The first ones open a connection each, and one of these carries those behind them.
    let mut by_peer = HashMap::new();
    marks.iter().for_each(|mark| *by_peer.entry(mark.peer).or_insert(0) += 1);
    assert!(by_peer.values().any(|&requests| requests > 100), "{by_peer:?}");
    let places: HashSet<_> = marks.iter().map(|mark| (mark.peer, mark.request_offset)).collect();
    assert_eq!(places.len(), 200, "none begins where another one does");
    let under_way = |one: &Mark, other: &Mark| {
        one.peer == other.peer && one.read_ns < other.read_ns && other.read_ns < one.written_ns
    };
    assert!(marks.iter().any(|one| marks.iter().any(|other| under_way(one, other))));
}

#[test]
fn requests_that_share_a_connection_are_marked_each_by_itself() {
    let refused =
        in_namespace(|| [0, 1000, 200_000].into_iter().for_each(assert_marks_match_beyond));
    if let Err(error) = refused {
        eprintln!("SKIP no network namespace can be made here: {error}");
    }
}

#[test]
fn a_route_that_says_unreachable_is_connect_unreachable() {
    let refused = in_namespace(|| {
        ip(&["address", "add", "198.51.100.1/32", "dev", "lo"]);
        ip(&["route", "add", "unreachable", "203.0.113.0/24"]);
        let mut spec = spec("203.0.113.1:80".parse().unwrap());
        spec.sources.addresses = vec!["198.51.100.1".parse().unwrap()];
        for connection in CONNECTIONS {
            let report = Load::new(&LoadSpec { connection, ..spec.clone() }).run(&requests(3));
            assert_eq!(only_error(&report), "connect_unreachable");
        }
    });
    if let Err(error) = refused {
        eprintln!("SKIP no network namespace can be made here: {error}");
    }
}
