// SPDX-License-Identifier: Apache-2.0
//! BPF probes on the same lab, held against taps, against netfilter's own counters and against what
//! has to be true of times whatever the machine.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use harness::bpf::{Side, StatsOn, attached};
use harness::capture::bpf::{Placement, ProbeOptions, ProbePoint, Probes};
use harness::capture::{
    Direction, Joiner, Observations, Packet, Path, Site, TapInfo, TapOptions, Taps,
};
use harness::net::Netns;
use harness::plan::{CniKind, Mode, Place};

use crate::http::serve;
use crate::lab::{CLIENT, Lab, NODE, POD};
use crate::{SERVICE, assert_whole, nodeport, requests};

const HOOKS: [Site; 8] = [
    Site::PreConntrack,
    Site::Conntracked,
    Site::Translated,
    Site::LocalIn,
    Site::Forward,
    Site::LocalOut,
    Site::Postrouting,
    Site::Masqueraded,
];

/// Runs a test with the programs for a kernel that compiles them and with those for one that
/// interprets them. Says aloud where either cannot run.
fn with_either(up: impl Fn() -> Option<Lab>, test: impl Fn(&Lab, &Probes)) {
    for interpreted in [false, true] {
        let Some(lab) = up() else { return };
        let options = ProbeOptions { interpreted, ..ProbeOptions::default() };
        match Probes::load(options, &Netns::create("question").unwrap()) {
            Ok(probes) => test(&lab, &probes),
            Err(reason) => eprintln!("SKIP interpreted: {interpreted}: {reason}"),
        }
    }
}

/// Every device of the lab, every hook of its node, the pod's sockets.
fn points(lab: &Lab) -> Vec<ProbePoint<'_>> {
    let devices = lab.points().into_iter().map(|point| ProbePoint {
        netns: point.netns,
        node: point.node,
        device: Some(point.device),
        site: point.kind,
    });
    let at = |host: usize, site| ProbePoint {
        netns: &lab.hosts[host],
        node: Some(0),
        device: None,
        site,
    };
    devices.chain(HOOKS.map(|site| at(NODE, site))).chain([at(POD, Site::Readable)]).collect()
}

fn local() -> Path {
    nodeport(Mode::Nftables, CniKind::Ptp, Place::Local)
}

#[test]
fn every_boundary_of_a_request_is_seen_and_the_stages_add_up() {
    with_either(Lab::ptp, |lab, probes| {
        let points = points(lab);
        let placement = Placement::new(probes, &[local()], &points, false).unwrap();
        let links = placement.link(probes, &points).unwrap();
        let server = serve(&lab.hosts[POD], 31);
        let samples = requests(lab, SERVICE);
        let marks = server.join().unwrap();
        let capture = probes.drain().unwrap();
        drop(links);
        assert_eq!(capture.dropped, 0);
        let packets = placement.packets(&capture.events);
        let mut joiner = Joiner::new(&local(), placement.infos()).unwrap();
        let (samples, marks) = (&samples[..], &marks[..]);
        let joined =
            joiner.join(Observations { packets, dropped: 0, samples, marks, relays: &[] }).unwrap();
        assert_whole(&joined, samples);
        let names: Vec<&str> = joined.stages.iter().map(|stage| stage.name.as_str()).collect();
        let node = ["nic_rx", "conntrack", "proxy", "route", "filter", "masq", "egress"];
        let readable = match probes.without_sockets() {
            None => &["pod_rx", "wakeup"][..],
            Some(_) => &["pod_rx+wakeup"],
        };
        let expected = [
            &["connect", "handover", "client_tx", "wire"][..],
            &node,
            &["cni"],
            readable,
            &["app", "pod_tx", "cni"],
            &node,
            &["wire", "client_rx", "body"],
        ]
        .concat();
        assert_eq!(names, expected);
        assert!(joined.residual_ns.iter().all(|&ns| ns == 0), "every nanosecond has a name");
    });
}

