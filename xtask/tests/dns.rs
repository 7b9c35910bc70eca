// SPDX-License-Identifier: Apache-2.0
//! Ring 2: clients that resolve names at a DNS Service behind each proxy mode, on namespaces of this
//! machine.
#![expect(clippy::unwrap_used, reason = "a test's functions fail by panicking, as the test does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROFILE: &str = r#"
name = "t"
[matrix]
cni = ["ptp"]
services = [20]
workload = ["dns-newconn"]
[run]
warm_up = "200ms"
duration = "200ms"
iterations = 2
samples_per_second = 1000000
"#;
/// A name of four dots, a search path of three domains, and an address of each kind.
const QUERIES: f64 = 8.0;

fn xtask(command: &str, profile: &Path, arguments: &[&str]) -> Command {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args([command, "--kernel", "host", "--profile"]).arg(profile).args(arguments);
    xtask.env("CI", "true");
    xtask
}

fn profile(dir: &Path) -> PathBuf {
    let path = dir.join("p.toml");
    fs::write(&path, PROFILE).unwrap();
    path
}

/// A run's cases, and its folder.
fn run(arguments: &[&str]) -> (Vec<Value>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = xtask("bench", &profile(dir.path()), arguments);
    let output = bench.args(["--json", "--out"]).arg(dir.path().join("run")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!([Some(0), Some(4)].contains(&output.status.code()), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    (summary["cases"].as_array().unwrap().clone(), dir)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// Every request is joined and begins with its resolution, nothing of it is left unexplained, and eight
/// queries were answered as the cluster's names have it.
fn assert_sound(case: &Value) {
    assert_eq!(case["status"], "measured", "{case:#}");
    assert_eq!(case["errors"], 0, "{case:#}");
    assert_eq!(case["probe"]["dropped"], 0, "{case:#}");
    assert!(number(&case["joined_ratio"]) >= 0.999, "{case:#}");
    let whole = &case["service_time_ns"];
    let residual = number(&case["residual_ns"]["p50"]).abs();
    assert!(residual <= 0.01 * number(&whole["p50"]), "{case:#}");
    let stages = case["stages"].as_array().unwrap();
    let requests = number(&case["requests"]);
    let sum: f64 = stages.iter().map(|s| number(&s["mean_ns"]) * number(&s["count"])).sum();
    let off = (sum / requests / number(&whole["mean"]) - 1.0).abs();
    assert!(off < 0.01, "stages make {sum} of {whole}: {case:#}");
    assert_eq!((&stages[0]["name"], &stages[1]["name"]), (&"dns".into(), &"connect".into()));
    let dns = &case["dns_ns"];
    assert!((number(&stages[0]["mean_ns"]) / number(&dns["mean"]) - 1.0).abs() < 0.01, "{case:#}");
    assert!(number(&dns["p50"]) < number(&case["latency_ns"]["p50"]));

    let queries = |key: &str| number(&case["queries"][key]) / requests;
    assert_eq!(queries("asked"), QUERIES, "{case:#}");
    let answers = ["addresses", "no_data", "nxdomain", "failed", "ignored"].map(queries);
    assert_eq!(answers, [1.0, 1.0, 6.0, 0.0, 0.0], "{case:#}");
    assert_queries_sound(case);
    let evidence = case["proof"]["evidence"].to_string();
    assert!(evidence.contains("for web.default.svc.cluster.local: "), "{evidence}");
}

/// The queries' own stages, where there are probes: each query is joined, nothing of it is left over, and
/// two at a time, four times over, fit into stage `dns`.
fn assert_queries_sound(case: &Value) {
    let queries = &case["queries"];
    let stages = queries["stages"].as_array().unwrap();
    if case["probe"]["engine"] == "client" {
        assert!(stages.is_empty());
        return;
    }
    assert!(number(&queries["joined_ratio"]) >= 0.999, "{case:#}");
    assert_eq!(queries["residual_ns"]["p99"], 0, "{case:#}");
    let names: Vec<_> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| name.starts_with("dns_")), "{names:?}");
    let (first, last) = (names.first(), names.last());
    assert_eq!((first, last), (Some(&"dns_client_tx"), Some(&"dns_client_rx")), "{case:#}");
    let of_node: &[&str] = match (case["probe"]["engine"].as_str(), case["mode"].as_str()) {
        (Some("bpf"), Some("iptables" | "nftables")) => {
            &["dns_nic_rx", "dns_conntrack", "dns_proxy", "dns_route", "dns_filter", "dns_masq"]
        }
        (_, Some("ebpf")) => &["dns_nic_rx+dns_proxy+dns_route+dns_egress"],
        _ => &[],
    };
    for name in ["dns_wire", "dns_server"].iter().chain(of_node) {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    let one: f64 = stages.iter().map(|stage| number(&stage["mean_ns"])).sum();
    let all = number(&case["dns_ns"]["mean"]);
    assert!(4.0 * one < all, "{one} of {all}: {case:#}");
    assert!(QUERIES * one > all, "{one} of {all}: {case:#}");
}

#[test]
fn names_are_resolved_behind_every_mode_and_the_time_is_a_stage() {
    let routes = "nodeport-local,clusterip-local";
    let (cases, dir) = run(&["--mode", "none,iptables,nftables,ebpf", "--route", routes]);
    assert_eq!(cases.len(), 4 * 2);
    let without_bpf = |case: &&Value| !case["probe"]["reason"].is_null();
    if let Some(case) = cases.iter().find(without_bpf) {
        eprintln!("SKIP {}", case["probe"]["reason"]);
        return;
    }
    cases.iter().for_each(assert_sound);
    for case in &cases {
        let translated = case["proof"]["evidence"].to_string().contains(": udp 10.");
        let tracks = ["iptables", "nftables"].contains(&case["mode"].as_str().unwrap());
        assert!(translated || !tracks, "{case:#}");
    }
    // The DNS Service is one of the table's.
    let rules = dir.path().join("run/cases");
    assert!(texts(&rules, "iptables.rules").contains("kube-system/kube-dns:dns"));
}

#[test]
fn taps_join_requests_with_their_resolutions_and_remote_servers_of_names_are_asked() {
    let routes = "nodeport-remote,loadbalancer-local";
    let (cases, _dir) = run(&["--engine", "tap", "--mode", "none,iptables", "--route", routes]);
    assert_eq!(cases.len(), 2 * 2);
    cases.iter().for_each(assert_sound);
}

#[test]
fn other_cases_have_no_dns_and_a_mode_without_udp_is_skipped_with_the_reason() {
    let modes =
        ["--engine", "client", "--mode", "iptables,userspace", "--route", "clusterip-local"];
    let (cases, dir) = run(&[&modes[..], &["--workload", "newconn,dns-newconn"]].concat());
    let case = |mode: &str, workload: &str| {
        let wanted = |case: &&Value| case["mode"] == mode && case["workload"] == workload;
        cases.iter().find(wanted).unwrap()
    };
    let skipped = case("userspace", "dns-newconn");
    assert_eq!(skipped["status"], "skipped", "{skipped:#}");
    assert_eq!(skipped["reason"]["found"], "mode userspace, whose process carries TCP");

    let (plain, resolving) = (case("iptables", "newconn"), case("iptables", "dns-newconn"));
    assert!(plain["dns_ns"].is_null() && plain["queries"].is_null(), "{plain:#}");
    let texts = |case: &Value| {
        let folder = dir.path().join("run/cases").join(case["id"].as_str().unwrap());
        texts(&folder, "iptables.rules")
    };
    assert!(!texts(plain).contains("kube-dns"));
    assert!(texts(resolving).contains("kube-dns"));
    // As many Services in both: the DNS Service is one of them.
    let services =
        |case: &Value| texts(case).lines().filter(|line| line.starts_with(":KUBE-SVC-")).count();
    assert_eq!(services(plain), services(resolving));
}

/// All files of that name under a folder, one behind the other.
fn texts(folder: &Path, name: &str) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push_str(&texts(&path, name));
        } else if path.file_name().is_some_and(|found| found == name) {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    all
}

/// A run that is under way, killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// The namespace of a host of its lab, by the thread that lives in it.
    fn host(&self, name: &str) -> Option<PathBuf> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).ok()?;
        let mut tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
        let task = tasks.find(|task| {
            fs::read_to_string(task.join("comm"))
                .is_ok_and(|comm| comm.trim() == format!("netns {name}"))
        })?;
        Some(task.join("ns/net"))
    }
}

