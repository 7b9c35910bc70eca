// SPDX-License-Identifier: Apache-2.0
//! How long the default lab (a client, two nodes, four pods) takes to come up and to go. Needs root
//! or user namespaces.

#![expect(clippy::print_stderr, reason = "skips are for whoever runs the benchmark")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use harness::cni;
use harness::lab::netns::{NetnsLab, Topology};
use harness::net::Netns;
use harness::net::privilege::enter_private_namespaces;
use harness::plan::CniKind;

/// Up and down again, each as the lab measures it.
fn life(cni: CniKind) -> (Duration, Duration) {
    let lab = NetnsLab::up(&Topology::default(), cni).expect("a lab comes up");
    let up = lab.up_duration();
    let report = lab.down();
    assert_eq!(report.errors, Vec::<String>::new());
    (up, report.took)
}

fn lab(criterion: &mut Criterion) {
    let privilege = enter_private_namespaces().expect("namespaces can be made");
    let mut group = criterion.benchmark_group(format!("lab as {privilege}"));
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    let question = Netns::create("question").expect("namespaces can be made");
    for &cni in CniKind::OWN {
        if let Err(unavailable) = cni::of(cni).check(&question) {
            eprintln!("SKIP {cni}: {unavailable}");
            continue;
        }
        group.bench_function(format!("{cni} up"), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| life(cni).0).sum());
        });
        group.bench_function(format!("{cni} down"), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| life(cni).1).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, lab);
criterion_main!(benches);
