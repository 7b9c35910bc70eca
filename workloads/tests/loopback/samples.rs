// SPDX-License-Identifier: Apache-2.0
//! What is reported of single requests.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use workloads::protocol::{Connection, LoadCommand, LoadSpec, Sample};

use crate::agents::{Load, Target};
use crate::rogue::{Rogue, Talk, response};
use crate::workload::{CLOSED, CONNECTIONS, OPEN, PROTOCOLS, address, place, requests, spec};

fn assert_in_order(sample: &Sample) {
    let Sample { intended_ns, sent_ns, first_byte_ns, last_byte_ns, .. } = *sample;
    let times_ns = [
        intended_ns,
        sample.connect_ns.unwrap_or(intended_ns),
        sample.connected_ns.unwrap_or(intended_ns),
        sent_ns,
        first_byte_ns,
        last_byte_ns,
    ];
    assert!(times_ns.is_sorted(), "{sample:?}");
    assert_eq!(sample.connect_ns.is_some(), sample.connected_ns.is_some());
}

#[test]
fn times_are_in_order_and_clients_among_the_sources_in_every_workload() {
    let at = place();
    let _target = Target::listen(at);
    for protocol in PROTOCOLS {
        for connection in CONNECTIONS {
            for arrival in [CLOSED, OPEN] {
                let mut spec = LoadSpec { protocol, connection, arrival, ..spec(at) };
                spec.sources.addresses.push(address());
                let report = Load::new(&spec).run(&requests(40));
                assert_eq!((report.requests, report.samples.len()), (40, 40));
                for sample in &report.samples {
                    assert_in_order(sample);
                    assert_eq!(sample.connect_ns.is_some(), connection == Connection::Newconn);
                    assert!(spec.sources.addresses.contains(&sample.client.ip()));
                    let ports = spec.sources.port_first..=spec.sources.port_last;
                    assert!(ports.contains(&sample.client.port()));
                }
                let addresses: HashSet<_> = report.samples.iter().map(|s| s.client.ip()).collect();
                assert_eq!(addresses.len(), 2, "both addresses are used");
            }
        }
    }
}

#[test]
fn offsets_are_the_bytes_the_server_counted_before_each_request() {
    type Offsets = BTreeMap<SocketAddr, Vec<(u64, u64)>>;
    let seen: Arc<Mutex<Offsets>> = Arc::default();
    let noted = seen.clone();
    let rogue = Rogue::new(move |stream| {
        let peer = stream.peer_addr()?;
        let mut talk = Talk::new(stream)?;
        loop {
            let before = (talk.read, talk.written);
            talk.request()?;
            noted.lock().unwrap().entry(peer).or_default().push(before);
            talk.respond(&response("200 OK", "0123456789"))?;
        }
    });
    for request_bytes in [0, 70_000] {
        seen.lock().unwrap().clear();
        let spec = LoadSpec { request_bytes, ..spec(rogue.at) };
        let report = Load::new(&spec).run(&requests(30));
        let mut reported = Offsets::new();
        for sample in &report.samples {
            let offsets = (sample.request_offset, sample.response_offset);
            reported.entry(sample.client).or_default().push(offsets);
        }
        assert_eq!(report.samples.len(), 30);
        assert_eq!(reported, *seen.lock().unwrap());
        assert!(reported.values().any(|offsets| offsets.len() > 1), "some connection is reused");
    }
}

#[test]
fn no_tuple_is_used_twice_in_the_life_of_an_agent() {
    let at = place();
    let _target = Target::listen(at);
    for connection in CONNECTIONS {
        let mut load = Load::new(&LoadSpec { connection, ..spec(at) });
        let (mut used, mut spent) = (HashSet::new(), 0);
        for _ in 0..4 {
            let report = load.run(&requests(50));
            assert_eq!((report.requests, report.samples.len()), (50, 50));
            let clients: HashSet<_> = report.samples.iter().map(|sample| sample.client).collect();
            if connection == Connection::Newconn {
                assert_eq!(clients.len(), 50, "one connection per request");
            }
            assert!(clients.is_disjoint(&used), "a tuple of an earlier phase came back");
            spent += report.tuples_spent;
            assert_eq!(report.tuples_left, 20_000 - spent);
            used.extend(clients);
            assert!(used.len() as u64 <= spent);
        }
    }
}

#[test]
fn every_kth_connection_is_sampled_and_samples_beyond_the_bound_are_counted() {
    let at = place();
    let _target = Target::listen(at);
    let mut load = Load::new(&LoadSpec { connection: Connection::Newconn, ..spec(at) });
    let mut run = |sample_every, max_samples| {
        let max_requests = Some(20);
        let report = load.run(&LoadCommand::Run {
            duration_ms: 100_000,
            max_requests,
            sample_every,
            max_samples,
        });
        assert_eq!(report.requests, 20);
        (report.samples.len(), report.samples_not_kept)
    };
    assert_eq!(run(0, 100), (0, 0));
    assert_eq!(run(1, 100), (20, 0));
    assert_eq!(run(4, 100), (5, 0));
    assert_eq!(run(1, 5), (5, 15));
    assert_eq!(run(2, 0), (0, 10));
}
