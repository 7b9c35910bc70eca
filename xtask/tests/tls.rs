// SPDX-License-Identifier: Apache-2.0
//! Ring 2: TLS ended at the pod, measured and traced on namespaces of this machine.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The default workloads, and what they leave out: TLS 1.2, HTTP/2, bodies of many records.
const PROFILE: &str = r#"
name = "t"
[matrix]
cni = ["bridge"]
services = [20]
[run]
warm_up = "200ms"
duration = "200ms"
iterations = 2
samples_per_second = 1000000
pcap_snap_bytes = 2000
[workload.tls-newconn]
tls = "1.3"
[workload.old]
connection = "newconn"
protocol = "http2"
tls = "1.2"
arrival = "closed"
connections = 2
request_bytes = 40000
response_bytes = 100000
timeout = "5s"
[workload.old-resume]
connection = "newconn"
protocol = "http1"
tls = "1.2"
resume = true
arrival = "open"
rate = 100.0
schedule = "poisson"
connections = 8
request_bytes = 0
response_bytes = 1024
timeout = "5s"
[workload.kept]
connection = "keepalive"
protocol = "http2"
tls = "1.3"
arrival = "closed"
connections = 3
request_bytes = 0
response_bytes = 100000
timeout = "5s"
"#;

fn xtask(command: &str, profile: &Path, arguments: &[&str]) -> Command {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args([command, "--kernel", "host", "--profile"]).arg(profile).args(arguments);
    xtask.env("CI", "true");
    xtask
}

fn profile(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("p.toml");
    fs::write(&path, PROFILE).unwrap();
    path
}