/// First packets of connections that rules of the table `nat` led to a Service's chain, by the kernel's
/// own count.
fn counted(rules: &str, service: &str) -> Option<u64> {
    let line = rules.lines().find(|line| {
        line.contains("-A KUBE-SERVICES") && line.contains(&format!("\"{service} cluster IP\""))
    })?;
    line.strip_prefix('[')?.split(':').next()?.parse().ok()
}

#[test]
fn the_kernel_counts_a_flow_for_each_name_of_the_search_path_before_each_connection() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--engine", "client", "--mode", "iptables", "--route", "clusterip-local"];
    let mut bench = xtask("bench", &profile(dir.path()), &arguments);
    bench.args(["--duration", "3s", "--json", "--out"]).arg(dir.path().join("run"));
    bench.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(bench.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    let (of_names, of_requests) = loop {
        assert!(Instant::now() < deadline, "no load was seen");
        assert!(running.0.try_wait().unwrap().is_none(), "the run ended before any load was seen");
        std::thread::sleep(Duration::from_millis(50));
        let Some(node) = running.host("node1") else { continue };
        let mut save = Command::new("nsenter");
        save.arg(format!("--net={}", node.display())).args(["iptables-save", "-c", "-t", "nat"]);
        let Ok(output) = save.output() else {
            eprintln!("SKIP nsenter cannot be run here");
            return;
        };
        let rules = String::from_utf8_lossy(&output.stdout);
        let counts = counted(&rules, "kube-system/kube-dns:dns");
        match counts.zip(counted(&rules, "default/web:http")) {
            Some((of_names, of_requests)) if of_requests > 200 => break (of_names, of_requests),
            _ => {}
        }
    };
    // Four names, four sockets: A and AAAA share one, and connection tracking asks the rules for the
    // first. The proofs' own connections and a resolution under way are the difference.
    let off = of_names.abs_diff(4 * of_requests);
    assert!(off <= 40, "{of_names} flows of queries for {of_requests} connections");
}

