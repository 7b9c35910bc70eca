// SPDX-License-Identifier: Apache-2.0
//! Taps on real interfaces, real TCP between them, and the join of what they saw.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helpers fail and skip as the test does; clippy knows only `#[test]` itself"
)]

mod http;
mod lab;
#[cfg(feature = "bpf")]
mod probes;
mod taps;
mod tools;

use std::net::SocketAddr;

use harness::capture::path::NODE as NODE_STAGE;
use harness::capture::{Joined, Joiner, Observations, Path, TapCapture, TapOptions, Taps};
use harness::plan::{CniKind, Mode, Place, Road, Route};
use harness::relay::Relay;
use workloads::protocol::{Mark, Sample};

use http::{relay, request, serve};
use lab::{CLIENT, Lab, NODE, NODE_PORT, NODE1, POD, POD_PORT};

const SERVICE: SocketAddr = SocketAddr::new(NODE1, NODE_PORT);

fn nodeport(mode: Mode, cni: CniKind, place: Place) -> Path {
    Path::of(mode, cni, Route { road: Road::Nodeport, place })
}

fn join(
    path: &Path,
    taps: &Taps,
    capture: TapCapture,
    (samples, marks, relays): (&[Sample], &[Mark], &[Relay]),
) -> Joined {
    let mut joiner = Joiner::new(path, taps.infos()).unwrap();
    let TapCapture { packets, dropped, .. } = capture;
    joiner.join(Observations { packets, dropped, samples, marks, relays }).unwrap()
}

/// Every request has every stage of the path, and they add up to the client's own time.
fn assert_whole(joined: &Joined, samples: &[Sample]) {
    assert_eq!(joined.unjoined, Default::default());
    assert_eq!(joined.joined as usize, samples.len());
    let of_new = ["connect", "handover"];
    for stage in joined.stages.iter().filter(|stage| !of_new.contains(&&*stage.name)) {
        assert_eq!(stage.times.count(), joined.joined, "{:?} {}", stage.leg, stage.name);
        assert!(stage.times.sum_ns() > 0, "{:?} {}", stage.leg, stage.name);
    }
    let stages_ns: u64 = joined.stages.iter().map(|stage| stage.times.sum_ns()).sum();
    let residual_ns: i64 = joined.residual_ns.iter().sum();
    let service_ns: u64 =
        samples.iter().map(|s| s.last_byte_ns - s.connect_ns.unwrap_or(s.sent_ns)).sum();
    assert_eq!(stages_ns as i64 + residual_ns, service_ns as i64);
    for walk in &joined.walks {
        assert!(walk.times.is_sorted_by_key(|(_, time_ns)| time_ns), "{walk:?}");
    }
}

fn names(joined: &Joined) -> Vec<&str> {
    joined.stages.iter().map(|stage| stage.name.as_str()).collect()
}

/// Thirty new connections and one of twenty requests; the server takes `31` connections.
fn requests(lab: &Lab, to: SocketAddr) -> Vec<Sample> {
    let client = &lab.hosts[CLIENT];
    let mut samples: Vec<Sample> = (0..30).flat_map(|_| request(client, to, 1, true)).collect();
    samples.extend(request(client, to, 20, true));
    samples
}

#[test]
fn requests_through_dnat_and_masquerade_are_joined_stage_by_stage() {
    let Some(lab) = Lab::ptp() else { return };
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], 31);
    let samples = requests(&lab, SERVICE);
    let marks = server.join().unwrap();
    let capture = taps.drain().unwrap();
    assert_eq!((capture.dropped, capture.unparsed), (0, 0));
    let seen = capture.packets.clone();
    let path = nodeport(Mode::Nftables, CniKind::Ptp, Place::Local);
    let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
    assert_whole(&joined, &samples);
    let request =
        ["connect", "handover", "client_tx", "wire", NODE_STAGE, "cni", "pod_rx+wakeup", "app"];
    let response = ["pod_tx", "cni", NODE_STAGE, "wire", "client_rx", "body"];
    assert_eq!(names(&joined), [&request[..], &response].concat());
    assert_eq!(joined.first_packet.count(), 31);
    // A connection's last segments may come behind all that its program waits for.
    let again = taps.drain().unwrap().packets;
    assert!(!again.iter().any(|packet| seen.contains(packet)), "everything was handed out once");
}

