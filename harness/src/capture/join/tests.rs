// SPDX-License-Identifier: Apache-2.0
//! Joining made-up scenes whose every time is known.

use proptest::prelude::*;

use super::super::path::NODE;
use super::synthetic::{INGRESS, Scene, scene};
use super::*;
use crate::capture::packet::{Direction, flags};
use crate::capture::path::{Hop, Host};
use crate::capture::{Site, TapInfo};
use crate::plan::{CniKind, Mode, Place, Road, Route};

fn every_path() -> impl Iterator<Item = (String, Path)> {
    let modes = [Mode::None, Mode::Iptables, Mode::Ipvs, Mode::Userspace, Mode::Ebpf];
    modes.into_iter().flat_map(|mode| {
        CniKind::ALL.iter().flat_map(move |&cni| {
            // A proxy process runs in labs of nic2pod's own CNIs only.
            let none = mode == Mode::Userspace && !cni.is_own();
            Road::ALL.iter().filter(move |_| !none).flat_map(move |&road| {
                Place::ALL.iter().map(move |&place| {
                    let route = Route { road, place };
                    let path = Path::of(mode, cni, route);
                    let by = path.ingress().map(|_| INGRESS);
                    (format!("{mode}+{cni}/{route}"), path.by_ingress(by))
                })
            })
        })
    })
}

fn nodeport() -> Path {
    let route = Route { road: Road::Nodeport, place: Place::Remote };
    Path::of(Mode::Iptables, CniKind::Vxlan, route)
}

impl Scene {
    /// What taps at some sites only would have seen.
    fn seen_at(mut self, wanted: impl Fn(&TapInfo) -> bool) -> Self {
        let mut kept = 0;
        let moved: Vec<Option<u16>> = self
            .taps
            .iter()
            .map(|tap| {
                let index = kept;
                kept += u16::from(wanted(tap));
                wanted(tap).then_some(index)
            })
            .collect();
        self.taps.retain(|tap| wanted(tap));
        self.packets.retain_mut(|packet| match moved[usize::from(packet.tap)] {
            Some(index) => {
                packet.tap = index;
                true
            }
            None => false,
        });
        self
    }

    fn observations(&self) -> Observations<'_> {
        Observations {
            packets: self.packets.clone(),
            dropped: 0,
            samples: &self.samples,
            marks: &self.marks,
            relays: &self.relays,
        }
    }

    fn join(&self, path: &Path) -> Result<Joined, JoinError> {
        Joiner::new(path, &self.taps).unwrap().join(self.observations())
    }
}

fn sum_ns(joined: &Joined) -> u64 {
    joined.stages.iter().map(|stage| stage.times.sum_ns()).sum()
}

#[test]
fn on_every_path_every_request_is_joined_and_its_stages_add_up() {
    for (name, path) in every_path() {
        for requests in [1, 3] {
            let scene = scene(&path, 20, requests, 7);
            let joined = scene.join(&path).unwrap();
            assert_eq!(joined.unjoined, Default::default(), "{name}");
            assert_eq!((joined.sampled, joined.joined), (20 * u64::from(requests), joined.sampled));
            let residual_ns: i64 = joined.residual_ns.iter().sum();
            let service_ns: u64 = scene
                .samples
                .iter()
                .map(|s| s.last_byte_ns - s.connect_ns.unwrap_or(s.sent_ns))
                .sum();
            assert_eq!(sum_ns(&joined) as i64 + residual_ns, service_ns as i64, "{name}");
        }
    }
}

#[test]
fn an_upgrade_is_a_stage_between_the_connection_and_what_the_client_does_with_it() {
    let path = nodeport();
    let mut scene = scene(&path, 5, 1, 7);
    let without = scene.join(&path).unwrap();
    for sample in &mut scene.samples {
        let (connected_ns, sent_ns) = (sample.connected_ns.unwrap(), sample.sent_ns);
        sample.upgraded_ns = Some(connected_ns + (sent_ns - connected_ns) / 2);
    }
    let joined = scene.join(&path).unwrap();
    let of = |joined: &Joined, name: &str| {
        let mut stages = joined.stages.iter();
        stages.find(|stage| stage.name == name).map_or(0, |stage| stage.times.sum_ns())
    };
    assert!(of(&joined, "upgrade") > 0 && of(&joined, "handover") > 0);
    let both = of(&joined, "upgrade") + of(&joined, "handover");
    assert_eq!(both, of(&without, "handover"));
    assert_eq!((sum_ns(&joined), &joined.residual_ns), (sum_ns(&without), &without.residual_ns));
    scene.samples[0].upgraded_ns = Some(scene.samples[0].sent_ns + 1);
    let error = scene.join(&path).unwrap_err().to_string();
    assert!(error.contains("`handover`") && error.contains("upgraded"), "{error}");
}