#[test]
fn a_capture_file_shows_eight_queries_in_the_search_paths_order_and_their_answers() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("trace.pcapng");
    let arguments = ["--mode", "iptables", "--cni", "ptp", "--route", "nodeport-local"];
    let mut trace = xtask("trace", &profile(dir.path()), &arguments);
    trace.args(["--workload", "dns-newconn", "--json", "--pcap"]).arg(&pcap);
    let output = trace.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let walks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = walks[0]["steps"].as_array().unwrap();
    assert_eq!(steps[0]["name"], "resolving", "{steps:#?}");
    let connect = steps.iter().find(|step| step["name"] == "connect called").unwrap();
    assert_eq!(connect["stage"], "dns");

    // By another program. In front of the node's rules a query is for the Service, behind them for the pod.
    let seen = |interface: &str, what: &str| {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&pcap).args(["-T", "fields", "-E", "separator=/s"]);
        tshark.args(["-e", "dns.qry.name", "-e", "dns.qry.type", "-e", "ip.dst"]);
        tshark.args(["-Y", &format!("frame.interface_name == \"{interface}\" && {what}")]);
        let output = tshark.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let Some(queries) = seen("client/eth0", "dns.flags.response == 0") else {
        eprintln!("SKIP tshark cannot be run here");
        return;
    };
    let name = "web.default.svc.cluster.local";
    let domains = [".default.svc.cluster.local", ".svc.cluster.local", ".cluster.local", ""];
    let of_kinds = |domain| ["1", "28"].map(|kind| format!("{name}{domain} {kind} 10.112.0.10"));
    assert_eq!(queries, domains.map(of_kinds).concat());
    let answers = seen("client/eth0", "dns.flags.response == 1").unwrap();
    assert_eq!(answers.len(), 8, "{answers:?}");
    assert_eq!(seen("client/eth0", "dns.flags.rcode == 3").unwrap().len(), 6);
    let at_pod = seen("dns/eth0", "dns.flags.response == 0").unwrap();
    assert_eq!(at_pod.len(), 8, "{at_pod:?}");
    assert!(at_pod.iter().all(|line| line.contains(" 10.244.0.")), "{at_pod:?}");
}
