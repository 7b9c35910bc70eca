// SPDX-License-Identifier: Apache-2.0
//! Ring 2: `bench` on namespaces of this machine, end to end.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn bench(out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["bench", "--kernel", "host", "--out"]).arg(out).args(arguments).env("CI", "true");
    command
}

/// Without what only figures need: a long warm-up, and iterations without probes to compare with.
fn quick(out: &Path, arguments: &[&str]) -> Command {
    let profile = out.with_extension("toml");
    let text = "name = \"t\"\n[run]\nwarm_up = \"100ms\"\nunprobed = false\n";
    fs::write(&profile, text).unwrap();
    let mut command = bench(out, arguments);
    command.arg("--profile").arg(profile);
    command
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// Waits until `ready` holds, a deadline instead of a guess.
fn await_that(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not happen within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a run's processes have in their environment, each run's own folder for a value.
const MARK: &str = "NIC2POD_TEST_RUN";

/// A run under way, ended with the test whatever becomes of it.
struct Run {
    child: Child,
    /// As in the environment of each of its processes.
    mark: String,
}

impl Run {
    /// Network namespaces that its processes are in, but for this test's own. They last no longer than who is in them.
    fn namespaces(&self) -> BTreeSet<PathBuf> {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let of_run = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let process = entry.ok()?.path();
            let environment = fs::read(process.join("environ")).ok()?;
            let marked =
                environment.split(|&byte| byte == 0).any(|one| one == self.mark.as_bytes());
            marked.then(|| fs::read_link(process.join("ns/net")).ok()).flatten()
        });
        of_run.filter(|namespace| *namespace != own).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a run of many short groups and waits until the first is in the record.
fn started(out: &Path, modes: &str) -> Run {
    let services: Vec<_> = (1..=40).map(|n| n.to_string()).collect();
    let services = services.join(",");
    let arguments = ["--mode", modes, "--services", &services, "--workload", "newconn"];
    let arguments =
        [&arguments[..], &["--route", "nodeport-remote", "--duration", "200ms"]].concat();
    let mut command = bench(out, &arguments);
    command.env(MARK, out).stdout(Stdio::null()).stderr(Stdio::null());
    let mark = format!("{MARK}={}", out.display());
    let run = Run { child: command.spawn().unwrap(), mark };
    let events = out.join("events.jsonl");
    await_that("the end of a first case", || {
        fs::read_to_string(&events).is_ok_and(|text| text.contains("case_end"))
    });
    // A lab is up, or the next is coming up.
    await_that("a namespace of its own", || !run.namespaces().is_empty());
    run
}

#[test]
fn every_mode_this_kernel_has_is_measured_and_the_stages_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let output = quick(
        &out,
        &[
            "--mode",
            "none,userspace,iptables,ipvs,nftables,ebpf",
            "--cni",
            "bridge,vxlan",
            "--route",
            "nodeport-remote,clusterip-local",
            "--services",
            "100",
            "--workload",
            "newconn,keepalive",
            "--duration",
            "300ms",
            "--iterations",
            "2",
            "--json",
        ],
    )
    .output()
    .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6 * 2 * 2 * 2);
    for case in cases {
        if case["mode"] == "ipvs" && case["status"] == "skipped" {
            assert!(case["reason"]["need"].to_string().contains("CONFIG_IP_VS"), "{case:#}");
            continue;
        }
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert_eq!(case["probe"]["dropped"], 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
        assert_eq!(case["proof"]["mode"], case["mode"], "{case:#}");
        stages_add_up(case);
    }
    for mode in ["none", "userspace", "iptables", "nftables", "ebpf"] {
        assert!(cases.iter().any(|c| c["mode"] == mode && c["status"] == "measured"), "{mode}");
    }
}

#[test]
fn ipvlan_measures_what_it_can_carry_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let output = quick(
        &out,
        &[
            "--mode",
            "none,userspace,iptables,ipvs,nftables,ebpf",
            "--cni",
            "ipvlan",
            "--route",
            "direct-local,direct-remote,clusterip-local,clusterip-remote,nodeport-local,nodeport-remote",
            "--services",
            "10",
            "--workload",
            "newconn",
            "--duration",
            "200ms",
            "--iterations",
            "1",
            "--json",
        ],
    )
    .output()
    .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6 * 6);
    let need = |case: &Value| case["reason"]["need"].as_str().unwrap_or_default().to_owned();
    if cases.iter().all(|case| need(case).contains("CONFIG_IPVLAN")) {
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        eprintln!("SKIP {}", cases[0]["reason"]);
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for case in cases {
        let (mode, route) = (case["mode"].as_str().unwrap(), case["route"].as_str().unwrap());
        let translated = ["iptables", "ipvs", "nftables"].contains(&mode);
        if mode == "ipvs" && need(case).contains("CONFIG_IP_VS") {
            continue;
        }
        if mode == "ebpf" || translated && route.starts_with("clusterip") {
            assert_eq!(case["status"], "skipped", "{case:#}");
            assert!(case["reason"]["found"].to_string().contains("ipvlan"), "{case:#}");
            continue;
        }
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
        stages_add_up(case);
        let mut stages = case["stages"].as_array().unwrap().iter();
        let at_hooks = stages.any(|stage| stage["name"].to_string().contains("proxy"));
        // To a pod's own address the entry node's stack is asked only by a client outside, for a pod
        // of another node.
        let own = mode == "none" || route.starts_with("direct");
        let past = own && (route.ends_with("local") || route.starts_with("clusterip"));
        assert_eq!(at_hooks, !past, "{case:#}");
    }
}

