// SPDX-License-Identifier: Apache-2.0
//! The lab on a cluster that exists ([`super::cluster`]).

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use harness::Cancel;
use harness::kube::{Api, Namespace, PullPolicy};
use harness::lab::kubeconfig::{KubeconfigLab, KubeconfigOptions};
use harness::lab::{Lab, LabError};
use harness::net::Netns;
use harness::plan::{Engine, HOST_KERNEL, Plan, Profile};

use super::cluster;

const PROFILE: &str = r#"
name = "cluster"
[matrix]
mode = ["iptables", "none"]
cni = ["ptp"]
route = ["clusterip-local", "clusterip-remote", "nodeport-local", "nodeport-remote"]
services = [20]
workload = ["newconn", "keepalive", "tls-resume"]
[run]
warm_up = "200ms"
duration = "500ms"
iterations = 2
engine = "client"
"#;

fn host() -> Netns {
    Netns::enter("host", File::open("/proc/thread-self/ns/net").unwrap().into()).unwrap()
}

fn options(run: &str) -> KubeconfigOptions {
    KubeconfigOptions {
        context: None,
        load_workers: 2,
        image: cluster::told(cluster::IMAGE),
        pull: PullPolicy::IfNotPresent,
        engine: Some(Engine::Client),
        run: format!("{run}-{}", std::process::id()),
        host: host(),
    }
}

fn profile() -> Profile {
    Profile::parse(Path::new("cluster.toml"), PROFILE).unwrap()
}

/// Namespaces of a run that are still there.
fn left(run: &str) -> Vec<Namespace> {
    let left = host().block_on(|| async {
        let api = Api::from_default(None).await?;
        Namespace::leftovers(&api).await
    });
    left.unwrap().into_iter().filter(|left| left.run == run).collect()
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn every_route_is_loaded_by_all_workers_and_nothing_is_left() {
    let options = options("routes");
    let (profile, cancel, run) = (profile(), Cancel::default(), options.run.clone());
    let lab = KubeconfigLab::new(&profile, options).unwrap();
    eprintln!("{}", lab.intent());
    assert!(left(&run).is_empty(), "nothing is written before the first case");
    for case in Plan::new(&profile, &[HOST_KERNEL]).unwrap().groups.iter().flat_map(|g| &g.cases) {
        let mut bed = lab.up(case, &cancel).unwrap();
        bed.warm_up(&cancel).unwrap();
        for _ in 0..profile.run.iterations {
            let load = bed.iterate(&cancel).unwrap().load;
            assert!(load.requests > 0 && load.errors.is_empty(), "{}: {load:?}", case.id("k"));
            assert_eq!(load.latency.iter().map(|pair| pair.1).sum::<u64>(), load.requests);
            assert!(load.elapsed_ns >= Duration::from_millis(500).as_nanos() as u64);
            eprintln!("{}: {} requests", case.id(lab.name()), load.requests);
        }
        let ready = bed.ready();
        eprintln!(
            "  up {:.0} ms, install {:.0} ms, prove {:.0} ms\n  {:#?}\n  {:#?}",
            ready.lab_up_ms, ready.install_ms, ready.prove_ms, ready.proof.evidence, ready.notes
        );
        assert_eq!(ready.proof.mode, case.mode.word());
        bed.down();
    }
    assert_eq!(left(&run).len(), 1);
    let start = std::time::Instant::now();
    assert_eq!(lab.down(), Vec::<String>::new());
    eprintln!("down in {:?}", start.elapsed());
    assert!(left(&run).is_empty());
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_mode_that_the_cluster_does_not_run_in_is_a_reason_to_skip() {
    let options = options("mode");
    let profile = profile();
    let lab = KubeconfigLab::new(&profile, options).unwrap();
    let mut case = Plan::new(&profile, &[HOST_KERNEL]).unwrap().groups[0].cases[0].clone();
    case.mode = harness::plan::Mode::Ipvs;
    let Err(LabError::Unavailable(reason)) = lab.up(&case, &Cancel::default()) else {
        panic!("a case of mode ipvs was up");
    };
    assert!(reason.found.contains("runs in mode iptables"), "{reason}");
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_lab_that_is_dropped_leaves_nothing_for_long() {
    let options = options("dropped");
    let (profile, run) = (profile(), options.run.clone());
    let case = Plan::new(&profile, &[HOST_KERNEL]).unwrap().groups[0].cases[0].clone();
    let cancel = Cancel::default();
    let lab = KubeconfigLab::new(&profile, options).unwrap();
    let mut bed = lab.up(&case, &cancel).unwrap();
    cancel.request();
    assert!(matches!(bed.warm_up(&cancel), Err(LabError::Cancelled)));
    drop((bed, lab));
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !left(&run).is_empty() {
        assert!(std::time::Instant::now() < deadline, "the namespace is still there");
    }
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn an_engine_that_needs_the_nodes_is_refused() {
    let options = options("engine");
    let options = KubeconfigOptions { engine: Some(Engine::Tap), ..options };
    let refused = KubeconfigLab::new(&profile(), options);
    let Err(LabError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.need.starts_with("engine tap"), "{reason}");
}
