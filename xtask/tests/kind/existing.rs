// SPDX-License-Identifier: Apache-2.0
//! The lab on a cluster that exists ([`super::cluster`]).

use std::fs::{self, File};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use harness::Cancel;
use harness::kube::{Api, Manifest, Namespace, PullPolicy};
use harness::lab::kubeconfig::{KubeconfigLab, KubeconfigOptions};
use harness::lab::{Lab, LabError};
use harness::net::Netns;
use harness::plan::{Engine, HOST_KERNEL, Plan, Profile};
use serde_json::Value;

use super::{cases, cluster, of, run_id, xtask};

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
        probes: false,
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

/// A run with probes on the nodes of the cluster.
fn probed(out: &Path, kubeconfig: &Path, more: &[&str]) -> Output {
    let arguments =
        ["bench", "--lab", "kubeconfig", "--probes", "--yes", "--mode", "iptables,none"];
    let plan = ["--cni", "ptp", "--services", "20", "--workload", "newconn"];
    let length = ["--duration", "500ms", "--iterations", "1", "--out"];
    xtask(&arguments)
        .args(plan)
        .args(length)
        .arg(out)
        .args(more)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap()
}

/// Names of a case's stages on the way there.
fn stages(case: &Value) -> Vec<&str> {
    let all = case["stages"].as_array().unwrap().iter();
    let there = all.filter(|stage| stage["leg"] == "request");
    there.map(|stage| stage["name"].as_str().unwrap()).collect()
}

/// Requests of a cluster that exists are followed through its nodes as those of one of the lab's own are.
/// Returns the cases.
pub(crate) fn is_followed(name: &str, kubeconfig: &Path, out: &Path) -> Vec<Value> {
    let begun = Instant::now();
    let context = format!("kind-{name}");
    let more = ["--context", &context, "--route", "nodeport-remote"];
    let output = probed(out, kubeconfig, &more);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("and a privileged DaemonSet on 2 nodes"), "{said}");
    eprintln!("--probes: {:?}\n{}", begun.elapsed(), String::from_utf8_lossy(&output.stdout));
    let cases = cases(out);
    assert_eq!(cases.len(), 2);
    for case in &cases {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
        assert_eq!(
            (&case["probe"]["engine"], &case["probe"]["dropped"]),
            (&"bpf".into(), &0.into())
        );
        // One machine has one clock, and every nanosecond a name.
        assert_eq!(case["probe"]["clock_error_ns"], Value::Null, "{case:#}");
        assert_eq!(case["residual_ns"]["p50"], 0, "{case:#}");
        assert_eq!(case["residual_ns"]["p99"], 0, "{case:#}");
        assert!(case["probe"]["ns_per_event"].as_f64().unwrap() > 0.0, "{case:#}");
        assert_eq!(case["probe"]["effect"]["blocks"], 1, "{case:#}");
        assert!(case["notes"].to_string().contains("as by ptp"), "{case:#}");
        // What the stages add up to is what the clients, who know nothing of probes, have measured.
        let all = case["stages"].as_array().unwrap().iter();
        let sum_ns: f64 = all.map(|stage| stage["mean_ns"].as_f64().unwrap()).sum();
        let service_ns = case["service_time_ns"]["mean"].as_f64().unwrap();
        eprintln!("{}: stages {sum_ns:.0} ns, requests {service_ns:.0} ns", case["id"]);
        assert!((0.7..1.4).contains(&(sum_ns / service_ns)), "{case:#}");
    }
    let entry = ["nic_rx", "conntrack", "proxy", "route", "filter", "masq", "egress"];
    // The two take turns on the nodes.
    let ends = [&["connect", "handover", "client_tx", "wire"][..], &entry].concat();
    let case = of(&cases, "mode", "iptables").next().unwrap();
    let expected = [&ends[..], &["fabric", "deliver", "pod_rx", "wakeup", "app"]].concat();
    assert_eq!(stages(case), expected);
    let case = of(&cases, "mode", "none").next().unwrap();
    let expected = [&ends[..], &["cni", "pod_rx", "wakeup", "app"]].concat();
    assert_eq!(stages(case), expected);
    // With the namespace the DaemonSet is gone, and what it linked.
    assert_eq!(left_in(kubeconfig, &run_id(out)), Vec::<String>::new());
    cases
}