#[test]
fn every_hops_time_is_the_one_it_was_made_with() {
    for (name, path) in every_path() {
        let scene = scene(&path, 12, 1, 11);
        let joined = scene.join(&path).unwrap();
        for ((walk, truth), (sample, mark)) in
            joined.walks.iter().zip(&scene.truth).zip(scene.samples.iter().zip(&scene.marks))
        {
            let split = path.hops().iter().filter(|hop| hop.leg == Leg::Request).count();
            let mut expected = vec![sample.sent_ns];
            expected.extend(&truth[..split]);
            expected.extend([mark.read_ns, mark.written_ns]);
            expected.extend(&truth[split..]);
            expected.extend([sample.first_byte_ns, sample.last_byte_ns]);
            let times: Vec<u64> = walk.times.iter().map(|&(_, ns)| ns).collect();
            assert_eq!(times, expected, "{name}");
        }
    }
}

#[test]
fn first_packet_is_the_syn_from_the_entry_nodes_first_interface_to_the_pod() {
    for (name, path) in every_path() {
        let scene = scene(&path, 9, 1, 3);
        let joined = scene.join(&path).unwrap();
        // Behind the load balancer, where there is one.
        let at = if path.balanced() { 3 } else { 1 };
        let first = &path.hops()[at];
        if (first.host, first.direction) != (Host::Entry, Direction::In) {
            // From pod to pod past the entry node there is no such packet, or it is not known where.
            let past = name.starts_with("none+ipvlan/clusterip")
                || name.starts_with("none+macvlan/clusterip-local");
            let others = CniKind::ALL.iter().filter(|cni| !cni.is_own());
            let mut unknown = others.map(|cni| format!("+{cni}/clusterip"));
            assert!(past || unknown.any(|part| name.contains(&part)), "{name}");
            assert_eq!(joined.first_packet.count(), 0, "{name}");
            continue;
        }
        let pod = |hop: &Hop| [Host::Ingress, Host::Pod].contains(&hop.host);
        let pod = path.hops().iter().position(pod).unwrap();
        let expected: u64 = scene.syns.iter().map(|syn| syn[pod] - syn[at]).sum();
        assert_eq!(joined.first_packet.count(), 9, "{name}");
        assert_eq!(joined.first_packet.sum_ns(), expected, "{name}");
    }
}

fn names(joined: &Joined, leg: Leg) -> Vec<&str> {
    joined.stages.iter().filter(|s| s.leg == leg).map(|s| s.name.as_str()).collect()
}

#[test]
fn stages_have_the_names_of_the_method_in_path_order() {
    let joined = scene(&nodeport(), 2, 1, 1).join(&nodeport()).unwrap();
    let node = ["nic_rx", "conntrack", "proxy", "route", "filter", "masq", "egress"];
    let request = ["connect", "handover", "client_tx", "wire"];
    let tunnel = ["encap", "fabric", "decap", "deliver"];
    let server = ["pod_rx", "wakeup", "app"];
    let expected = [&request[..], &node, &tunnel, &server].concat();
    assert_eq!(names(&joined, Leg::Request), expected);
    let tunnel = ["pod_tx", "deliver", "encap", "fabric", "decap"];
    let expected = [&tunnel[..], &node, &["wire", "client_rx", "body"]].concat();
    assert_eq!(names(&joined, Leg::Response), expected);
}

#[test]
fn behind_an_ingress_controller_stages_have_names_of_their_own() {
    let route = Route { road: Road::Ingress, place: Place::Local };
    let path = Path::of(Mode::Iptables, CniKind::Ptp, route);
    let scene = scene(&path, 4, 3, 1);
    let joined = scene.join(&path).unwrap();
    assert_eq!((joined.joined, joined.unjoined.len()), (12, 0));
    let node = ["nic_rx", "conntrack", "proxy", "route", "filter", "masq", "egress"];
    let beyond = node.map(|name| format!("up_{name}"));
    let beyond: Vec<&str> = beyond.iter().map(String::as_str).collect();
    let expected = [
        &["client_tx", "wire"][..],
        &node,
        &["cni", "ingress", "up_wire"],
        &beyond,
        &["up_cni", "pod_rx", "wakeup", "app"],
    ];
    assert_eq!(names(&joined, Leg::Request), expected.concat());
    let expected = [
        &["pod_tx", "up_cni"][..],
        &beyond,
        &["up_wire", "ingress", "cni"],
        &node,
        &["wire", "client_rx", "body"],
    ];
    assert_eq!(names(&joined, Leg::Response), expected.concat());
}