#[test]
fn a_load_balancer_is_a_part_of_the_road_in_every_mode() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let output = quick(
        &out,
        &[
            "--mode",
            "none,userspace,iptables,nftables,ebpf",
            "--cni",
            "vxlan",
            "--route",
            "loadbalancer-local,loadbalancer-remote",
            "--services",
            "100",
            "--workload",
            "newconn,keepalive",
            "--duration",
            "300ms",
            "--iterations",
            "2",
            "--json",
        ],
    )
    .output()
    .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 5 * 2 * 2);
    for case in cases {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(
            (&case["errors"], &case["probe"]["dropped"]),
            (&0.into(), &0.into()),
            "{case:#}"
        );
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
        stages_add_up(case);
        for leg in ["request", "response"] {
            let of_leg = case["stages"].as_array().unwrap().iter().filter(|s| s["leg"] == leg);
            let names: Vec<_> = of_leg.map(|stage| stage["name"].as_str().unwrap()).collect();
            for name in ["wire", "lb", "lb_wire"] {
                assert!(names.contains(&name), "{leg}: {name} in {names:?}");
            }
        }
        let evidence = case["proof"]["evidence"].as_array().unwrap();
        let passed_on =
            |line: &Value| line.as_str().unwrap().contains("passed connections on: 1 to 10.");
        assert!(evidence.iter().any(passed_on), "{case:#}");
    }
}

/// Packets that a router hands on are those of the request leg and no others.
#[test]
fn a_router_before_the_nodes_is_passed_on_the_way_there_and_not_on_the_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let arguments = ["--balancer", "router", "--mode", "none,userspace,iptables,nftables,ebpf"];
    let more = ["--route", "loadbalancer-local,loadbalancer-remote", "--workload", "newconn"];
    let rest = ["--cni", "vxlan", "--services", "20", "--duration", "200ms", "--iterations", "1"];
    let arguments = [&arguments[..], &more, &rest, &["--json"]].concat();
    let output = quick(&out, &arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 5 * 2);
    for case in cases {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
        stages_add_up(case);
        let legs = |name: &str| -> Vec<&str> {
            let stages = case["stages"].as_array().unwrap().iter();
            let of_name = stages.filter(|stage| stage["name"] == name);
            of_name.map(|stage| stage["leg"].as_str().unwrap()).collect()
        };
        assert_eq!(legs("lb"), ["request"], "{case:#}");
        assert_eq!(legs("lb_wire"), ["request"], "{case:#}");
        assert_eq!(legs("wire"), ["request", "response"], "{case:#}");
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("the router 10.8.255.254 handed "), "{evidence}");
    }
    // Of the three connections of the proofs: SYN, ACK, request, ACK of the answer, RST.
    let of_mode = |mode: &str| cases.iter().find(|case| case["mode"] == mode).unwrap();
    let evidence = of_mode("none")["proof"]["evidence"].to_string();
    let handed = evidence.split("handed ").nth(1).unwrap().split(' ').next().unwrap();
    assert!((3..=30).contains(&handed.parse::<u64>().unwrap()), "{evidence}");
}

