// SPDX-License-Identifier: Apache-2.0
//! Ring 2: connections read by us and by `conntrack(8)`, of real TCP connections through DNAT.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod service_lab;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use harness::net::conntrack::{
    self, EventKind, EventTime, Events, Filter, Flow, SubscribeOptions, TcpState, Tuple,
    new_to_seen_reply,
};
use harness::net::{Netns, Tool};
use service_lab::{CLIENTS, Lab, PATIENCE, PODS, ask, nft};

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);
const BACKEND: SocketAddr = SocketAddr::new(PODS[0], 8080);

const NAT: &str = "\
add table ip test
add chain ip test before { type nat hook prerouting priority -100 ; }
add chain ip test after { type nat hook postrouting priority 100 ; }
add rule ip test before ip daddr 10.96.0.1 tcp dport 80 ct mark set 7 dnat to 10.244.0.2:8080
add rule ip test after ip saddr 10.9.200.2 masquerade
";

fn lab() -> Option<Lab> {
    let lab = Lab::up()?;
    nft(&lab.node, NAT);
    Some(lab)
}

/// Waits until the last packets of all connections have passed the node.
fn settle(node: &Netns) {
    let deadline = Instant::now() + PATIENCE;
    let closed = |flow: &Flow| flow.tcp_state == Some(TcpState::TimeWait);
    while !conntrack::dump(node, Filter::default()).unwrap().iter().all(closed) {
        assert!(Instant::now() < deadline, "connections stay open");
        std::thread::yield_now();
    }
}

/// Fields that both print, as `conntrack -o extended` spells them.
fn shown(flow: &Flow) -> String {
    let direction = |tuple: &Tuple| {
        format!(
            "src={} dst={} sport={} dport={}",
            tuple.source.ip(),
            tuple.destination.ip(),
            tuple.source.port(),
            tuple.destination.port()
        )
    };
    assert_eq!(flow.tcp_state, Some(TcpState::TimeWait));
    let mark = flow.mark.unwrap();
    format!("TIME_WAIT {} {} mark={mark}", direction(&flow.original), direction(&flow.reply))
}

/// The same out of a line of the tool's, which also has `ipv4 2 tcp 6 119` and `[ASSURED]`.
fn fields(line: &str) -> String {
    let words: Vec<_> = line
        .split_whitespace()
        .skip(5)
        .filter(|word| !word.starts_with('[') && !word.starts_with("use="))
        .collect();
    words.join(" ")
}

#[test]
fn the_table_is_the_one_the_conntrack_tool_shows() {
    let Some(lab) = lab() else { return };
    for client in CLIENTS.iter().cycle().take(20) {
        ask(&lab.client, Some(*client), VIP).unwrap();
    }
    settle(&lab.node);
    let theirs = Tool::new("conntrack")
        .args(["-L", "-f", "ipv4", "-p", "tcp", "-o", "extended"])
        .run_on(&lab.node)
        .unwrap();
    let theirs: BTreeSet<_> = theirs.lines().map(fields).collect();
    let ours = conntrack::dump(&lab.node, Filter::default()).unwrap();
    assert_eq!(ours.len(), 20);
    assert_eq!(ours.iter().map(shown).collect::<BTreeSet<_>>(), theirs);
    assert_eq!(conntrack::count(&lab.node).unwrap(), 20);
    assert!(conntrack::max(&lab.node).unwrap() > 20);
}

#[test]
fn a_flow_tells_its_translations_and_a_filter_picks_flows() {
    let Some(lab) = lab() else { return };
    let plain = ask(&lab.client, Some(CLIENTS[0]), VIP).unwrap();
    let masqueraded = ask(&lab.client, Some(CLIENTS[1]), VIP).unwrap();
    let flow = conntrack::find(&lab.node, Tuple::tcp(plain.client, VIP)).unwrap().unwrap();
    assert_eq!((flow.dnat(), flow.snat()), (Some(BACKEND), None));
    let flow = conntrack::find(&lab.node, Tuple::tcp(masqueraded.client, VIP)).unwrap().unwrap();
    assert_eq!((flow.dnat(), flow.snat()), (Some(BACKEND), Some(masqueraded.seen)));
    assert!(flow.is_answered());

    let filter = Filter { client: Some(CLIENTS[1]), ..Filter::default() };
    // By its tuple: the timeout counts down between the two looks.
    let picked = conntrack::dump(&lab.node, filter).unwrap();
    assert_eq!(picked.iter().map(|flow| flow.original).collect::<Vec<_>>(), [flow.original]);
    let filter = Filter { mark: Some(8), ..Filter::default() };
    assert_eq!(conntrack::dump(&lab.node, filter).unwrap(), []);

    // By its reply tuple a flow is not found: that is not how it came in.
    assert_eq!(conntrack::find(&lab.node, flow.reply).unwrap(), None);
    let never = SocketAddr::new(CLIENTS[0], 1);
    assert_eq!(conntrack::find(&lab.node, Tuple::tcp(never, VIP)).unwrap(), None);
}

#[test]
fn flushing_forgets_the_labs_flows_and_refuses_the_hosts() {
    let Some(lab) = lab() else { return };
    ask(&lab.client, None, VIP).unwrap();
    conntrack::flush(&lab.node).unwrap();
    assert_eq!(conntrack::dump(&lab.node, Filter::default()).unwrap(), []);

    let own = std::fs::File::open("/proc/self/ns/net").unwrap();
    let own = Netns::enter("the host", own.into()).unwrap();
    let refusal = conntrack::flush(&own).unwrap_err().to_string();
    assert!(refusal.contains("not the lab's"), "{refusal}");
    assert!(conntrack::enable_timestamps(&own).is_err());
}