#[test]
fn a_request_whose_server_is_not_heard_of_is_not_joined_behind_an_ingress_controller() {
    let route = Route { road: Road::Ingress, place: Place::Remote };
    let path = Path::of(Mode::Iptables, CniKind::Ptp, route);
    let mut scene = scene(&path, 3, 2, 1);
    scene.marks.remove(1);
    let joined = scene.join(&path).unwrap();
    let reason = Unjoined::NotSeen("request read by server".to_owned());
    assert_eq!((joined.joined, joined.unjoined), (5, [(reason, 1)].into()));
}

#[test]
fn where_the_node_takes_a_packet_up_the_proxy_has_two_parts_and_one_name() {
    let route = Route { road: Road::Nodeport, place: Place::Local };
    for mode in [Mode::Ipvs, Mode::Userspace] {
        let path = Path::of(mode, CniKind::Ptp, route);
        let scene = scene(&path, 6, 1, 1);
        let joined = scene.join(&path).unwrap();
        let proxy: Vec<_> = joined.stages.iter().filter(|s| s.name == "proxy").collect();
        assert_eq!((proxy[0].leg, proxy[0].times.count()), (Leg::Request, 6), "{mode}");
        let at = |site| path.hops().iter().position(|hop| hop.site == site).unwrap();
        let sites = [Site::Conntracked, Site::Translated, Site::LocalIn, Site::LocalOut].map(at);
        let part_ns = |truth: &Vec<u64>, to: usize| truth[to] - truth[to - 1];
        let expected: u64 = scene
            .truth
            .iter()
            .map(|truth| part_ns(truth, sites[1]) + part_ns(truth, sites[3]))
            .sum();
        assert_eq!(proxy[0].times.sum_ns(), expected, "{mode}");
    }
}

#[test]
fn to_taps_on_devices_everything_on_the_entry_node_is_one_stage() {
    for mode in [Mode::None, Mode::Iptables, Mode::Ipvs, Mode::Userspace] {
        let route = Route { road: Road::Nodeport, place: Place::Remote };
        let path = Path::of(mode, CniKind::Vxlan, route);
        let scene = scene(&path, 2, 1, 1).seen_at(|tap| tap.site.is_device());
        let joined = scene.join(&path).unwrap();
        assert_eq!(joined.joined, 2, "{mode}");
        let request =
            ["connect", "handover", "client_tx", "wire", NODE, "encap", "fabric", "decap"];
        let server = ["deliver", "pod_rx+wakeup", "app"];
        assert_eq!(names(&joined, Leg::Request), [&request[..], &server].concat(), "{mode}");
        let response = ["pod_tx", "deliver", "encap", "fabric", "decap", NODE, "wire"];
        let client = ["client_rx", "body"];
        assert_eq!(names(&joined, Leg::Response), [&response[..], &client].concat(), "{mode}");
    }
}

#[test]
fn without_the_servers_marks_its_stages_are_one() {
    let mut scene = scene(&nodeport(), 5, 1, 1);
    scene.marks.clear();
    let joined = scene.join(&nodeport()).unwrap();
    assert_eq!(joined.joined, 5);
    let server = joined.stages.iter().find(|s| s.name == "wakeup+app+pod_tx").unwrap();
    assert_eq!((server.leg, server.times.count()), (Leg::Request, 5));
}

#[test]
fn without_a_tap_the_stages_beside_it_are_one() {
    let path = nodeport();
    let scene = scene(&path, 5, 1, 1).seen_at(|tap| tap.node != Some(0) || tap.site != Site::Vxlan);
    let joined = scene.join(&path).unwrap();
    assert_eq!(joined.joined, 5);
    assert!(joined.stages.iter().any(|s| s.name == "egress+encap"), "{:?}", joined.stages);
}

