// SPDX-License-Identifier: Apache-2.0
//! Ring 3: labs in clusters, with the real kube-proxy. Needs Docker, kind (`KIND` or PATH) and an image of
//! nodes in which kube-proxy is older than mode nftables (`NIC2POD_KIND_IMAGE`).
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]
#![expect(clippy::print_stderr, reason = "figures are for whoever runs the tests")]

mod api;
mod cluster;
mod cni;
mod existing;
mod names;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::docker::kind::{self, Kind};
use harness::docker::{Engine, RUN_LABEL};
use serde_json::Value;

/// How long a step of a run is waited for.
const STEP_MAX: Duration = Duration::from_secs(300);
/// How often a run's log is looked at.
const GLANCE: Duration = Duration::from_millis(100);

fn engine() -> Engine {
    Engine::connect().unwrap()
}

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments);
    command
}

fn bench(out: &Path, arguments: &[&str]) -> (Output, Vec<Value>) {
    let output = xtask(&["bench", "--iterations", "1", "--duration", "200ms", "--out"])
        .arg(out)
        .args(arguments)
        .output()
        .unwrap();
    let cases = cases(out);
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    (output, cases)
}

fn cases(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("summary.json")).unwrap_or_else(|_| "{}".to_owned());
    let summary: Value = serde_json::from_str(&text).unwrap();
    summary["cases"].as_array().cloned().unwrap_or_default()
}

fn of<'a>(cases: &'a [Value], key: &'a str, word: &'a str) -> impl Iterator<Item = &'a Value> {
    cases.iter().filter(move |case| case[key] == word)
}

/// Containers of a run or of its clusters.
fn left(engine: &Engine, run: &str) -> Vec<String> {
    let hosts = engine.by_label(RUN_LABEL).unwrap();
    let hosts = hosts.into_iter().filter(|host| host.labels[RUN_LABEL] == run);
    let clusters = kind::list(engine).unwrap();
    let clusters = clusters.into_iter().filter(|name| name.contains(&run.to_ascii_lowercase()));
    hosts.map(|host| host.name).chain(clusters).collect()
}