#[test]
fn events_tell_of_each_flow_and_how_long_its_answer_took() {
    const FLOWS: usize = 50;
    let Some(lab) = lab() else { return };
    conntrack::enable_timestamps(&lab.node).unwrap();
    let events = Events::subscribe(&lab.node, SubscribeOptions::default()).unwrap();
    let began_ns = realtime_ns();
    let answers: Vec<_> = (0..FLOWS).map(|_| ask(&lab.client, None, VIP).unwrap()).collect();
    conntrack::flush(&lab.node).unwrap();
    let ended_ns = realtime_ns();
    let recorded = events.finish().unwrap();
    assert_eq!((recorded.lost, recorded.surplus), (0, 0));

    let asked: BTreeSet<_> = answers.iter().map(|answer| answer.client).collect();
    for kind in [EventKind::New, EventKind::Update, EventKind::Destroy] {
        let of_kind: Vec<_> = recorded.events.iter().filter(|event| event.kind == kind).collect();
        let clients: BTreeSet<_> = of_kind.iter().map(|event| event.flow.original.source).collect();
        assert_eq!(clients, asked, "{kind:?}");
        assert!(kind == EventKind::Update || of_kind.len() == FLOWS, "{kind:?}");
    }
    let latencies = new_to_seen_reply(&recorded.events);
    assert_eq!(latencies.pairs.len(), FLOWS);
    assert_eq!((latencies.unanswered, latencies.incomparable), (0, 0));
    for (tuple, ns) in &latencies.pairs {
        assert!(*ns > 0 && *ns < ended_ns - began_ns, "{tuple}: {ns} ns");
    }
    // Linux 6.14 and later say when; before, it is we who look at the clock.
    for event in &recorded.events {
        let (EventTime::Kernel(ns) | EventTime::Received(ns)) = event.at;
        assert!((began_ns..=ended_ns + 1_000_000_000).contains(&ns), "{event:?}");
    }
}

#[test]
fn the_kernels_time_of_a_new_flow_is_before_the_flow_entered_the_table() {
    let Some(lab) = lab() else { return };
    conntrack::enable_timestamps(&lab.node).unwrap();
    let events = Events::subscribe(&lab.node, SubscribeOptions::default()).unwrap();
    ask(&lab.client, None, VIP).unwrap();
    let flow = conntrack::dump(&lab.node, Filter::default()).unwrap()[0];
    let recorded = events.finish().unwrap();
    let new = recorded.events.iter().find(|event| event.kind == EventKind::New).unwrap();
    let EventTime::Kernel(event_ns) = new.at else {
        eprintln!("SKIP this kernel's events carry no time (Linux 6.14 and later do)");
        return;
    };
    // It is taken at the SYN's first look-up, and so includes the walk through the NAT rules.
    assert!(event_ns < flow.started_ns.unwrap(), "{event_ns} {flow:?}");
}

#[test]
fn the_events_are_those_the_conntrack_tool_shows() {
    let Some(lab) = lab() else { return };
    let events = Events::subscribe(&lab.node, SubscribeOptions::default()).unwrap();
    let answers: Vec<_> = (0..5).map(|_| ask(&lab.client, None, VIP).unwrap()).collect();
    let ours = events.finish().unwrap().events;
    // The tool is asked what is there; it has no way to say that it has begun to listen.
    let theirs = Tool::new("conntrack")
        .args(["-L", "-f", "ipv4", "-p", "tcp", "-o", "extended,id"])
        .run_on(&lab.node)
        .unwrap();
    let ids: BTreeSet<_> = theirs
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("id=")?.parse::<u32>().ok())
        .collect();
    let heard: BTreeSet<_> = ours
        .iter()
        .filter(|event| event.kind == EventKind::New)
        .map(|event| event.flow.id.unwrap())
        .collect();
    assert_eq!(heard.len(), answers.len());
    assert_eq!(heard, ids);
}

#[test]
fn events_without_room_are_counted_as_lost() {
    const FLOWS: u16 = 2_000;
    let Some(lab) = lab() else { return };
    // The kernel allows no buffer smaller than about 2 KiB, which is two events.
    let options = SubscribeOptions { buffer_bytes: 1, ..SubscribeOptions::default() };
    let events = Events::subscribe(&lab.node, options).unwrap();
    lab.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 0..FLOWS {
            socket.send_to(b"x", (PODS[1], 10_000 + port)).unwrap();
        }
    });
    let recorded = events.finish().unwrap();
    let new = recorded.events.iter().filter(|event| event.kind == EventKind::New).count();
    assert!(recorded.lost > 0, "{new} of {FLOWS} events fit into a buffer for two");
    assert!(new < usize::from(FLOWS));
}

#[test]
fn events_past_the_limit_are_counted() {
    let Some(lab) = lab() else { return };
    let options = SubscribeOptions { events_max: 3, ..SubscribeOptions::default() };
    let events = Events::subscribe(&lab.node, options).unwrap();
    for _ in 0..3 {
        ask(&lab.client, None, VIP).unwrap();
    }
    let recorded = events.finish().unwrap();
    assert_eq!(recorded.events.len(), 3);
    assert!(recorded.surplus > 3, "{}", recorded.surplus);
}

fn realtime_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}