#[test]
fn an_optional_hop_that_is_passed_by_merges_its_stages() {
    let route = Route { road: Road::Clusterip, place: Place::Local };
    let path = Path::of(Mode::Iptables, CniKind::Bridge, route);
    let mut scene = scene(&path, 5, 1, 1);
    let hooks: Vec<bool> = scene.taps.iter().map(|tap| Site::PreConntrack <= tap.site).collect();
    let readable = scene.taps.iter().position(|tap| tap.site == Site::Readable).unwrap();
    scene.packets.retain(|packet| {
        let tap = usize::from(packet.tap);
        !hooks[tap] || tap == readable
    });
    let joined = scene.join(&path).unwrap();
    assert_eq!((joined.joined, joined.residual_ns.len()), (5, 5));
    assert!(joined.stages.iter().any(|stage| stage.name == format!("{NODE}+cni")));
    assert!(joined.stages.iter().any(|stage| stage.name == NODE));
}

#[test]
fn a_packet_that_a_tap_missed_leaves_its_request_unjoined_by_name() {
    let path = nodeport();
    let mut scene = scene(&path, 5, 1, 1);
    let payload = |packet: &Packet| packet.segment.payload_bytes > 0;
    let at = scene.packets.iter().position(|p| payload(p) && p.segment.encapsulated).unwrap();
    scene.packets.remove(at);
    let joined = scene.join(&path).unwrap();
    assert_eq!(joined.joined, 4);
    let reason = Unjoined::NotSeen("request entry node eth0 out (vxlan)".to_owned());
    assert_eq!(joined.unjoined, [(reason, 1)].into());
}

#[test]
fn a_connection_that_was_open_before_the_taps_is_not_guessed_at() {
    let path = nodeport();
    let mut scene = scene(&path, 5, 1, 1);
    scene.packets.retain(|packet| !packet.segment.has(flags::SYN));
    let joined = scene.join(&path).unwrap();
    assert_eq!(joined.unjoined, [(Unjoined::ConnectionNotSeen, 5)].into());
    assert_eq!(joined.first_packet.count(), 0);
}

#[test]
fn a_negative_stage_fails_the_join_and_names_its_times() {
    let path = nodeport();
    let mut scene = scene(&path, 5, 1, 1);
    scene.samples[3].sent_ns = scene.truth[3][0] + 17;
    let error = scene.join(&path).unwrap_err();
    let JoinError::NegativeStage { client, stage, from_ns, to_ns, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*client, &**stage), (scene.samples[3].client, "client_tx"));
    assert_eq!((*from_ns, *to_ns), (scene.truth[3][0] + 17, scene.truth[3][0]));
    assert!(error.to_string().contains("17 ns before it begins"), "{error}");
}

/// Sends the first request's packets again `later_ns` later, from the hop with index `from` on.
fn send_again(scene: &mut Scene, from: usize, later_ns: u64) {
    let times: Vec<u64> = scene.truth[0][from..].to_vec();
    let again: Vec<Packet> = scene
        .packets
        .iter()
        .filter(|p| times.contains(&p.time_ns) && p.segment.payload_bytes == 120)
        .map(|p| Packet { time_ns: p.time_ns + later_ns, ..*p })
        .collect();
    assert!(!again.is_empty());
    scene.packets.extend(again);
}

#[test]
fn a_request_that_was_sent_again_counts_where_it_was_first_seen() {
    let path = nodeport();
    let mut scene = scene(&path, 3, 1, 1);
    let before = sum_ns(&scene.join(&path).unwrap());
    send_again(&mut scene, 0, 200_000_000);
    let joined = scene.join(&path).unwrap();
    assert_eq!((joined.joined, joined.retransmitted), (3, 1));
    assert_eq!(sum_ns(&joined), before);
}

#[test]
fn a_first_copy_that_a_full_ring_lost_is_a_reason_and_not_a_bug() {
    let path = nodeport();
    let mut scene = scene(&path, 3, 1, 1);
    send_again(&mut scene, 0, 200_000_000);
    let lost_ns = scene.truth[0][2];
    scene.packets.retain(|packet| packet.time_ns != lost_ns);
    assert!(matches!(scene.join(&path), Err(JoinError::NegativeStage { .. })));
    let observations = Observations { dropped: 1, ..scene.observations() };
    let joined = Joiner::new(&path, &scene.taps).unwrap().join(observations).unwrap();
    assert_eq!(joined.unjoined, [(Unjoined::FirstCopyLost, 1)].into());
    assert_eq!(joined.joined, 2);
}

