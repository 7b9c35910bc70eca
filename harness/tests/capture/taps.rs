// SPDX-License-Identifier: Apache-2.0
//! What taps see, lose, cost and leave behind.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use harness::capture::packet::flags;
use harness::capture::{CaptureError, Direction, Selection, TapOptions, TapPoint, Taps};
use harness::net::Netns;
use harness::plan::{CniKind, Mode, Place};
use nix::sys::socket::{TimestampingFlag, setsockopt, sockopt};
use workloads::protocol::Sample;

use crate::http::{request, serve};
use crate::lab::{CLIENT, Lab, NODE_PORT, POD, POD_PORT};
use crate::{SERVICE, join, nodeport};

#[test]
fn only_marked_connections_are_seen_when_sampling() {
    let Some(lab) = Lab::ptp() else { return };
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], 40);
    let marked: BTreeSet<_> = (0..40)
        .flat_map(|i| request(&lab.hosts[CLIENT], SERVICE, 1, i % 4 == 0))
        .map(|sample: Sample| sample.client)
        .enumerate()
        .filter_map(|(i, client)| (i % 4 == 0).then_some(client))
        .collect();
    server.join().unwrap();
    let capture = taps.drain().unwrap();
    let seen: BTreeSet<_> = capture
        .packets
        .iter()
        .filter(|packet| packet.tap == 0 && packet.direction == Direction::Out)
        .map(|packet| packet.segment.src)
        .collect();
    assert_eq!((marked.len(), seen), (10, marked));
    let syns = capture.packets.iter().filter(|p| p.segment.flags == flags::SYN).count();
    assert_eq!(syns, 10 * taps.infos().len(), "each SYN once at each tap");
    let acks = capture.packets.iter().filter(|p| {
        p.segment.payload_bytes == 0 && p.segment.flags & (flags::SYN | flags::FIN) == 0
    });
    assert_eq!(acks.count(), 0);
}

#[test]
fn connections_are_selected_by_port_without_a_mark() {
    let Some(lab) = Lab::ptp() else { return };
    let options = TapOptions {
        selection: Selection::Ports(vec![NODE_PORT, POD_PORT]),
        ..TapOptions::default()
    };
    let mut taps = Taps::start(&lab.points(), options).unwrap();
    let server = serve(&lab.hosts[POD], 5);
    let samples: Vec<Sample> =
        (0..5).flat_map(|_| request(&lab.hosts[CLIENT], SERVICE, 2, false)).collect();
    let marks = server.join().unwrap();
    let capture = taps.drain().unwrap();
    let path = nodeport(Mode::Nftables, CniKind::Ptp, Place::Local);
    let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
    assert_eq!((joined.joined, joined.unjoined), (10, Default::default()));
}

#[test]
fn a_load_that_a_ring_holds_loses_nothing() {
    // A request and its response are two frames of some 300 bytes at each tap: 7 MB of 8 MiB, so
    // that nothing is lost even if the reader does not get to run before the end.
    const REQUESTS: u64 = 3_000;
    const CONNECTIONS: usize = 4;
    let Some(lab) = Lab::ptp() else { return };
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], CONNECTIONS);
    let started = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            lab.hosts[CLIENT]
                .run(|| std::thread::spawn(|| crate::http::request_here(SERVICE, REQUESTS, true)))
        })
        .collect();
    let samples: Vec<Sample> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    let seconds = started.elapsed().as_secs_f64();
    let marks = server.join().unwrap();
    let capture = taps.drain().unwrap();
    assert_eq!((capture.dropped, capture.unparsed), (0, 0), "{:?}", capture.taps);
    let (events, cpu_ns) = (capture.events, capture.cpu_ns);
    eprintln!(
        "{events} events at {:.0}/s, {:.0} ns of the reader each",
        events as f64 / seconds,
        cpu_ns as f64 / events as f64
    );
    // Each request and each response at each tap at least.
    assert!(events >= samples.len() as u64 * 2 * taps.infos().len() as u64, "{events}");
    assert!(cpu_ns > 0);
    let path = nodeport(Mode::Nftables, CniKind::Ptp, Place::Local);
    let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
    assert_eq!(joined.unjoined, Default::default());
    assert_eq!(joined.joined, REQUESTS * CONNECTIONS as u64);
}

