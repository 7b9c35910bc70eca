// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::capture::join::synthetic::{Scene, scene};
use crate::capture::{Joiner, Observations};
use crate::plan::{CniKind, Mode, Place, Road, Route};

/// Which kernel each host of a path is on.
type Kernels = [(Host, usize); 4];

const THREE: Kernels = [(Host::Client, 0), (Host::Entry, 1), (Host::Backend, 2), (Host::Pod, 2)];
/// Load that comes from the node of the pod that answers, through another node.
const THERE_AND_BACK: Kernels =
    [(Host::Client, 0), (Host::Entry, 1), (Host::Backend, 0), (Host::Pod, 0)];

fn path(road: Road) -> Path {
    Path::of(Mode::Iptables, CniKind::Ptp, Route { road, place: Place::Remote })
}

fn kernel_of(taps: &[TapInfo], kernels: &Kernels) -> Vec<usize> {
    let kernel = |tap| kernels.iter().find(|(host, _)| *host == Host::of(tap)).unwrap().1;
    taps.iter().map(kernel).collect()
}

/// A clock that is so far ahead at the beginning, and goes so many parts in a thousand million faster.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    ahead_ns: i64,
    fast_ppb: i64,
}

impl Clock {
    fn ahead_at(self, true_ns: u64) -> i64 {
        self.ahead_ns + (i128::from(true_ns) * i128::from(self.fast_ppb) / 1_000_000_000) as i64
    }

    fn reads(self, true_ns: u64) -> u64 {
        (true_ns as i64 + self.ahead_at(true_ns)) as u64
    }
}

/// A scene as machines with clocks of their own see it. The first clock is the true one; all began a
/// day before.
fn seen_by(mut scene: Scene, kernels: &Kernels, clocks: &[Clock]) -> (Scene, Vec<usize>) {
    let kernel_of = kernel_of(&scene.taps, kernels);
    for packet in &mut scene.packets {
        packet.time_ns = clocks[kernel_of[usize::from(packet.tap)]].reads(packet.time_ns);
    }
    let (_, pod) = kernels[3];
    for mark in &mut scene.marks {
        mark.read_ns = clocks[pod].reads(mark.read_ns);
        mark.received_ns = clocks[pod].reads(mark.received_ns);
        mark.written_ns = clocks[pod].reads(mark.written_ns);
    }
    (scene, kernel_of)
}

/// Moves a scene from its beginning to a day later, so that clocks may be behind.
fn a_day_later(mut scene: Scene) -> Scene {
    const DAY_NS: u64 = 86_400_000_000_000;
    scene.packets.iter_mut().for_each(|packet| packet.time_ns += DAY_NS);
    for mark in &mut scene.marks {
        for time_ns in [&mut mark.read_ns, &mut mark.received_ns, &mut mark.written_ns] {
            *time_ns += DAY_NS;
        }
    }
    for sample in &mut scene.samples {
        for time_ns in [&mut sample.sent_ns, &mut sample.first_byte_ns, &mut sample.last_byte_ns] {
            *time_ns += DAY_NS;
        }
        sample.intended_ns += DAY_NS;
        sample.connect_ns = sample.connect_ns.map(|ns| ns + DAY_NS);
        sample.connected_ns = sample.connected_ns.map(|ns| ns + DAY_NS);
    }
    scene
}

fn joined(path: &Path, scene: &Scene) -> crate::capture::Joined {
    let mut joiner = Joiner::new(path, &scene.taps).unwrap();
    let Scene { packets, samples, marks, .. } = scene;
    let packets = packets.clone();
    joiner.join(Observations { packets, dropped: 0, samples, marks, relays: &[] }).unwrap()
}

/// By one clock again, as far as that can be told.
fn by_one_clock(path: &Path, scene: &mut Scene, kernel_of: &[usize], kernels: &Kernels) -> u64 {
    let count = kernel_of.iter().max().unwrap() + 1;
    let clocks = align(path, &scene.taps, kernel_of, count, &scene.packets).unwrap();
    for packet in &mut scene.packets {
        packet.time_ns = clocks[kernel_of[usize::from(packet.tap)]].to_first(packet.time_ns);
    }
    let pod = clocks[kernels[3].1];
    for mark in &mut scene.marks {
        mark.read_ns = pod.to_first(mark.read_ns);
        mark.received_ns = pod.to_first(mark.received_ns);
        mark.written_ns = pod.to_first(mark.written_ns);
    }
    clocks.iter().map(|clock| clock.error_ns).max().unwrap()
}