#[test]
fn an_open_connection_is_known_in_the_next_window() {
    for (name, path) in every_path() {
        let scene = scene(&path, 8, 4, 5);
        let mut joiner = Joiner::new(&path, &scene.taps).unwrap();
        // Cut in time: the first half of the requests, then the rest.
        let mut ends: Vec<u64> = scene.samples.iter().map(|s| s.last_byte_ns).collect();
        ends.sort_unstable();
        let cut_ns = ends[ends.len() / 2];
        let (mut early, mut late) = (scene.observations(), scene.observations());
        early.packets.retain(|packet| packet.time_ns <= cut_ns);
        late.packets.retain(|packet| packet.time_ns > cut_ns);
        let (first, rest): (Vec<Sample>, Vec<Sample>) =
            scene.samples.iter().partition(|s| s.last_byte_ns <= cut_ns);
        // A request the cut goes through has packets in both windows and cannot be joined.
        let (whole, through): (Vec<Sample>, Vec<Sample>) =
            rest.iter().partition(|s| s.sent_ns > cut_ns);
        let mut joined = joiner.join(Observations { samples: &first, ..early }).unwrap();
        joined.merge(joiner.join(Observations { samples: &whole, relays: &[], ..late }).unwrap());
        assert!(!whole.is_empty() && through.len() <= 8);
        assert_eq!(joined.unjoined, Default::default(), "{name}");
        assert_eq!(joined.joined as usize, first.len() + whole.len(), "{name}");
    }
}

#[test]
fn a_tuple_that_is_used_again_means_the_newer_connection() {
    let path = nodeport();
    let mut scene = scene(&path, 3, 1, 1);
    // The same connections again: other sequence numbers, a second later, the same addresses.
    let later = super::synthetic::scene(&path, 3, 1, 99);
    let second = 1_000_000_000;
    scene
        .packets
        .extend(later.packets.iter().map(|p| Packet { time_ns: p.time_ns + second, ..*p }));
    scene.samples.extend(later.samples.iter().map(|s| Sample {
        connect_ns: s.connect_ns.map(|ns| ns + second),
        connected_ns: s.connected_ns.map(|ns| ns + second),
        sent_ns: s.sent_ns + second,
        first_byte_ns: s.first_byte_ns + second,
        last_byte_ns: s.last_byte_ns + second,
        ..*s
    }));
    scene.marks.extend(later.marks.iter().map(|m| Mark {
        read_ns: m.read_ns + second,
        received_ns: m.received_ns + second,
        written_ns: m.written_ns + second,
        ..*m
    }));
    let joined = scene.join(&path).unwrap();
    assert_eq!((joined.joined, joined.unjoined), (6, Default::default()));
}

#[test]
fn a_packet_of_a_tap_that_is_not_there_is_an_error() {
    let path = nodeport();
    let mut scene = scene(&path, 1, 1, 1);
    scene.packets[0].tap = 99;
    let taps = scene.taps.len();
    assert_eq!(scene.join(&path).unwrap_err(), JoinError::NoSuchTap { tap: 99, taps });
}

#[test]
fn a_stream_longer_than_the_sequence_space_is_followed() {
    let path = nodeport();
    let one = scene(&path, 1, 1, 4);
    let mut scene = scene(&path, 1, 1, 4);
    // Before the request, 5 GiB went by in segments of 1 GiB (a tap sees only what it is shown).
    let shift = 5u64 << 30;
    let request = |p: &Packet| p.segment.payload_bytes == 120;
    let model = *one.packets.iter().find(|p| request(p)).unwrap();
    for packet in scene.packets.iter_mut().filter(|p| request(p)) {
        packet.segment.seq = packet.segment.seq.wrapping_add(shift as u32);
    }
    for gib in 0..5u32 {
        let mut packet = model;
        packet.segment.seq = model.segment.seq.wrapping_add(gib << 30);
        packet.segment.payload_bytes = 1 << 30;
        packet.time_ns = one.samples[0].connected_ns.unwrap() + u64::from(gib);
        scene.packets.push(packet);
    }
    scene.samples[0].request_offset += shift;
    scene.marks[0].request_offset += shift;
    let joined = scene.join(&path).unwrap();
    assert_eq!((joined.joined, joined.unjoined), (1, Default::default()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_lost_nothing_is_invented(
        seed: u64,
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        which in any::<prop::sample::Index>(),
    ) {
        let paths: Vec<_> = every_path().collect();
        let path = &which.get(&paths).1;
        let mut scene = scene(path, 6, 2, seed);
        for index in lost {
            let at = index.index(scene.packets.len());
            scene.packets.swap_remove(at);
        }
        let joined = scene.join(path).unwrap();
        let unjoined: u64 = joined.unjoined.values().sum();
        prop_assert_eq!(joined.sampled, 12);
        prop_assert_eq!(joined.joined + unjoined, 12);
        prop_assert!(joined.residual_ns.iter().all(|&ns| ns == 0));
    }
}