#[test]
fn packets_beyond_the_limit_are_counted_as_dropped() {
    let Some(lab) = Lab::ptp() else { return };
    let options = TapOptions { packets_max: 10, ..TapOptions::default() };
    let mut taps = Taps::start(&lab.points(), options).unwrap();
    let server = serve(&lab.hosts[POD], 1);
    request(&lab.hosts[CLIENT], SERVICE, 20, true);
    server.join().unwrap();
    let capture = taps.drain().unwrap();
    assert_eq!(capture.packets.len(), 10);
    assert_eq!(capture.dropped, capture.events - 10);
}

#[test]
fn stamps_made_before_the_tap_are_counted_and_keep_their_order() {
    let Some(lab) = Lab::vxlan() else { return };
    // What tcpdump does not do but a time daemon does: ask for receive timestamps, host-wide.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let wanted = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(&socket, sockopt::Timestamping, &wanted).unwrap();
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let path = nodeport(Mode::Nftables, CniKind::Vxlan, Place::Remote);
    // The kernel switches them on from a work queue.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let server = serve(&lab.hosts[POD], 5);
        let samples: Vec<Sample> =
            (0..5).flat_map(|_| request(&lab.hosts[CLIENT], SERVICE, 1, true)).collect();
        let marks = server.join().unwrap();
        let capture = taps.drain().unwrap();
        let stamped: u64 = capture.taps.iter().map(|tap| tap.stamped_before).sum();
        let events = capture.events;
        let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
        assert_eq!((joined.joined, joined.unjoined), (5, Default::default()));
        if stamped > events / 3 {
            return;
        }
        assert!(Instant::now() < deadline, "{stamped} of {events} stamped before the tap");
    }
}

#[test]
fn an_interface_that_goes_away_is_named() {
    let Some(lab) = Lab::ptp() else { return };
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    taps.drain().unwrap();
    lab.ip(POD, "link del eth0");
    let error = taps.drain().unwrap_err();
    assert!(matches!(&error, CaptureError::Gone { .. }), "{error}");
    assert!(error.to_string().starts_with("failed to listen on node1/veth1:"), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let Some(lab) = Lab::ptp() else { return };
    let points = [TapPoint { device: "eth7", ..lab.points()[1] }];
    let error = Taps::start(&points, TapOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("failed to find interface node1/eth7: "), "{error}");
}

#[test]
fn stopped_taps_leave_no_socket_behind() {
    let Some(lab) = Lab::ptp() else { return };
    let sockets = || {
        let table =
            |host: &Netns| host.run(|| std::fs::read_to_string("/proc/thread-self/net/packet"));
        lab.hosts.iter().map(|host| table(host).unwrap().lines().count() - 1).sum::<usize>()
    };
    // A program that another test starts at this moment holds copies of all descriptors between
    // fork and exec; a socket ends with the last copy.
    let all_closed = || {
        let deadline = Instant::now() + Duration::from_secs(10);
        while sockets() > 0 {
            assert!(Instant::now() < deadline, "{} sockets left", sockets());
            std::thread::yield_now();
        }
    };
    assert_eq!(sockets(), 0);
    let taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    assert_eq!(sockets(), 4);
    taps.stop().unwrap();
    all_closed();
    drop(Taps::start(&lab.points(), TapOptions::default()).unwrap());
    all_closed();
}

#[test]
fn root_may_tap_and_says_so() {
    let Ok(scratch) = Netns::create("scratch") else {
        eprintln!("SKIP namespaces cannot be made");
        return;
    };
    Taps::check(&scratch).unwrap();
}