/// A segment at a device: host, direction, and what tells it from others there.
type Sighting = (String, Direction, u32, u8, u32);

fn sightings(packets: &[Packet], taps: &[TapInfo]) -> HashMap<Sighting, u64> {
    let mut first = HashMap::new();
    for packet in packets {
        let tap = &taps[usize::from(packet.tap)];
        let segment = &packet.segment;
        let key =
            (tap.name.clone(), packet.direction, segment.seq, segment.flags, segment.payload_bytes);
        let time_ns = first.entry(key).or_insert(packet.time_ns);
        *time_ns = packet.time_ns.min(*time_ns);
    }
    first
}

#[test]
fn at_every_device_programs_and_packet_sockets_see_the_same_segments_in_the_kernels_order() {
    with_either(Lab::vxlan, |lab, probes| {
        let path = nodeport(Mode::Nftables, CniKind::Vxlan, Place::Remote);
        let points: Vec<_> =
            points(lab).into_iter().filter(|point| point.site.is_device()).collect();
        let placement = Placement::new(probes, std::slice::from_ref(&path), &points, true).unwrap();
        let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
        let links = placement.link(probes, &points).unwrap();
        let server = serve(&lab.hosts[POD], 31);
        requests(lab, SERVICE);
        server.join().unwrap();
        let (by_socket, by_program) = (taps.drain().unwrap(), probes.drain().unwrap());
        // The last FIN may have been on its way: programs have seen it between the two.
        let later = taps.drain().unwrap();
        drop(links);
        assert_eq!((by_socket.dropped, by_program.dropped, later.dropped), (0, 0, 0));
        let probed = placement.infos();
        let by_program = sightings(&placement.packets(&by_program.events), probed);
        let by_socket = sightings(&by_socket.packets, taps.infos());
        let later = sightings(&later.packets, taps.infos());
        // What the path does not pass (the bridge on the way in) has a tap and no probe.
        let probed_at: Vec<_> =
            probed.iter().map(|info| (info.name.clone(), info.direction)).collect();
        let by_socket: HashMap<_, _> = by_socket
            .into_iter()
            .filter(|(key, _)| probed_at.contains(&(key.0.clone(), Some(key.1))))
            .collect();
        assert!(by_program.len() > 500, "{}", by_program.len());
        // The wall clock is turned into the other one to within this.
        let tolerance_ns = 5_000;
        for (key, &socket_ns) in &by_socket {
            let &program_ns =
                by_program.get(key).unwrap_or_else(|| panic!("no program saw {key:?}"));
            // On the way in packet sockets come before tc, on the way out behind it
            // (net/core/dev.c, __netif_receive_skb_core() and __dev_queue_xmit()).
            let (early_ns, late_ns) = match key.1 {
                Direction::In => (socket_ns, program_ns),
                Direction::Out => (program_ns, socket_ns),
            };
            assert!(early_ns < late_ns + tolerance_ns, "{key:?}: {early_ns} {late_ns}");
        }
        for key in by_program.keys() {
            let seen = by_socket.contains_key(key) || later.contains_key(key);
            assert!(seen, "no packet socket saw {key:?}");
        }
    });
}

