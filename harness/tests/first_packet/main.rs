// SPDX-License-Identifier: Apache-2.0
//! Ring 2: what taps say of a flow's first packets against what conntrack says of the same flow.
//!
//! The Kubernetes blog's chart of nftables mode plots the time from conntrack's NEW to the first
//! event with SEEN_REPLY. Both ends are stamped on the entry node when its hook sees the packet
//! (`nf_conntrack_in`, at PREROUTING; `nf_conntrack_event_cache` keeps the first event's time), so
//! the taps around that hook, which read the same clock, hold them from both sides.
#![expect(clippy::unwrap_used, reason = "a test's functions fail by panicking, as the test does")]
#![expect(clippy::print_stderr, reason = "skips and figures are for whoever runs the tests")]

mod lab;
mod walk;

use std::collections::HashMap;
use std::net::SocketAddr;

use harness::net::conntrack::{
    self, Event, EventKind, EventTime, Events, SubscribeOptions, new_to_seen_reply,
};
use harness::plan::{CniKind, Mode};
use lab::{FLOWS, Lab};
use walk::{Sightings, Walk};

/// A flow's two events, ns of CLOCK_REALTIME.
#[derive(Clone, Copy, Debug)]
struct Told {
    new_ns: u64,
    answered_ns: u64,
    latency_ns: u64,
}

#[test]
fn conntracks_first_reply_is_where_the_taps_put_it_under_nftables() {
    check(Mode::Nftables, CniKind::Ptp);
}

#[test]
fn conntracks_first_reply_is_where_the_taps_put_it_under_iptables() {
    check(Mode::Iptables, CniKind::Ptp);
}

#[test]
fn conntracks_first_reply_is_where_the_taps_put_it_through_a_tunnel() {
    check(Mode::Nftables, CniKind::Vxlan);
}

fn check(mode: Mode, cni: CniKind) {
    let Some(lab) = Lab::up(mode, cni) else { return };
    let entry = lab.entry();
    conntrack::enable_timestamps(&entry.netns).unwrap();
    let events = Events::subscribe(&entry.netns, SubscribeOptions::default()).unwrap();
    let taps = lab.taps();
    let clients = lab.connect();
    // Closed, because an open tap keeps its host's namespace.
    let capture = taps.stop().unwrap();
    let recorded = events.finish().unwrap();
    assert_eq!((recorded.lost, recorded.surplus), (0, 0));
    assert_eq!((capture.dropped, capture.unparsed), (0, 0), "{:?}", capture.taps);

    // An event leaves the node with its packet, so both are whole once the client has connected.
    let ours = |event: &&Event| event.flow.original.destination == lab.node_port();
    let ours: Vec<Event> = recorded.events.iter().filter(ours).copied().collect();
    let latencies = new_to_seen_reply(&ours);
    assert_eq!((latencies.unanswered, latencies.incomparable), (0, 0));
    assert_eq!(latencies.pairs.len(), FLOWS);
    let sightings = Sightings::of(&capture);
    let flows = ours.iter().filter(|event| event.kind == EventKind::New).map(|event| event.flow);
    let walks: HashMap<SocketAddr, Walk> = flows
        .map(|flow| {
            assert_eq!(flow.dnat(), Some(lab.backend()), "{mode} sent {} elsewhere", flow.original);
            assert!(flow.snat().is_some(), "{} is not masqueraded", flow.original);
            (flow.original.source, sightings.walk(&flow))
        })
        .collect();
    assert!(clients.iter().all(|client| walks.contains_key(client)), "a flow was not seen");
    assert_eq!(walks.len(), clients.len());
    if !ours.iter().all(|event| matches!(event.at, EventTime::Kernel(_))) {
        eprintln!("SKIP this kernel's events carry no time (Linux 6.14 and later do)");
        return;
    }
    let told = told(&ours, &latencies.pairs);
    for client in &clients {
        agree(*client, &told[client], &walks[client]);
    }
    lab.down();
    report(mode, cni, &clients, &told, &walks);
}

/// Each client's events.
fn told(events: &[Event], pairs: &[(conntrack::Tuple, u64)]) -> HashMap<SocketAddr, Told> {
    let first = |client, wanted: fn(&Event) -> bool| {
        let event = events.iter().find(|e| e.flow.original.source == client && wanted(e)).unwrap();
        let EventTime::Kernel(ns) = event.at else { panic!("{event:?} has no time") };
        ns
    };
    let all = pairs.iter().map(|&(tuple, latency_ns)| {
        let client = tuple.source;
        let new_ns = first(client, |event| event.kind == EventKind::New);
        let answered = |event: &Event| event.kind == EventKind::Update && event.flow.is_answered();
        (client, Told { new_ns, answered_ns: first(client, answered), latency_ns })
    });
    all.collect()
}

/// The kernel's times of one flow lie where its packets were.
fn agree(client: SocketAddr, told: &Told, walk: &Walk) {
    let order = [
        ("SYN into the NIC", walk.syn_in_ns),
        ("conntrack's NEW", told.new_ns),
        ("SYN out of the NIC", walk.syn_out_ns),
        ("SYN into the pod", walk.pod_in_ns),
        ("SYN-ACK out of the pod", walk.pod_out_ns),
        ("SYN-ACK into the NIC", walk.answer_in_ns),
        ("conntrack's SEEN_REPLY", told.answered_ns),
        ("SYN-ACK out of the NIC", walk.answer_out_ns),
    ];
    for pair in order.windows(2) {
        let ((before, earlier), (after, later)) = (pair[0], pair[1]);
        assert!(earlier <= later, "{client}: {after} is before {before}: {told:?} {walk:?}");
    }
    // The two bounds and the measure itself, in ns between the packets alone.
    let (least, most) = (walk.answer_in_ns - walk.syn_out_ns, walk.answer_out_ns - walk.syn_in_ns);
    let latency = told.latency_ns;
    assert!((least..=most).contains(&latency), "{client}: {latency} not in {least}..={most}");
    // First-packet time is the way there only; what the two differ by is the way back, give or
    // take what the node did before NEW and after SEEN_REPLY.
    let first_packet = walk.first_packet_ns() as i64;
    let (least, most) = (least as i64 - first_packet, most as i64 - first_packet);
    let difference = latency as i64 - first_packet;
    assert!((least..=most).contains(&difference), "{client}: {difference} not in {least}..={most}");
}

/// For whoever reads along; nothing is asserted of these.
fn report(
    mode: Mode,
    cni: CniKind,
    clients: &[SocketAddr],
    told: &HashMap<SocketAddr, Told>,
    walks: &HashMap<SocketAddr, Walk>,
) {
    let median = |of: &dyn Fn(&Told, &Walk) -> u64| {
        let mut all: Vec<u64> = clients.iter().map(|c| of(&told[c], &walks[c])).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let us = |of: &dyn Fn(&Told, &Walk) -> u64| median(of) as f64 / 1e3;
    eprintln!(
        "{mode} {cni}, {FLOWS} flows, medians in us: NEW to SEEN_REPLY {:.1}, within {:.1} to {:.1}; \
         first packet {:.1}; NIC to NEW {:.1}; NIC to SEEN_REPLY {:.1}",
        us(&|t, _| t.latency_ns),
        us(&|_, w| w.answer_in_ns - w.syn_out_ns),
        us(&|_, w| w.answer_out_ns - w.syn_in_ns),
        us(&|_, w| w.first_packet_ns()),
        us(&|t, w| t.new_ns - w.syn_in_ns),
        us(&|t, w| t.answered_ns - w.answer_in_ns),
    );
}