proptest! {
    #[test]
    fn the_truth_lies_within_what_is_said(
        ahead_ns in prop::array::uniform2(-80_000_000_000_000i64..1_000_000_000_000_000),
        seed: u64, requests in 1u32..4, from_pod: bool, there_and_back: bool,
    ) {
        let path = path(if from_pod { Road::Clusterip } else { Road::Nodeport });
        let kernels = if there_and_back { THERE_AND_BACK } else { THREE };
        let clocks = [Clock::default(), ahead(ahead_ns[0]), ahead(ahead_ns[1])];
        let scene = a_day_later(scene(&path, 20, requests, seed));
        let (seen, kernel_of) = seen_by(scene, &kernels, &clocks);
        let count = kernel_of.iter().max().unwrap() + 1;
        let found = align(&path, &seen.taps, &kernel_of, count, &seen.packets).unwrap();
        prop_assert_eq!(found[0], Offset::default());
        for (offset, clock) in found.iter().zip(&clocks) {
            let wrong_ns = offset.ns.abs_diff(clock.ahead_ns);
            prop_assert!(wrong_ns <= offset.error_ns, "{:?} for {:?}", offset, clock);
            // The quickest of several ways of at most 20 us a hop, by way of another machine.
            prop_assert!(offset.error_ns <= 100_000, "{:?}", offset);
        }
    }

    #[test]
    fn stages_within_a_machine_are_exact_and_those_between_are_true_to_the_error(
        ahead_ns in -80_000_000_000_000i64..1_000_000_000_000_000, seed: u64, there_and_back: bool,
    ) {
        let path = path(Road::Nodeport);
        let kernels = if there_and_back { THERE_AND_BACK } else { THREE };
        let truth = a_day_later(scene(&path, 20, 1, seed));
        let expected = joined(&path, &truth);
        let clocks = [Clock::default(), ahead(ahead_ns), ahead(-ahead_ns / 100)];
        let (mut seen, kernel_of) = seen_by(a_day_later(scene(&path, 20, 1, seed)), &kernels, &clocks);
        let error_ns = by_one_clock(&path, &mut seen, &kernel_of, &kernels);
        let found = joined(&path, &seen);
        prop_assert_eq!(found.joined, 20);
        prop_assert_eq!(&found.residual_ns, &expected.residual_ns);
        for (found, expected) in found.stages.iter().zip(&expected.stages) {
            prop_assert_eq!((&found.name, found.leg), (&expected.name, expected.leg));
            let apart_ns = found.times.sum_ns().abs_diff(expected.times.sum_ns());
            let between = found.name == "wire" || found.name == "fabric";
            // Each of 20 requests is off by the error of two clocks at most.
            let most_ns = if between { 2 * error_ns * 20 } else { 0 };
            prop_assert!(apart_ns <= most_ns, "{} {}", found.name, apart_ns);
        }
        let of = |joined: &crate::capture::Joined| -> u64 {
            joined.stages.iter().map(|stage| stage.times.sum_ns()).sum()
        };
        prop_assert_eq!(of(&found), of(&expected));
    }
}

fn ahead(ahead_ns: i64) -> Clock {
    Clock { ahead_ns, fast_ppb: 0 }
}

#[test]
fn clocks_that_drift_a_little_are_said_to_be_that_much_less_certain() {
    let path = path(Road::Nodeport);
    let drifting = Clock { ahead_ns: 1_000_000_000, fast_ppb: 300 };
    let clocks = [Clock::default(), drifting, drifting];
    // 2,000 connections begin within 30 ms.
    let (seen, kernel_of) = seen_by(scene(&path, 2_000, 1, 1), &THREE, &clocks);
    let found = align(&path, &seen.taps, &kernel_of, 3, &seen.packets).unwrap();
    for true_ns in [1_000_000, 30_000_000] {
        let wrong_ns = found[1].ns.abs_diff(drifting.ahead_at(true_ns));
        assert!(wrong_ns <= found[1].error_ns, "{wrong_ns} ns of {:?}", found[1]);
    }
}

#[test]
fn clocks_that_drift_by_more_than_packets_take_are_refused() {
    let path = path(Road::Nodeport);
    let clocks = [Clock::default(), Clock { ahead_ns: 0, fast_ppb: 5_000_000 }, Clock::default()];
    let (seen, kernel_of) = seen_by(scene(&path, 2_000, 1, 1), &THREE, &clocks);
    let refused = align(&path, &seen.taps, &kernel_of, 3, &seen.packets).unwrap_err();
    let AlignError::Drift { by_ns, .. } = refused else { panic!("{refused:?}") };
    assert!((10_000..200_000).contains(&by_ns), "{by_ns}");
}

#[test]
fn packets_one_way_only_do_not_tell_and_one_clock_needs_none() {
    let path = path(Road::Nodeport);
    let scene = scene(&path, 5, 1, 1);
    let kernel_of = kernel_of(&scene.taps, &THREE);
    let out: Vec<Packet> = scene
        .packets
        .iter()
        .filter(|packet| packet.segment.dst.port() == 30_080 || packet.segment.dst.port() == 8_080)
        .copied()
        .collect();
    assert!(!out.is_empty() && out.len() < scene.packets.len());
    let refused = align(&path, &scene.taps, &kernel_of, 3, &out).unwrap_err();
    assert!(matches!(refused, AlignError::NoWay { first: 0, .. }), "{refused}");
    assert_eq!(align(&path, &scene.taps, &kernel_of, 1, &[]), Ok(vec![Offset::default()]));
}

#[test]
fn what_is_sent_again_is_left_out() {
    let path = path(Road::Nodeport);
    let clocks = [Clock::default(), ahead(7_000_000), ahead(-3)];
    let (mut seen, kernel_of) = seen_by(a_day_later(scene(&path, 20, 1, 3)), &THREE, &clocks);
    let before = align(&path, &seen.taps, &kernel_of, 3, &seen.packets).unwrap();
    // One that is seen again at the entry, ages later and nowhere else.
    let at_entry = |packet: &&Packet| seen.taps[usize::from(packet.tap)].site == Site::Nic;
    let again = *seen.packets.iter().find(at_entry).unwrap();
    seen.packets.push(Packet { time_ns: again.time_ns + 1_000_000_000, ..again });
    let behind = align(&path, &seen.taps, &kernel_of, 3, &seen.packets).unwrap();
    for (before, behind) in before.iter().zip(&behind) {
        assert!(behind.error_ns < 100_000, "{behind:?}");
        assert!(before.ns.abs_diff(behind.ns) < 100_000, "{before:?} {behind:?}");
    }
}
