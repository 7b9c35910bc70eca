// SPDX-License-Identifier: Apache-2.0
//! What a report costs: a run of 50 cases whose histograms hold a million samples.
#![expect(clippy::print_stderr, reason = "a bench says what it found")]

#[path = "../tests/report/support.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    unfulfilled_lint_expectations,
    reason = "shared with the tests"
)]
mod support;

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use record::{CaseRecord, Histogram};

/// The report's budget, stated in the project's contribution rules.
const HTML_BYTES_MAX: u64 = 3 << 20;

fn fifty_cases() -> Vec<(CaseRecord, Option<Histogram>)> {
    let mut cases = Vec::new();
    for route in ["nodeport-remote", "clusterip-local"] {
        for workload in ["keepalive", "newconn"] {
            for services in [1, 1000, 10_000] {
                for mode in ["none", "userspace", "iptables", "nftables"] {
                    let spec = support::Spec::new(mode, route, services, workload);
                    let (case, latency) = spec.measured(20_000);
                    cases.push((case, Some(latency)));
                }
            }
        }
    }
    for mode in ["none", "nftables"] {
        let (case, latency) =
            support::Spec::new(mode, "lbip-remote", 1, "newconn").measured(20_000);
        cases.push((case, Some(latency)));
    }
    cases.push((support::Spec::new("ipvs", "nodeport-remote", 1, "newconn").skipped(), None));
    cases.push((support::Spec::new("iptables", "lbip-remote", 1, "newconn").failed(), None));
    cases
}

fn report(c: &mut Criterion) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let run = support::run(&home.path().join("run"), "bench", fifty_cases());
    let runs = [run];
    let out = home.path().join("out");
    let render = |out: &Path| reports::render(&runs, out).expect("a report");
    let rendered = render(&out);
    let bytes = rendered.html.metadata().expect("the page").len();
    eprintln!("50 cases: {} charts, page of {} KiB", rendered.pngs.len(), bytes >> 10);
    assert!(bytes <= HTML_BYTES_MAX, "the page has {bytes} bytes");
    assert!(rendered.missing.is_empty(), "{:?}", rendered.missing);
    c.bench_function("report/50 cases, 1M samples", |b| b.iter(|| render(&out)));
    if let Some(keep) = std::env::var_os("REPORT_BENCH_OUT") {
        render(Path::new(&keep));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(20));
    targets = report
}
criterion_main!(benches);
