// SPDX-License-Identifier: Apache-2.0
//! How long it takes to write the rules of a large cluster, and to fill its table.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use harness::plan::{Mode, Position};
use harness::proxy::{Fill, Options, mode};

const SERVICES: u32 = 10_000;

fn render(criterion: &mut Criterion) {
    let fill = Fill { services: SERVICES, endpoints: 2, position: Position::Last, seed: 1 };
    criterion.bench_function("fill/10000", |bencher| {
        bencher.iter(|| black_box(fill).table(Vec::new()));
    });
    let table = fill.table(Vec::new()).expect("10,000 Services have room");
    let address = IpAddr::from([10, 9, 0, 11]);
    for name in Mode::ALL {
        let implementation = mode(*name, Options::default());
        criterion.bench_function(&format!("render/{name}/10000"), |bencher| {
            bencher.iter(|| implementation.render(black_box(&table), "node1", address));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = render
}
criterion_main!(benches);
