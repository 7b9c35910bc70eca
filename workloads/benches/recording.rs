// SPDX-License-Identifier: Apache-2.0
//! What recording one value costs the load client, and what a report of a million values does.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use workloads::clock::now_ns;
use workloads::load::Recorder;

/// Latencies as they come: most around 100 microseconds, a tail up to 100 milliseconds.
fn latencies_ns(count: usize) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(1);
    (0..count).map(|_| (20_000.0 / (1.0 - random.random::<f64>()).sqrt()) as u64).collect()
}

fn recording(c: &mut Criterion) {
    let values = latencies_ns(1_000_000);
    let mut group = c.benchmark_group("recorder");
    group.throughput(Throughput::Elements(values.len() as u64)).sample_size(20);
    group.bench_function("record", |b| {
        let mut recorder = Recorder::default();
        b.iter(|| values.iter().for_each(|&value| recorder.record(black_box(value))));
    });
    group.finish();

    let mut recorder = Recorder::default();
    values.iter().for_each(|&value| recorder.record(value));
    c.bench_function("pairs", |b| b.iter(|| black_box(&recorder).pairs()));
    c.bench_function("clock", |b| b.iter(now_ns));
}

criterion_group!(benches, recording);
criterion_main!(benches);