#[test]
fn programs_of_others_are_followed_as_the_load_balancer_of_our_own_is() {
    for (balancer, name) in
        [("haproxy", "HAProxy version"), ("nginx", "nginx/"), ("envoy", "Envoy 1.")]
    {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let arguments = ["--balancer", balancer, "--mode", "none,userspace,nftables"];
        let more = ["--route", "loadbalancer-local", "--workload", "newconn,keepalive"];
        let rest = ["--cni", "ptp", "--services", "9", "--duration", "300ms", "--iterations", "2"];
        let arguments = [&arguments[..], &more, &rest, &["--json"]].concat();
        let output = quick(&out, &arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let cases = summary["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 3 * 2);
        let missing = |case: &Value| {
            case["reason"]["need"].as_str().is_some_and(|need| need.starts_with("program "))
        };
        if cases.iter().all(missing) {
            assert_eq!(output.status.code(), Some(4), "{stderr}");
            eprintln!("SKIP {}", cases[0]["reason"]);
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        for case in cases {
            assert_eq!(case["status"], "measured", "{case:#}");
            assert_eq!(
                (&case["errors"], &case["probe"]["dropped"]),
                (&0.into(), &0.into()),
                "{case:#}"
            );
            assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
            stages_add_up(case);
            let stages = case["stages"].as_array().unwrap().iter().map(|stage| &stage["name"]);
            assert_eq!(stages.filter(|name| **name == "lb").count(), 2, "{case:#}");
            let evidence = case["proof"]["evidence"].as_array().unwrap();
            let by_name = |line: &Value| line.as_str().unwrap().starts_with(name);
            assert!(evidence.iter().any(by_name), "{case:#}");
        }
    }
}

/// A proxy's connection has the proxy's address; what it says before it has the client's.
#[test]
fn by_the_proxy_protocol_the_pod_knows_the_client_behind_any_load_balancer() {
    for (balancer, modes) in [
        ("embedded", "none,ebpf"),
        ("haproxy", "iptables"),
        ("nginx", "iptables"),
        ("envoy", "iptables"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let arguments = ["--balancer", balancer, "--proxy-protocol", "--mode", modes];
        let more = ["--route", "loadbalancer-remote", "--workload", "newconn,tls-resume,http2"];
        let rest = ["--cni", "ptp", "--services", "9", "--duration", "100ms", "--iterations", "1"];
        let arguments = [&arguments[..], &more, &rest, &["--json"]].concat();
        let output = quick(&out, &arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let cases = summary["cases"].as_array().unwrap();
        assert_eq!(cases.len(), modes.split(',').count() * 3);
        let missing = |case: &Value| {
            case["reason"]["need"].as_str().is_some_and(|need| need.starts_with("program "))
        };
        if cases.iter().all(missing) {
            assert_eq!(output.status.code(), Some(4), "{stderr}");
            eprintln!("SKIP {}", cases[0]["reason"]);
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        for case in cases {
            assert_eq!(case["status"], "measured", "{case:#}");
            assert_eq!(case["errors"], 0, "{case:#}");
            assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
            stages_add_up(case);
            let evidence = case["proof"]["evidence"].as_array().unwrap().iter();
            // By the load balancer first, and then past it, where the harness says it itself.
            let mut kept =
                evidence.map(|line| line.as_str().unwrap()).filter(|line| line.contains(" saw "));
            let first = kept.next().unwrap();
            assert!(first.ends_with(": the client's address is kept"), "{first}");
        }
    }
}

#[test]
fn the_clients_address_is_kept_where_the_policy_says_so_and_no_proxy_is_between() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("p.toml");
    for (policy, kept) in [("cluster", false), ("local", true)] {
        let text = format!(
            "name = \"t\"\n[matrix]\nmode = [\"none\", \"userspace\", \"iptables\", \"nftables\", \"ebpf\"]\n\
             cni = [\"ptp\"]\nroute = [\"nodeport-local\", \"loadbalancer-local\"]\nworkload = [\"newconn\"]\n\
             [run]\nwarm_up = \"50ms\"\nduration = \"50ms\"\niterations = 1\nunprobed = false\n\
             [service]\nexternal_policy = \"{policy}\"\n"
        );
        fs::write(&profile, text).unwrap();
        let out = dir.path().join(policy);
        let arguments = ["--profile", profile.to_str().unwrap(), "--json"];
        let output = bench(&out, &arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        for case in summary["cases"].as_array().unwrap() {
            let evidence = case["proof"]["evidence"].as_array().unwrap().iter();
            let lines = evidence.map(|line| line.as_str().unwrap());
            let seen: Vec<bool> = lines
                .filter_map(|line| {
                    let is = line.ends_with(": the client's address is kept");
                    let is_not = line.ends_with(": the client's address is not kept");
                    (is || is_not).then_some(is)
                })
                .collect();
            let expected = match (case["mode"].as_str().unwrap(), case["route"].as_str().unwrap()) {
                // Mode ebpf masquerades only what leaves for another node.
                ("none" | "ebpf", "nodeport-local") => true,
                // A process that connects by itself.
                ("userspace", _) => false,
                (_, "nodeport-local") => kept,
                // The pod sees the load balancer; what the mode carries is a connection past it.
                _ => {
                    assert!(!seen[0], "{case:#}");
                    continue;
                }
            };
            assert!(!seen.is_empty() && seen.iter().all(|&is| is == expected), "{case:#}");
        }
    }
}

#[test]
fn a_load_balancer_spreads_connections_over_the_nodes_and_each_is_followed_by_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("p.toml");
    // Of three nodes the second has the endpoint: connections to it enter by the two others. Under
    // policy Local each of the three answers what enters by it. All requests are kept, not the slowest only: these
    // may be one node's.
    for (route, service, nodes) in [
        ("loadbalancer-remote", "", &["node1", "node3"][..]),
        (
            "loadbalancer-local",
            "[service]\nexternal_policy = \"local\"\n",
            &["node1", "node2", "node3"],
        ),
    ] {
        let text = format!(
            "name = \"t\"\n[matrix]\nmode = [\"userspace\", \"nftables\", \"ebpf\"]\n\
             cni = [\"bridge\"]\nservices = [1]\nroute = [\"{route}\"]\nworkload = [\"newconn\"]\n{service}\
             [lab]\nnodes = 3\n[run]\nduration = \"300ms\"\niterations = 1\n\
             trace_slowest = 100\n\
             [workload.newconn]\narrival = \"open\"\nrate = 200.0\nschedule = \"uniform\"\n\
             connections = 32\n"
        );
        fs::write(&profile, text).unwrap();
        let out = dir.path().join(route);
        let status = bench(&out, &["--profile", profile.to_str().unwrap()]).status().unwrap();
        assert!(status.success());
        for case in summary(&out)["cases"].as_array().unwrap() {
            assert_eq!(case["status"], "measured", "{}", case["failure"]);
            assert_eq!(case["errors"], 0, "{case:#}");
            assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
            let id = case["id"].as_str().unwrap();
            let walks = fs::read(out.join("cases").join(id).join("walks.json")).unwrap();
            let walks: Value = serde_json::from_slice(&walks).unwrap();
            // The first node that sees the SYN is the one it enters by.
            let entered_by: BTreeSet<_> = walks
                .as_array()
                .unwrap()
                .iter()
                .map(|walk| {
                    let mut hosts = walk["steps"].as_array().unwrap().iter().map(|s| &s["host"]);
                    let host = hosts.find(|host| host.as_str().unwrap().starts_with("node"));
                    host.unwrap().as_str().unwrap()
                })
                .collect();
            assert_eq!(entered_by, nodes.iter().copied().collect(), "{id}");
        }
    }
}

/// Means add up: the stages' and the residual's make the end-to-end mean of the followed requests,
/// which is near that of all. The bound is wide because followed requests are a sample.
fn stages_add_up(case: &Value) {
    let stages = case["stages"].as_array().unwrap();
    let sum: f64 = stages.iter().map(|stage| stage["mean_ns"].as_f64().unwrap()).sum();
    let whole = case["service_time_ns"]["mean"].as_f64().unwrap();
    assert!(sum > 0.3 * whole && sum < 3.0 * whole, "stages {sum} of {whole}: {case:#}");
    let names: Vec<_> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    for name in ["client_tx", "app", "client_rx"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let first_packet = &case["first_packet_ns"];
    // Between two pods ipvlan has nothing enter a node.
    let route = case["route"].as_str().unwrap();
    let enters =
        case["cni"] != "ipvlan" || case["mode"] != "none" || !route.starts_with("clusterip");
    if case["workload"] == "newconn" && enters {
        assert!(first_packet["p50"].as_u64().unwrap() > 0, "{case:#}");
    }
}

/// What was translated is for a pod's address when it comes to the pod's node, and no Service's rule there
/// is for that.
#[test]
fn on_the_pods_node_a_first_packet_is_tested_against_every_service_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let arguments = [
        "--mode",
        "none,iptables,nftables,ebpf",
        "--cni",
        "vxlan",
        "--route",
        "nodeport-remote,nodeport-local",
        "--services",
        "10,60",
        "--workload",
        "newconn",
        "--duration",
        "100ms",
        "--iterations",
        "1",
    ];
    let output = quick(&out, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = summary(&out);
    let cases = summary["cases"].as_array().unwrap();
    let beyond = |mode: &str, place: &str, services: u64| {
        let of = |case: &&Value| {
            let route = case["route"].as_str().unwrap();
            case["mode"] == mode && route.ends_with(place) && case["services"] == services
        };
        cases.iter().find(of).unwrap()["counts"]["rules_walked_beyond"].as_u64().unwrap()
    };
    let more = |mode: &str| beyond(mode, "remote", 60) - beyond(mode, "remote", 10);
    assert_eq!(["none", "iptables", "nftables", "ebpf"].map(more), [0, 50, 0, 0]);
    assert!(beyond("nftables", "remote", 10) > 0);
    for mode in ["none", "iptables", "nftables", "ebpf"] {
        assert_eq!(beyond(mode, "local", 60), 0, "{mode}: there is no other node");
    }
}

#[test]
fn blocks_are_measured_on_hosts_made_anew_and_one_service_more_is_timed() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("p.toml");
    let text = "name = \"t\"\n[matrix]\nmode = [\"none\", \"nftables\"]\nservices = [20]\n\
                route = [\"nodeport-remote\"]\nworkload = [\"newconn\"]\n[run]\nwarm_up = \"100ms\"\n\
                duration = \"100ms\"\niterations = 2\nblocks = 3\nunprobed = false\nadd_one = true\n\
                [workload.newconn]\nconnection = \"newconn\"\nprotocol = \"http1\"\narrival = \"closed\"\n\
                connections = 1\nrequest_bytes = 0\nresponse_bytes = 1024\nserver_work = \"300us\"\n\
                timeout = \"5s\"\n";
    fs::write(&profile, text).unwrap();
    let out = dir.path().join("run");
    let status = bench(&out, &["--profile", profile.to_str().unwrap()]).status().unwrap();
    assert!(status.success());
    for case in summary(&out)["cases"].as_array().unwrap() {
        assert_eq!(case["status"], "measured", "{}", case["failure"]);
        let blocks = case["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 3);
        for block in blocks {
            assert!(block["requests"].as_u64().unwrap() > 0);
            // The work lies in every request: none can be faster.
            assert!(block["latency_ns"]["p50"].as_u64().unwrap() > 300_000, "{block}");
            assert_eq!(block["counts"], blocks[0]["counts"], "counts are exact in every block");
        }
        let programmed = case["add_one_ms"].as_f64();
        match case["mode"].as_str().unwrap() {
            "none" => assert_eq!(programmed, None),
            _ => assert!(programmed.unwrap() > 0.0),
        }
    }
}

#[test]
fn ctrl_c_keeps_what_was_measured_and_takes_the_lab_down() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut run = started(&out, "none,nftables");
    let pid = nix::unistd::Pid::from_raw(run.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = run.child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!summary(&out)["cases"].as_array().unwrap().is_empty());
    assert!(out.join("report.html").is_file());
    let manifest: Value =
        serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["interrupted"], "Ctrl-C");
    await_that("the end of every namespace", || run.namespaces().is_empty());
}

#[test]
fn kill_9_leaves_no_namespace_and_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let links = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    let mut run = started(&out, "userspace,iptables");
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    await_that("the end of every namespace", || run.namespaces().is_empty());
    assert_eq!(fs::read_to_string("/proc/net/dev").unwrap().lines().count(), links);
    assert!(!summary(&out)["cases"].as_array().unwrap().is_empty());
}

#[test]
fn an_ordinary_user_measures_too() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    nix::unistd::chown(dir.path(), Some(65534.into()), Some(65534.into())).unwrap();
    let program = dir.path().join("xtask");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&program)
        .args([
            "bench",
            "--kernel",
            "host",
            "--mode",
            "none,userspace,iptables,nftables",
            "--services",
            "10",
            "--iterations",
            "1",
        ])
        .args(["--route", "nodeport-remote", "--duration", "200ms", "--out"])
        .arg(&out)
        .current_dir("/")
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest: Value =
        serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["host"]["privilege"], "user namespace");
    let summary = summary(&out);
    let cases = summary["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| case["status"] == "measured"), "{cases:#?}");
    for case in cases {
        // BPF is the host's, and a user namespace gives no right to it.
        assert_eq!(case["probe"]["engine"], "tap", "{case:#}");
        let reason = case["probe"]["reason"].as_str().unwrap();
        assert!(reason.contains("user namespace") || reason.contains("CAP_"), "{reason}");
    }
}

/// Runs a few short cases with the walks of their two slowest requests.
fn short(out: &Path, cni: &str, route: &str) -> Value {
    let output = bench(
        out,
        &[
            "--mode",
            "none,iptables",
            "--cni",
            cni,
            "--route",
            route,
            "--services",
            "1",
            "--workload",
            "newconn,keepalive",
            "--iterations",
            "2",
            "--duration",
            "200ms",
            "--trace-slowest",
            "2",
        ],
    )
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = summary(out);
    assert_eq!(summary["cases"].as_array().unwrap().len(), 2 * 2);
    summary
}

/// Why this machine did not use engine `bpf` although the test is root; said where it is so.
fn without_bpf(summary: &Value) -> bool {
    let reason = &summary["cases"][0]["probe"]["reason"];
    if !reason.is_null() {
        eprintln!("skipped: {reason}");
    }
    !reason.is_null()
}

#[test]
fn root_measures_with_bpf_and_counts_the_same_in_every_run() {
    two_runs_count_the_same("bridge", "nodeport-local");
}

#[test]
fn a_tunnel_between_the_nodes_does_not_make_counts_vary() {
    two_runs_count_the_same("vxlan", "nodeport-remote");
}

fn two_runs_count_the_same(cni: &str, route: &str) {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| short(&dir.path().join(name), cni, route));
    if without_bpf(&one) {
        return;
    }
    let both = one["cases"].as_array().unwrap().iter().zip(other["cases"].as_array().unwrap());
    for (case, again) in both {
        for case in [case, again] {
            let probe = &case["probe"];
            assert_eq!(probe["engine"], "bpf", "{case:#}");
            assert!(probe["reason"].is_null(), "{case:#}");
            assert_eq!(probe["dropped"], 0, "{case:#}");
            assert_eq!(probe["effect"]["blocks"], 2, "{case:#}");
            assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
        }
        assert_eq!(case["id"], again["id"]);
        let counts = case["counts"].as_object().unwrap();
        assert!(counts.values().all(Value::is_u64), "{counts:#?}");
        assert_eq!(case["counts"], again["counts"], "{}", case["id"]);
        // What tells the modes apart: rules and an entry of connection tracking.
        let translated = case["mode"] == "iptables";
        assert_eq!(counts["rules_walked"].as_u64().unwrap() > 0, translated, "{case:#}");
        assert_eq!(counts["conntrack_entries"].as_u64().unwrap() > 0, translated, "{case:#}");
        // SYN, SYN-ACK, request and response; of a kept connection the last two.
        let packets = if case["workload"] == "newconn" { 4 } else { 2 };
        assert_eq!(counts["packets"], packets, "{case:#}");
    }
}

#[test]
fn the_slowest_requests_are_kept_slowest_first() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let summary = short(&out, "bridge", "nodeport-local");
    for case in summary["cases"].as_array().unwrap() {
        let folder = out.join("cases").join(case["id"].as_str().unwrap());
        let walks: Vec<Value> =
            serde_json::from_slice(&fs::read(folder.join("walks.json")).unwrap()).unwrap();
        assert!((1..=2).contains(&walks.len()), "{} walks", walks.len());
        let totals: Vec<_> = walks.iter().map(|walk| walk["total_ns"].as_u64().unwrap()).collect();
        assert!(totals.is_sorted_by(|one, next| one >= next), "{totals:?}");
        for walk in &walks {
            assert_eq!(walk["case"], case["id"]);
            assert_eq!(walk["kept"], "slowest");
            assert_eq!(walk["engine"], case["probe"]["engine"]);
            assert!(walk["steps"].as_array().unwrap().len() > 5, "{walk:#}");
        }
        // The slowest cannot be faster than half of all requests are.
        let median = case["latency_ns"]["p50"].as_u64().unwrap();
        assert!(totals.iter().all(|&total| total >= median), "{totals:?} beside {median}");
    }
}