#[test]
fn requests_to_a_pod_behind_vxlan_and_a_bridge_are_followed_inside_it() {
    let Some(lab) = Lab::vxlan() else { return };
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], 31);
    let samples = requests(&lab, SERVICE);
    let marks = server.join().unwrap();
    let capture = taps.drain().unwrap();
    let path = nodeport(Mode::Nftables, CniKind::Vxlan, Place::Remote);
    let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
    assert_whole(&joined, &samples);
    let request =
        ["connect", "handover", "client_tx", "wire", NODE_STAGE, "encap", "fabric", "decap"];
    let server = ["deliver", "pod_rx+wakeup", "app", "pod_tx", "deliver"];
    let response = ["encap", "fabric", "decap", NODE_STAGE, "wire", "client_rx", "body"];
    assert_eq!(names(&joined), [&request[..], &server, &response].concat());
    assert_eq!(joined.first_packet.count(), 31);
}

#[test]
fn without_translation_a_reply_from_behind_vxlan_comes_back_inside_it() {
    let Some(lab) = Lab::vxlan() else { return };
    // A client outside the nodes' own network, as the netns lab has it: behind the entry node, which
    // other nodes reach through their VXLAN device.
    lab.ip(CLIENT, "addr add 10.8.0.2/32 dev eth0");
    lab.ip(NODE, "route add 10.8.0.2/32 dev eth0");
    lab.ip(lab::NODE2, "route add 10.8.0.2/32 via 10.244.0.0 dev flannel.1 onlink");
    lab.ip(CLIENT, "route add 10.244.1.5/32 via 10.9.0.11 src 10.8.0.2");
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], 31);
    let samples = requests(&lab, SocketAddr::new([10, 244, 1, 5].into(), POD_PORT));
    let marks = server.join().unwrap();
    let capture = taps.drain().unwrap();
    let route = Route { road: Road::Direct, place: Place::Remote };
    let path = Path::of(Mode::None, CniKind::Vxlan, route);
    let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
    assert_whole(&joined, &samples);
}

#[test]
fn requests_through_a_proxy_process_are_followed_over_both_its_connections() {
    let Some(lab) = Lab::ptp() else { return };
    let pod = SocketAddr::new([10, 244, 0, 5].into(), POD_PORT);
    let relays = relay(&lab.hosts[NODE], 9000, pod, 31);
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], 31);
    let samples = requests(&lab, SocketAddr::new(NODE1, 9000));
    let marks = server.join().unwrap();
    let relays: Vec<Relay> = relays.iter().collect();
    let capture = taps.drain().unwrap();
    let path = nodeport(Mode::Userspace, CniKind::Ptp, Place::Local);
    let joined = join(&path, &taps, capture, (&samples, &marks, &relays));
    assert_whole(&joined, &samples);
    assert_eq!(joined.first_packet.count(), 31);
}

#[test]
fn a_response_that_is_sent_again_for_path_mtu_counts_where_it_was_first_seen() {
    let Some(lab) = Lab::vxlan() else { return };
    // The pod does not know that VXLAN takes 50 bytes: its first response is refused on the node.
    lab.ip(POD, "link set eth0 mtu 1500");
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let server = serve(&lab.hosts[POD], 1);
    let samples = request(&lab.hosts[CLIENT], SERVICE, 3, true);
    let marks = server.join().unwrap();
    let capture = taps.drain().unwrap();
    let path = nodeport(Mode::Nftables, CniKind::Vxlan, Place::Remote);
    let joined = join(&path, &taps, capture, (&samples, &marks, &[]));
    assert_whole(&joined, &samples);
    assert_eq!(joined.retransmitted, 1);
}

#[test]
fn an_open_connection_is_joined_window_after_window() {
    let Some(lab) = Lab::ptp() else { return };
    let mut taps = Taps::start(&lab.points(), TapOptions::default()).unwrap();
    let path = nodeport(Mode::Nftables, CniKind::Ptp, Place::Local);
    let mut joiner = Joiner::new(&path, taps.infos()).unwrap();
    let server = serve(&lab.hosts[POD], 1);
    let (go, wait) = std::sync::mpsc::channel();
    let (done, batches) = std::sync::mpsc::channel();
    let client = lab.hosts[CLIENT]
        .run(move || std::thread::spawn(move || http::batches_here(SERVICE, 5, wait, done)));
    let mut joined = Joined::default();
    for _ in 0..4 {
        go.send(()).unwrap();
        let samples: Vec<Sample> = batches.recv().unwrap();
        let TapCapture { packets, dropped, .. } = taps.drain().unwrap();
        let samples = &samples[..];
        let window = Observations { packets, dropped, samples, marks: &[], relays: &[] };
        joined.merge(joiner.join(window).unwrap());
    }
    drop(go);
    client.join().unwrap();
    assert_eq!(server.join().unwrap().len(), 20);
    assert_eq!((joined.joined, joined.unjoined), (20, Default::default()));
    assert!(joined.stages.iter().any(|stage| stage.name == "pod_rx+wakeup+app+pod_tx"));
}