/// Names of a run's namespaces that are still there.
fn left_in(kubeconfig: &Path, run: &str) -> Vec<String> {
    let text = fs::read_to_string(kubeconfig).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = runtime.block_on(async {
        let api = Api::from_yaml(&text, None, None).await?;
        Namespace::leftovers(&api).await
    });
    left.unwrap().into_iter().filter(|left| left.run == run).map(|left| left.name).collect()
}

/// Why all cases of a run had to be skipped. Nothing is left of it.
fn skipped(output: &Output, out: &Path, kubeconfig: &Path) -> String {
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left_in(kubeconfig, &run_id(out)), Vec::<String>::new());
    let cases = cases(out);
    // The second is not told what the first has made.
    assert_eq!(cases.len(), 2);
    assert!(cases.iter().all(|case| case["status"] == "skipped"), "{cases:#?}");
    assert_eq!(cases[0]["reason"], cases[1]["reason"]);
    cases[0]["reason"].to_string()
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn an_image_without_the_program_is_a_reason_to_skip_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (out, file) = (dir.path().join("run"), cluster::told(cluster::KUBECONFIG));
    let image = cluster::told(cluster::IMAGE);
    let more = ["--image", &image, "--route", "clusterip-local"];
    let output = probed(&out, Path::new(&file), &more);
    let reason = skipped(&output, &out, Path::new(&file));
    assert!(reason.contains("an image with /probe") && reason.contains(&image), "{reason}");
}

/// Somebody who may do all that lab kubeconfig does, but make a DaemonSet.
const LIMITED: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: limited, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: nic2pod-limited}
rules:
- {apiGroups: [''], resources: ['*'], verbs: ['*']}
- {apiGroups: [batch], resources: [jobs], verbs: ['*']}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: nic2pod-limited}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: nic2pod-limited}
subjects: [{kind: ServiceAccount, name: limited, namespace: default}]
";

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_right_that_is_missing_is_a_reason_to_skip_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let soon = Instant::now() + Duration::from_secs(30);
    let applied = runtime.block_on(async {
        let api = Api::from_yaml(&cluster::kubeconfig(), None, None).await?;
        api.apply(&Manifest::parse(LIMITED)?, soon).await
    });
    assert_eq!(applied.unwrap(), 3);
    let limited = dir.path().join("limited");
    fs::write(&limited, as_limited(soon)).unwrap();
    let (out, file) = (dir.path().join("run"), cluster::told(cluster::KUBECONFIG));
    let image = cluster::told(cluster::IMAGE);
    let more = ["--image", &image, "--route", "clusterip-local"];
    let output = probed(&out, &limited, &more);
    let reason = skipped(&output, &out, Path::new(&file));
    assert!(reason.contains("privileged pods, for --probes"), "{reason}");
    assert!(reason.contains("daemonsets.apps is forbidden"), "{reason}");
}

/// The cluster's kubeconfig with the service account in the place of its user. Up to Kubernetes 1.23 its
/// token is in a secret, which a controller makes.
fn as_limited(deadline: Instant) -> String {
    let node = cluster::told(cluster::NODE);
    let kubectl = |arguments: &[&str]| {
        let admin = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
        let output = std::process::Command::new("docker").args(admin).args(arguments).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let secret = loop {
        let named = kubectl(&["get", "sa", "limited", "-o", "jsonpath={.secrets[0].name}"]);
        if !named.is_empty() {
            break named;
        }
        assert!(Instant::now() < deadline, "service account limited has no token");
    };
    let token =
        kubectl(&["get", "secret", &secret, "-o", "go-template={{.data.token | base64decode}}"]);
    let text = cluster::kubeconfig();
    let (before, _) = text.split_once("users:").unwrap();
    let user = text.lines().find_map(|line| line.trim().strip_prefix("user: ")).unwrap();
    format!("{before}users:\n- name: {user}\n  user:\n    token: {token}\n")
}