fn measured(engine: &str, modes: &str, routes: &str, workloads: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let arguments = ["--engine", engine, "--mode", modes, "--route", routes, "--json", "--out"];
    let mut bench = xtask("bench", &profile(dir.path()), &arguments);
    let output = bench.arg(&out).args(["--workload", workloads]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measured = |case: &&Value| {
        let skipped = case["mode"] == "ipvs" && case["status"] == "skipped";
        assert!(skipped || case["status"] == "measured", "{case:#}");
        !skipped
    };
    summary["cases"].as_array().unwrap().iter().filter(measured).cloned().collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// Every request is joined, nothing of it is left unexplained, and the stages of all make up the time
/// of all.
fn assert_sound(case: &Value) {
    assert_eq!(case["errors"], 0, "{case:#}");
    assert_eq!(case["probe"]["dropped"], 0, "{case:#}");
    assert!(number(&case["joined_ratio"]) >= 0.999, "{case:#}");
    let whole = &case["service_time_ns"];
    let residual = number(&case["residual_ns"]["p50"]).abs();
    assert!(residual <= 0.01 * number(&whole["p50"]), "{case:#}");
    let stages = case["stages"].as_array().unwrap();
    let count = number(&case["requests"]);
    let sum: f64 = stages.iter().map(|s| number(&s["mean_ns"]) * number(&s["count"]) / count).sum();
    let off = (sum / number(&whole["mean"]) - 1.0).abs();
    assert!(off < 0.01, "stages make {sum} of {whole}: {case:#}");

    let names: Vec<_> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    let workload = case["workload"].as_str().unwrap();
    let kept = workload.contains("keep") || workload == "kept";
    for name in ["tls", "pod_tls", "connect", "handover"] {
        assert_eq!(names.contains(&name), !kept, "{name} in {names:?}");
    }
    assert_eq!(case["tls_ns"].is_null(), kept, "{case:#}");
    let handshakes = &case["handshakes"];
    let (full, resumed) = (number(&handshakes["full"]), number(&handshakes["resumed"]));
    match (kept, workload.contains("resume")) {
        // Two iterations, with four and three connections.
        (true, _) => assert!([8.0, 6.0].contains(&full) && resumed == 0.0, "{case:#}"),
        (false, false) => assert_eq!((full, resumed), (count, 0.0), "{case:#}"),
        (false, true) => assert_eq!((full, resumed), (0.0, count), "{case:#}"),
    }
}

const ALL_MODES: &str = "none,userspace,iptables,ipvs,nftables,ebpf";

#[test]
fn bpf_joins_every_request_over_tls_and_its_stages_add_up() {
    let cases =
        measured("bpf", ALL_MODES, "nodeport-remote,clusterip-local", "tls-newconn,tls-keepalive");
    assert!(cases.len() >= 5 * 2 * 2, "{}", cases.len());
    let without_bpf = |case: &Value| !case["probe"]["reason"].is_null();
    if cases.iter().any(without_bpf) {
        eprintln!("SKIP {}", cases[0]["probe"]["reason"]);
        return;
    }
    cases.iter().for_each(assert_sound);
}

#[test]
fn taps_join_every_request_over_tls_and_its_stages_add_up() {
    let cases = measured(
        "tap",
        "none,userspace,iptables,ebpf",
        "nodeport-remote",
        "tls-newconn,tls-keepalive",
    );
    assert_eq!(cases.len(), 4 * 2);
    assert!(cases.iter().all(|case| case["probe"]["engine"] == "tap"));
    cases.iter().for_each(assert_sound);
}

#[test]
fn sessions_versions_and_bodies_of_many_records_are_joined_as_well() {
    for engine in ["bpf", "tap"] {
        let workloads = "tls-resume,old,old-resume,kept";
        let cases = measured(engine, "iptables", "nodeport-remote", workloads);
        assert_eq!(cases.len(), 4);
        cases.iter().for_each(assert_sound);
    }
}

#[test]
fn a_traced_request_shows_its_handshake_and_the_capture_file_the_version_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path());
    for (workload, version, alpn) in
        [("tls-newconn", "0x0304", "http/1.1"), ("old", "0x0303", "h2")]
    {
        let pcap = dir.path().join(format!("{workload}.pcapng"));
        let arguments = ["--mode", "iptables", "--route", "nodeport-remote", "--services", "1"];
        let mut trace = xtask("trace", &profile, &arguments);
        trace.args(["--json", "--workload", workload, "--pcap"]).arg(&pcap);
        let output = trace.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let walks: Value = serde_json::from_slice(&output.stdout).unwrap();
        let steps = walks[0]["steps"].as_array().unwrap();
        let place = |name: &str| {
            let found = steps.iter().position(|step| step["name"] == name);
            found.unwrap_or_else(|| panic!("{name} in {steps:#?}"))
        };
        let order = ["connected", "handshake read", "handshake answered", "secured"].map(place);
        assert!(order.is_sorted(), "{order:?}");
        assert!(place("secured") < place("request written"));
        assert!(place("handshake over") < place("response written"));
        assert_eq!(steps[place("secured")]["stage"], "tls");
        assert_eq!(steps[place("handshake answered")]["stage"], "pod_tls");
        // What carries the handshake is neither the request nor its response.
        let first = |packet: &str| {
            steps.iter().position(|s| s["packet"] == packet && s["place"] == "device")
        };
        assert!(first("TLS").unwrap() < first("request").unwrap());
        assert!(place("request written") < first("request").unwrap());
        assert!(place("response written") < first("response").unwrap());
        if let Some(hello) = hello(&pcap) {
            assert_eq!(hello, format!("{version} {alpn}"));
        }
    }
}

/// Versions and protocols that the ClientHello in a capture file asks for, by another program.
fn hello(pcap: &Path) -> Option<String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(pcap).args(["-d", "tcp.port==30080,tls", "-Y", "tls.handshake.type==1"]);
    tshark.args(["-T", "fields", "-E", "separator=/s"]);
    tshark.args(["-e", "tls.handshake.extensions.supported_version"]);
    tshark.args(["-e", "tls.handshake.extensions_alpn_str"]);
    let output = match tshark.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIP tshark cannot be run here: {error}");
            return None;
        }
    };
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 1, "one connection at many interfaces asks one thing: {lines:?}");
    Some(lines[0].to_owned())
}