#[test]
fn pcap_gives_one_file_with_an_interface_for_every_tap() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let output = bench(
        &out,
        &[
            "--mode",
            "nftables",
            "--route",
            "nodeport-remote",
            "--services",
            "1",
            "--workload",
            "newconn",
            "--iterations",
            "1",
            "--duration",
            "100ms",
            "--pcap",
        ],
    )
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let case = out.join("cases/netns/nftables+bridge/nodeport-remote/svc-1/newconn");
    let file = case.join("packets-1.pcapng");
    let listed = Command::new("tshark")
        .args(["-r"])
        .arg(&file)
        .args(["-T", "fields", "-e", "frame.interface_name", "-Y", "tcp.flags.syn == 1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    let interfaces: BTreeSet<_> = text.lines().collect();
    for name in ["client/eth0", "node1/eth0", "node2/eth0", "pod2-1/eth0"] {
        assert!(interfaces.contains(name), "{name} in {interfaces:?}");
    }
}

#[test]
fn a_tool_that_fails_is_in_the_record_and_the_other_cases_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // An nft that refuses the measured Service and is the real one otherwise.
    let nft = dir.path().join("nft");
    let script = "#!/bin/sh\ntext=$(cat)\ncase $text in *default/web*)\n  echo 'out of luck' >&2; exit 1\n\
                  esac\nprintf '%s\\n' \"$text\" | /usr/sbin/nft \"$@\"\n";
    fs::write(&nft, script).unwrap();
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = ["--mode", "nftables,iptables", "--services", "1", "--workload", "newconn"];
    let output = bench(&out, &arguments)
        .args(["--route", "nodeport-remote", "--duration", "100ms", "--iterations", "1"])
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/bin", dir.path().display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = summary(&out);
    let cases = &summary["cases"];
    assert_eq!(cases[0]["status"], "failed", "{cases:#}");
    assert_eq!(cases[0]["failure"]["stderr"], "out of luck\n", "{cases:#}");
    assert_eq!(cases[1]["status"], "measured", "{cases:#}");
}