#[test]
fn a_translation_is_seen_at_the_very_hook_that_makes_it() {
    with_either(Lab::ptp, |lab, probes| {
        let points = points(lab);
        let placement = Placement::new(probes, &[local()], &points, true).unwrap();
        let links = placement.link(probes, &points).unwrap();
        let server = serve(&lab.hosts[POD], 31);
        requests(lab, SERVICE);
        server.join().unwrap();
        let packets = placement.packets(&probes.drain().unwrap().events);
        drop(links);
        let pod = "10.244.0.5:8080".parse().unwrap();
        let syns = |site: Site| {
            let here = |packet: &&Packet| placement.infos()[usize::from(packet.tap)].site == site;
            let syn = |packet: &&Packet| packet.segment.flags & 0x12 == 0x02;
            packets.iter().filter(here).filter(syn).collect::<Vec<_>>()
        };
        for (site, translated) in [
            (Site::PreConntrack, false),
            (Site::Conntracked, false),
            (Site::Translated, true),
            (Site::Forward, true),
            (Site::Masqueraded, true),
        ] {
            let syns = syns(site);
            assert_eq!(syns.len(), 31, "{site:?}");
            for packet in syns {
                let expected = if translated { pod } else { SERVICE };
                assert_eq!(packet.segment.dst, expected, "{site:?}");
            }
        }
        // The client's address goes where the rule is that takes it away, and not before.
        let client = "10.9.200.2".parse::<std::net::IpAddr>().unwrap();
        assert!(syns(Site::Postrouting).iter().all(|p| p.segment.src.ip() == client));
        assert!(syns(Site::Masqueraded).iter().all(|p| p.segment.src.ip() != client));
        assert!(syns(Site::LocalIn).is_empty(), "nothing was for the node itself");
    });
}

#[test]
fn connections_that_are_not_marked_are_not_seen() {
    with_either(Lab::ptp, |lab, probes| {
        let points = points(lab);
        let placement = Placement::new(probes, &[local()], &points, true).unwrap();
        let links = placement.link(probes, &points).unwrap();
        let server = serve(&lab.hosts[POD], 1);
        crate::request(&lab.hosts[CLIENT], SERVICE, 5, false);
        server.join().unwrap();
        assert_eq!(probes.drain().unwrap().events, []);
        drop(links);
    });
}

#[test]
fn unlinked_probes_leave_nothing_on_a_device_and_cost_nothing() {
    with_either(Lab::ptp, |lab, probes| {
        let points = points(lab);
        let placement = Placement::new(probes, &[local()], &points, true).unwrap();
        let on_nic = || attached(&lab.hosts[NODE], "eth0", Side::Ingress).unwrap().len();
        let links = placement.link(probes, &points).unwrap();
        assert_eq!(on_nic(), 1);
        drop(links);
        assert_eq!(on_nic(), 0);
        let counting = StatsOn::begin().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // The socket's tracepoint outlives its link while a test beside this one is starting a process.
        loop {
            let before = probes.cost().unwrap();
            let server = serve(&lab.hosts[POD], 31);
            requests(lab, SERVICE);
            server.join().unwrap();
            let runs = probes.cost().unwrap().runs - before.runs;
            let events = probes.drain().unwrap().events;
            if runs == 0 {
                assert_eq!(events, []);
                break;
            }
            assert!(Instant::now() < deadline, "{runs} runs during the last 31 requests");
        }
        drop(counting);
    });
}

#[test]
fn the_kernel_counts_what_the_probes_cost() {
    with_either(Lab::ptp, |lab, probes| {
        let points = points(lab);
        let placement = Placement::new(probes, &[local()], &points, true).unwrap();
        let links = placement.link(probes, &points).unwrap();
        let counting = StatsOn::begin().unwrap();
        let before = probes.cost().unwrap();
        let server = serve(&lab.hosts[POD], 31);
        requests(lab, SERVICE);
        server.join().unwrap();
        let (cost, events) = (probes.cost().unwrap(), probes.drain().unwrap().events.len() as u64);
        let runs = cost.runs - before.runs;
        assert!(runs >= events && events > 1_000, "{runs} runs, {events} events");
        let mut time_ns = cost.time_ns - before.time_ns;
        // Where the kernel counts in ticks (`kernel/sched/clock.c`), all of these may fall between two.
        for _ in 0..50 {
            if time_ns > 0 {
                break;
            }
            let server = serve(&lab.hosts[POD], 31);
            requests(lab, SERVICE);
            server.join().unwrap();
            time_ns = probes.cost().unwrap().time_ns - before.time_ns;
        }
        assert!(time_ns > 0);
        drop((counting, links));
    });
}
