// SPDX-License-Identifier: Apache-2.0
//! Joining a million packets, and reading the headers of one.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{PacketBuilder, TcpOptionElement};
use harness::capture::{Joiner, Observations, Path, Segment};
use harness::plan::{CniKind, Mode, Place, Road, Route};

#[path = "../src/capture/join/synthetic.rs"]
mod synthetic;

/// What the synthetic scenes are made of, as the library's tests have it.
mod world {
    pub(super) use record::Leg;
    pub(super) use workloads::protocol::{Mark, Sample};

    pub(super) use harness::capture::Site;
    pub(super) use harness::capture::packet::{Packet, Segment, flags};
    pub(super) use harness::capture::path::{Host, Path};
    pub(super) use harness::capture::tap::TapInfo;
    pub(super) use harness::relay::Relay;
}

fn join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join");
    group.sample_size(10);
    let path = |mode, cni, road, place| Path::of(mode, cni, Route { road, place });
    let cases = [
        ("local/new", path(Mode::Iptables, CniKind::Ptp, Road::Nodeport, Place::Local), 1),
        ("local/open", path(Mode::Iptables, CniKind::Ptp, Road::Nodeport, Place::Local), 500),
        ("remote/new", path(Mode::Iptables, CniKind::Vxlan, Road::Nodeport, Place::Remote), 1),
    ];
    for (name, path, requests) in cases {
        for packets in [100_000, 1_000_000] {
            let one = synthetic::scene(&path, 1, requests, 1).packets.len();
            let scene = synthetic::scene(&path, (packets / one) as u32, requests, 1);
            group.throughput(Throughput::Elements(scene.packets.len() as u64));
            group.bench_function(format!("{name}/{packets}"), |bencher| {
                bencher.iter_batched(
                    || (Joiner::new(&path, &scene.taps).expect("all taps"), scene.packets.clone()),
                    |(mut joiner, packets)| {
                        let joined = joiner
                            .join(Observations {
                                packets,
                                dropped: 0,
                                samples: &scene.samples,
                                marks: &scene.marks,
                                relays: &scene.relays,
                            })
                            .expect("the scene is in order");
                        assert_eq!(joined.joined, joined.sampled);
                        joined
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
}

fn parse(criterion: &mut Criterion) {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 8, 0, 2], [10, 9, 0, 11], 64)
        .tcp(40_000, 30_080, 7, 65_000)
        .options(&[
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(1, 2),
        ])
        .expect("12 bytes of options fit")
        .write(&mut frame, &[0; 100])
        .expect("a vector takes any bytes");
    criterion.bench_function("parse", |bencher| {
        bencher.iter(|| Segment::parse(std::hint::black_box(&frame), frame.len() as u32));
    });
}

criterion_group!(benches, join, parse);
criterion_main!(benches);