fn run_id(out: &Path) -> String {
    let text = fs::read_to_string(out.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["run_id"].as_str().unwrap().to_owned()
}

fn measured_whole(case: &Value) {
    assert_eq!(case["status"], "measured", "{case:#}");
    assert_eq!(case["errors"], 0, "{case:#}");
    assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
    let evidence = case["proof"]["evidence"].to_string();
    assert!(evidence.contains("answers /proxyMode with iptables"), "{evidence}");
}

fn queries_stages(case: &Value) -> Vec<&str> {
    let stages = case["queries"]["stages"].as_array().unwrap();
    stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect()
}

/// Every query of a case was answered by the server at that address and followed on its whole way.
fn resolved(case: &Value, server: &str, namespace: &str) {
    assert_eq!(case["status"], "measured", "{case:#}");
    assert_eq!(case["errors"], 0, "{case:#}");
    let queries = &case["queries"];
    // A search path of three names and the name itself, A and AAAA for each.
    let requests = case["requests"].as_u64().unwrap();
    assert_eq!(queries["asked"], 8 * requests, "{case:#}");
    assert_eq!(queries["addresses"], requests, "{case:#}");
    assert!(queries["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
    assert_eq!(queries["residual_ns"]["p99"], 0, "{case:#}");
    let names = queries_stages(case);
    let of_node: &[&str] = match case["mode"].as_str() {
        Some("ebpf") => &["dns_nic_rx+dns_proxy+dns_route+dns_egress"],
        _ => &["dns_conntrack", "dns_proxy"],
    };
    for name in ["dns_wire", "dns_server"].iter().chain(of_node) {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    let evidence = case["proof"]["evidence"].to_string();
    let asked = format!(" asked {server} for web.{namespace}");
    let (_, rest) = evidence.split_once(&asked).unwrap_or_else(|| panic!("{evidence}"));
    assert!(rest.contains(".svc.cluster.local: "), "{evidence}");
    let (id, joined) = (&case["id"], &queries["joined_ratio"]);
    eprintln!(
        "{id}: dns {} ns, {} queries, {joined} joined",
        case["dns_ns"]["p50"], queries["asked"]
    );
}

fn walked(case: &Value) -> u64 {
    case["counts"]["rules_walked"].as_u64().unwrap()
}

#[test]
fn kube_proxys_rules_are_walked_on_every_route_and_ipvs_is_a_skip_without_ip_vs() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let routes =
        "direct-remote,clusterip-local,clusterip-remote,nodeport-local,nodeport-remote,lbip-remote";
    let (output, cases) = bench(
        &out,
        &[
            "--lab",
            "kind",
            "--mode",
            "iptables,ipvs,nftables",
            "--cni",
            "ptp",
            "--route",
            routes,
            "--services",
            "1,1000",
            "--workload",
            "newconn",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(of(&cases, "mode", "iptables").count(), 12);
    of(&cases, "mode", "iptables").for_each(measured_whole);
    for case in of(&cases, "route", "nodeport-remote") {
        if case["mode"] == "iptables" {
            let expected = if case["services"] == 1 { 1..200 } else { 1_500..4_000 };
            assert!(expected.contains(&walked(case)), "{} rules: {case:#}", walked(case));
            // One on the entry node, and one behind its masquerade on the other.
            assert_eq!(case["counts"]["conntrack_entries"], 2, "{case:#}");
            let first = case["first_packet_ns"]["p50"].as_u64().unwrap();
            eprintln!("{} Services: {} rules, {first} ns", case["services"], walked(case));
        }
    }
    // A kernel that has ip_vs would measure them, and that would be right, too.
    for case in of(&cases, "mode", "ipvs").filter(|case| case["status"] != "measured") {
        assert_eq!(case["status"], "skipped", "{case:#}");
        assert!(case["reason"]["need"].to_string().contains("IP_VS"), "{case:#}");
    }
    for case in of(&cases, "mode", "nftables") {
        assert_eq!(case["status"], "skipped", "{case:#}");
        assert!(case["reason"]["need"].to_string().contains("1.29"), "{case:#}");
    }
    assert_eq!(left(&engine(), &run_id(&out)), Vec::<String>::new());
}

#[test]
fn a_load_balancer_stands_before_a_cluster_and_an_ingress_controller_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let arguments = ["--lab", "kind", "--mode", "iptables", "--cni", "bridge", "--services", "20"];
    let routes = "loadbalancer-local,loadbalancer-remote,ingress-local,ingress-remote";
    let rest = ["--route", routes, "--workload", "newconn,tls-keepalive", "--keep"];
    let (output, cases) = bench(&out, &[&arguments[..], &rest].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cases.len(), 4 * 2);
    for case in &cases {
        measured_whole(case);
        let balanced = case["route"].as_str().unwrap().starts_with("loadbalancer");
        let (stage, words) = match balanced {
            true => ("lb", " passed connections on: "),
            false => ("ingress", " rules, counts "),
        };
        for leg in ["request", "response"] {
            let stages = case["stages"].as_array().unwrap().iter();
            let mut of_leg = stages.filter(|stage| stage["leg"] == leg);
            assert!(of_leg.any(|of| of["name"] == stage), "{leg}: {case:#}");
        }
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains(words), "{evidence}");
        eprintln!("{}: {} ns", case["id"], case["service_time_ns"]["p50"]);
    }
    let name = left(&engine(), &run_id(&out)).remove(0);
    let kept = Kept(name.clone());
    assert_eq!(left(&engine(), &run_id(&out)), [&*name], "the hosts beside it are not kept");
    packets_are_handed_on(&name, &dir.path().join("router"), &arguments);
    ip_vs_hands_packets_on_or_is_a_skip(&dir.path().join("ipvs"), &arguments);
    drop(kept);
    assert_eq!(left(&engine(), &run_id(&out)), Vec::<String>::new());
}

/// A router is passed on the way there and not on the way back, and only by the road that has it.
fn packets_are_handed_on(cluster: &str, out: &Path, arguments: &[&str]) {
    let routes = "loadbalancer-local,loadbalancer-remote,lbip-remote";
    let rest = ["--balancer", "router", "--route", routes, "--workload", "newconn"];
    let (output, cases) = bench(out, &[arguments, &rest].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{cluster}: used again")), "{said}");
    assert_eq!(cases.len(), 3);
    for case in &cases {
        measured_whole(case);
        let routed = case["route"] != "lbip-remote";
        let legs = |name: &str| -> Vec<&str> {
            let stages = case["stages"].as_array().unwrap().iter();
            let of_name = stages.filter(|stage| stage["name"] == name);
            of_name.map(|stage| stage["leg"].as_str().unwrap()).collect()
        };
        let on_the_way: &[&str] = if routed { &["request"] } else { &[] };
        assert_eq!(legs("lb"), on_the_way, "{case:#}");
        assert_eq!(legs("lb_wire"), on_the_way, "{case:#}");
        assert_eq!(legs("wire"), ["request", "response"], "{case:#}");
        assert_eq!(case["residual_ns"]["p99"], 0, "{case:#}");
        let evidence = case["proof"]["evidence"].to_string();
        assert_eq!(evidence.contains("the router 10.8.255.254 handed "), routed, "{evidence}");
        eprintln!("{}: {} ns", case["id"], case["service_time_ns"]["p50"]);
    }
    assert_eq!(left(&engine(), &run_id(out)), Vec::<String>::new());
}

/// Where the kernel has no ip_vs, that is the reason.
fn ip_vs_hands_packets_on_or_is_a_skip(out: &Path, arguments: &[&str]) {
    let rest = ["--balancer", "ipvs", "--route", "loadbalancer-remote", "--workload", "newconn"];
    let (output, cases) = bench(out, &[arguments, &rest].concat());
    let [case] = &cases[..] else { panic!("{cases:#?}") };
    if case["status"] == "measured" {
        measured_whole(case);
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("ip_vs passed "), "{evidence}");
        return;
    }
    assert_eq!(output.status.code(), Some(4), "{case:#}");
    assert!(case["reason"]["need"].to_string().contains("IP_VS"), "{case:#}");
    eprintln!("ipvs: {}", case["reason"]);
}

#[test]
fn labs_are_compared_in_one_report_and_requests_pass_a_tunnel_in_both() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let (output, cases) = bench(
        &out,
        &[
            "--lab",
            "netns,kind",
            "--kernel",
            "host",
            "--mode",
            "none,iptables,ebpf",
            "--cni",
            "vxlan",
            "--route",
            "nodeport-remote",
            "--services",
            "10",
            "--workload",
            "newconn,dns-newconn",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(of(&cases, "lab", "netns").count(), 6);
    assert_eq!(of(&cases, "lab", "kind").count(), 6);
    // Without Services pods are asked by their addresses. What rules there are, are kubelet's and Docker's.
    let most = |mode| of(&cases, "mode", mode).map(walked).max().unwrap();
    assert!(most("none") < most("iptables"));
    for case in of(&cases, "mode", "none") {
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
        if case["lab"] == "netns" {
            assert_eq!(walked(case), 0, "{case:#}");
        }
        assert!(case["proof"]["evidence"].to_string().contains(" asked 10.244."), "{case:#}");
    }
    for case in &cases {
        assert_eq!(case["status"], "measured", "{case:#}");
        let stages = case["stages"].to_string();
        assert!(stages.contains("encap") && stages.contains("decap"), "{stages}");
    }
    let resolving: Vec<_> =
        of(&cases, "workload", "dns-newconn").filter(|case| case["mode"] != "none").collect();
    for case in &resolving {
        // In a cluster Services have the names that its API server knows them by.
        let namespace = if case["lab"] == "kind" { "nic2pod" } else { "default" };
        resolved(case, "10.112.0.10:53", namespace);
    }
    // A query passes the same places whoever made the hosts and the rules.
    for mode in ["iptables", "ebpf"] {
        let of_mode = resolving.iter().filter(|case| case["mode"] == mode);
        let stages: Vec<_> = of_mode.map(|case| queries_stages(case)).collect();
        assert_eq!(stages[0], stages[1], "{mode}");
    }
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("## Lab kind against netns"), "{report}");
    assert_eq!(left(&engine(), &run_id(&out)), Vec::<String>::new());
}

/// Waits until a run's log has a word.
fn heard(out: &Path, word: &str, run: &mut Child) -> String {
    let deadline = Instant::now() + STEP_MAX;
    loop {
        let log = fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
        if log.contains(word) {
            return log;
        }
        assert!(Instant::now() < deadline, "{word} was not heard: {log}");
        assert_eq!(run.try_wait().unwrap(), None, "the run has ended: {log}");
        std::thread::sleep(GLANCE);
    }
}

#[test]
fn a_node_that_is_killed_fails_its_case_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut run = xtask(&["bench", "--iterations", "2", "--duration", "20s", "--out"])
        .arg(&out)
        .args(["--lab", "kind", "--mode", "iptables", "--cni", "bridge", "--route"])
        .args(["nodeport-remote", "--services", "1", "--workload", "newconn"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    heard(&out, "iteration", &mut run);
    let (engine, id) = (engine(), run_id(&out));
    let workers = engine.by_label("io.x-k8s.kind.role=worker").unwrap();
    let ours = |name: &str| name.contains(&id.to_ascii_lowercase());
    let worker = workers.iter().find(|worker| ours(&worker.name)).unwrap();
    engine.remove(&worker.id, true).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let cases = cases(&out);
    assert_eq!(cases[0]["status"], "failed", "{:#}", cases[0]);
    let message = cases[0]["failure"]["message"].as_str().unwrap();
    assert!(message.contains("worker"), "{message}");
    assert_eq!(left(&engine, &id), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let lab = ["--lab", "kind", "--mode", "iptables", "--cni", "ptp", "--workload", "newconn"];
    let run = |name: &str, more: &[&str], variable: Option<(&str, &str)>| {
        let mut command = xtask(&["bench", "--out"]);
        command.arg(dir.path().join(name)).args(lab).args(more).envs(variable);
        command.output().unwrap()
    };
    let dead = run("dead", &[], Some(("DOCKER_HOST", "unix:///nonexistent/docker.sock")));
    assert_eq!(dead.status.code(), Some(69));
    let said = String::from_utf8(dead.stderr).unwrap();
    assert!(said.contains("/nonexistent/docker.sock"), "{said}");
    let none = run("none", &["--kind-bin", "/nonexistent/kind"], None);
    assert_eq!(none.status.code(), Some(69));
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(said.contains("kind"), "{said}");
    let image = run("image", &["--node-image", "nic2pod/no-such-node:v1.20.2"], None);
    assert_eq!(image.status.code(), Some(4), "{}", String::from_utf8_lossy(&image.stderr));
    let reason = cases(&dir.path().join("image"))[0]["reason"].to_string();
    assert!(reason.contains("nic2pod/no-such-node:v1.20.2"), "{reason}");
}

#[test]
fn a_cluster_that_exists_is_loaded_from_pods_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let up = xtask(&["lab", "up", "--mode", "iptables", "--cni", "ptp"]).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let name = String::from_utf8(up.stdout).unwrap().trim().to_owned();
    let kept = Kept(name.clone());
    let listed = String::from_utf8(xtask(&["lab", "ls"]).output().unwrap().stdout).unwrap();
    assert!(listed.contains(&format!("{name}  2 of 2 nodes run  iptables+ptp")), "{listed}");
    let engine = engine();
    let config = Kind::find(None).unwrap().kubeconfig(&engine, &name).unwrap();
    let file = dir.path().join("kubeconfig");
    fs::write(&file, config).unwrap();
    let out = dir.path().join("run");
    let context = format!("kind-{name}");
    let output = xtask(&["bench", "--lab", "kubeconfig", "--context", &context, "--out"])
        .arg(&out)
        .args(["--load-workers", "2", "--yes", "--mode", "iptables,nftables", "--cni", "ptp"])
        .args(["--route", "clusterip-remote,nodeport-local", "--services", "1,20"])
        .args(["--workload", "keepalive", "--duration", "500ms", "--iterations", "1"])
        .env("KUBECONFIG", &file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cases = cases(&out);
    assert_eq!(of(&cases, "mode", "iptables").count(), 4);
    for case in of(&cases, "mode", "iptables") {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["notes"].to_string().contains("apart"), "{case:#}");
    }
    for case in of(&cases, "mode", "nftables") {
        assert_eq!(case["status"], "skipped", "{case:#}");
    }
    with_it(&name, &file);
    let followed = existing::is_followed(&name, &file, &dir.path().join("probed"));
    // The same cluster serves a run of lab kind.
    let (output, again) = bench(
        &dir.path().join("kept"),
        &[
            "--lab",
            "kind",
            "--mode",
            "iptables",
            "--cni",
            "ptp",
            "--route",
            "nodeport-remote,clusterip-local",
            "--services",
            "1",
            "--workload",
            "newconn,dns-newconn",
        ],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{name}: used again")), "{said}");
    assert_eq!(again.len(), 2 * 2);
    again.iter().for_each(measured_whole);
    for case in of(&again, "workload", "dns-newconn") {
        let outside = case["route"] == "nodeport-remote";
        let server = if outside { "10.112.0.10:53" } else { "10.96.100.102:53" };
        // Not the one that the run before has deleted.
        resolved(case, server, "nic2pod-");
        assert!(case["proof"]["evidence"].to_string().contains(": udp 10."), "{case:#}");
        // What the image has in CoreDNS's place does not answer.
        let own = "names are served by nic2pod's own server on ";
        assert!(case["notes"].to_string().contains(own), "{case:#}");
    }
    // A request is made of the same things, whoever made the hosts and whoever has the probes.
    let followed = of(&followed, "mode", "iptables").next().unwrap();
    let mut ours = of(&again, "route", "nodeport-remote");
    let ours = ours.find(|case| case["workload"] == "newconn").unwrap();
    for count in ["packets", "hooks_entered"] {
        let (ours, theirs) = (&ours["counts"][count], &followed["counts"][count]);
        assert!(ours.is_u64() && ours == theirs, "{count}: {ours} and {theirs}");
    }
    let walk = xtask(&["trace", "--lab", "kind", "--mode", "iptables", "--cni", "ptp", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walk.stderr).into_owned();
    assert!(walk.status.success() && said.contains(&format!("{name}: used again")), "{said}");
    let walks: Value = serde_json::from_slice(&walk.stdout).unwrap();
    let text = walks.to_string();
    assert!(text.contains("KUBE-SVC-") && text.contains("KUBE-SEP-"), "{walks:#}");
    // Kept is kept, also before whoever clears up.
    let gc = xtask(&["lab", "gc"]).output().unwrap();
    assert!(gc.status.success(), "{}", String::from_utf8_lossy(&gc.stderr));
    assert!(kind::list(&engine).unwrap().contains(&name));
    let begun = Instant::now();
    drop(kept);
    eprintln!("lab down: {:?}", begun.elapsed());
    assert!(!kind::list(&engine).unwrap().contains(&name));
}

/// Runs the tests that need a cluster that exists, in a process that is told of this one.
fn with_it(name: &str, kubeconfig: &Path) {
    let images = Command::new("docker")
        .args([
            "exec",
            &format!("{name}-control-plane"),
            "ctr",
            "-n",
            "k8s.io",
            "images",
            "ls",
            "-q",
        ])
        .output()
        .unwrap();
    let images = String::from_utf8(images.stdout).unwrap();
    let agents = images.lines().find(|image| image.contains("nic2pod/agents:")).unwrap();
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--test-threads=1", "--nocapture"])
        .env(cluster::KUBECONFIG, kubeconfig)
        .env(cluster::NODE, format!("{name}-control-plane"))
        .env(cluster::IMAGE, agents)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    eprintln!("{errors}{said}");
    // What went wrong, and not all that went well before it.
    let lines: Vec<_> = errors.lines().collect();
    let panics = lines.iter().enumerate().filter(|(_, line)| line.contains(" panicked at "));
    let panics: Vec<_> =
        panics.map(|(at, _)| lines[at..lines.len().min(at + 12)].join("\n")).collect();
    assert!(ran.status.success(), "{}", panics.join("\n"));
    assert!(said.contains("13 passed"), "{said}");
}

/// A cluster that was kept; removed also where a test fails, or the tests after it would find it.
struct Kept(String);

impl Drop for Kept {
    fn drop(&mut self) {
        let down = xtask(&["lab", "down", &self.0]).output();
        if !std::thread::panicking() {
            let down = down.unwrap();
            assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        }
    }
}

#[test]
fn what_a_killed_run_leaves_is_removed_by_gc() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut run = xtask(&["bench", "--iterations", "2", "--duration", "20s", "--out"])
        .arg(&out)
        // Not as the cluster is that another test keeps at the same time: it would be used again.
        .args(["--lab", "kind", "--mode", "iptables", "--cni", "bridge", "--route"])
        .args(["nodeport-local", "--services", "1", "--workload", "newconn"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    heard(&out, "iteration", &mut run);
    let (engine, id) = (engine(), run_id(&out));
    let gc = || xtask(&["lab", "gc"]).output().unwrap();
    assert!(gc().status.success());
    assert_eq!(left(&engine, &id).len(), 2, "a run under way keeps its cluster and its client");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(left(&engine, &id).len(), 2, "a killed run removes nothing itself");
    let name = kind::list(&engine)
        .unwrap()
        .into_iter()
        .find(|name| name.contains(&*id.to_ascii_lowercase()));
    let name = name.unwrap();
    let listed = || String::from_utf8(xtask(&["lab", "ls"]).output().unwrap().stdout).unwrap();
    assert!(listed().contains(&format!("{name}  2 of 2 nodes run  not kept")), "{}", listed());
    // What is left of a cluster whose removal was killed is told, and removed, too.
    let control_plane = kind::find(&engine, &name).unwrap().control_plane().id.clone();
    engine.remove(&control_plane, true).unwrap();
    assert!(listed().contains(&format!("{name}  has no control plane")), "{}", listed());
    let begun = Instant::now();
    let removed = gc();
    eprintln!("lab gc: {:?}", begun.elapsed());
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let said = String::from_utf8(removed.stdout).unwrap();
    assert!(said.contains(&id.to_ascii_lowercase()), "{said}");
    assert_eq!(left(&engine, &id), Vec::<String>::new());
}
