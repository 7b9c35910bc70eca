// SPDX-License-Identifier: Apache-2.0
//! Ring 2: the netns lab on this machine's kernel. Needs root or user namespaces.
#![expect(clippy::unwrap_used, reason = "a test's functions fail by panicking, as the test does")]
#![expect(clippy::print_stderr, reason = "skips and durations are for whoever runs the tests")]

mod host;
mod links;
mod plugins;
mod process;
mod services;
mod traffic;
mod wire;

use harness::lab::netns::{NetnsLab, Topology};
use harness::net::Netns;
use harness::plan::CniKind;

/// A lab, or `None`, loudly, where the machine refuses namespaces altogether or lacks what the CNI
/// needs.
fn lab(topology: &Topology, cni: CniKind) -> Option<NetnsLab> {
    has(cni).then(|| NetnsLab::up(topology, cni).unwrap())
}

/// Whether this machine can have a CNI. Only ipvlan and macvlan may be missing: the others are in every
/// kernel that these tests are for, and a missing one is a failure to be seen.
fn has(cni: CniKind) -> bool {
    if !may_make_namespaces() {
        return false;
    }
    match harness::cni::of(cni).check(&Netns::create("question").unwrap()) {
        Err(unavailable) if matches!(cni, CniKind::Ipvlan | CniKind::Macvlan) => {
            eprintln!("SKIP {cni}: {unavailable}");
            false
        }
        answer => {
            answer.unwrap();
            true
        }
    }
}

fn may_make_namespaces() -> bool {
    match Netns::create("question") {
        Ok(_) => true,
        Err(error) => {
            eprintln!("SKIP {error}");
            false
        }
    }
}

/// Ends a lab and shows how long its life's two ends took.
fn down(lab: NetnsLab) {
    let (cni, up) = (lab.cni(), lab.up_duration());
    let report = lab.down();
    eprintln!(
        "{cni}: lab_up_ms {:.1} down_ms {:.1}",
        up.as_secs_f64() * 1e3,
        report.took.as_secs_f64() * 1e3
    );
    assert_eq!(report.errors, Vec::<String>::new());
}
