// SPDX-License-Identifier: Apache-2.0
//! Ring 2: hosts, pods and Services with addresses of IPv6, on namespaces of this machine.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PROFILE: &str = r#"
name = "t"
[matrix]
ip = ["ipv4", "ipv6"]
mode = ["none", "userspace", "iptables", "nftables", "ebpf"]
services = [20]
workload = ["newconn"]
[run]
engine = "bpf"
warm_up = "100ms"
duration = "200ms"
iterations = 1
unprobed = false
samples_per_second = 1000000
"#;

/// Whether this kernel has addresses of IPv6 to give.
fn has_ipv6() -> bool {
    let there = Path::new("/proc/sys/net/ipv6").exists();
    if !there {
        eprintln!("SKIP the kernel has no IPv6");
    }
    there
}

fn xtask(command: &str, dir: &Path, arguments: &[&str]) -> Command {
    let profile = dir.join("p.toml");
    fs::write(&profile, PROFILE).unwrap();
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args([command, "--kernel", "host", "--profile"]).arg(profile).args(arguments);
    xtask.env("CI", "true");
    xtask
}

/// A run's cases.
fn run(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut bench = xtask("bench", dir, arguments);
    let output = bench.args(["--json", "--out"]).arg(dir.join("run")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!([Some(0), Some(4)].contains(&output.status.code()), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    summary["cases"].as_array().unwrap().clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

fn assert_sound(case: &Value) {
    assert_eq!(case["status"], "measured", "{case:#}");
    assert_eq!(case["errors"], 0, "{case:#}");
    assert_eq!(case["probe"]["dropped"], 0, "{case:#}");
    assert!(number(&case["joined_ratio"]) >= 0.999, "{case:#}");
    let residual = number(&case["residual_ns"]["p50"]).abs();
    assert!(residual <= 0.01 * number(&case["service_time_ns"]["p50"]), "{case:#}");
}

/// What is the same of a request whatever addresses it has.
fn shape(case: &Value) -> (Vec<String>, Value, Value) {
    let stages = case["stages"].as_array().unwrap();
    let named = |stage: &Value| format!("{} {}", stage["leg"], stage["name"]);
    let counts = &case["counts"];
    let (walked, entries) = (counts["rules_walked"].clone(), counts["conntrack_entries"].clone());
    (stages.iter().map(named).collect(), walked, entries)
}

#[test]
fn requests_have_the_same_stages_and_meet_as_many_rules_as_those_of_ipv4_under_each_cni() {
    if !has_ipv6() {
        return;
    }
    let some = "nodeport-remote";
    let all = "direct-local,clusterip-local,lbip-remote,loadbalancer-remote";
    for (cni, modes, routes) in [
        ("bridge", "none,userspace,iptables,nftables,ebpf", all),
        ("ptp", "iptables,nftables", some),
        ("vxlan", "none,nftables,ebpf", some),
        // Programs of mode ebpf have no device to be at where pods are slaves of the NIC.
        ("macvlan", "none,iptables", some),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let cases = run(dir.path(), &["--mode", modes, "--cni", cni, "--route", routes]);
        assert_eq!(cases.len(), routes.split(',').count() * modes.split(',').count() * 2);
        cases.iter().for_each(assert_sound);
        for pair in cases.chunks(2) {
            let [four, six] = pair else { panic!("two families") };
            assert_eq!(six["mode"], format!("{}.ipv6", four["mode"].as_str().unwrap()));
            assert_eq!(six["route"], four["route"]);
            assert_eq!(shape(six), shape(four), "{}", six["id"]);
            assert_eq!(six["probe"]["engine"], four["probe"]["engine"], "{six:#}");
            let evidence = six["proof"]["evidence"].to_string();
            assert!(evidence.contains("asked [fd00:10:"), "{evidence}");
            assert!(!evidence.contains(" 10.244."), "{evidence}");
            if six["mode"] == "nftables.ipv6" {
                let translated = "is translated to [fd00:10:244:";
                assert!(evidence.contains(translated), "{evidence}");
                assert!(evidence.contains("chain ip6 kube-proxy nat-prerouting"), "{evidence}");
            }
            if six["mode"] == "iptables.ipv6" {
                let translated = " to DNAT --to-destination [fd00:10:244:";
                assert!(evidence.contains(translated), "{evidence}");
            }
        }
    }
}

#[test]
fn beside_another_family_requests_meet_what_they_meet_without_and_it_is_carried_as_well() {
    if !has_ipv6() {
        return;
    }
    for (cni, modes, routes) in [
        ("bridge", "none,userspace,iptables,nftables,ebpf", "nodeport-remote"),
        ("vxlan", "nftables,ebpf", "clusterip-remote"),
        ("ptp", "iptables", "loadbalancer-remote,ingress-local"),
        ("macvlan", "nftables", "lbip-remote"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let stacks = ["--ip", "ipv4,dual-ipv4,ipv6,dual-ipv6"];
        let paths = ["--mode", modes, "--cni", cni, "--route", routes];
        let cases = run(dir.path(), &[&stacks[..], &paths].concat());
        assert_eq!(cases.len(), routes.split(',').count() * modes.split(',').count() * 4);
        cases.iter().for_each(assert_sound);
        for pair in cases.chunks(2) {
            let [alone, dual] = pair else { panic!("one family, and both") };
            assert_eq!(shape(dual), shape(alone), "{}", dual["id"]);
            let mode = dual["mode"].as_str().unwrap();
            let (mode, other) = match mode.split_once('.').unwrap() {
                (mode, "dual-ipv4") => (mode, "] asked [fd00:10:"),
                (mode, "dual-ipv6") => (mode, " asked 10."),
                _ => panic!("{mode} is dual"),
            };
            let evidence = dual["proof"]["evidence"].as_array().unwrap();
            let evidence: Vec<_> = evidence.iter().filter_map(Value::as_str).collect();
            let asked: Vec<_> = evidence.iter().filter(|line| line.contains(" asked ")).collect();
            // Each family's connection, and that of the other one last.
            assert!(asked.last().unwrap().contains(other.trim_start_matches(']')), "{asked:?}");
            if mode == "ebpf" {
                let linked = |line: &&&str| line.starts_with("programs at tc ingress");
                let linked: Vec<_> = evidence.iter().filter(linked).collect();
                assert_ne!(linked.first(), linked.last(), "{evidence:?}");
            }
        }
    }
}

#[test]
fn names_have_addresses_of_both_families() {
    if !has_ipv6() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--ip", "dual-ipv4,dual-ipv6", "--cni", "bridge", "--mode", "iptables,ebpf"];
    let paths = ["--route", "clusterip-remote", "--workload", "dns-newconn"];
    let cases = run(dir.path(), &[&arguments[..], &paths].concat());
    assert_eq!(cases.len(), 2 * 2);
    for case in &cases {
        assert_sound(case);
        let requests = number(&case["requests"]);
        let queries = |key: &str| number(&case["queries"][key]) / requests;
        // Of the name itself, by A and by AAAA.
        let answers = ["addresses", "no_data", "nxdomain", "failed", "ignored"].map(queries);
        assert_eq!(answers, [2.0, 0.0, 6.0, 0.0, 0.0], "{case:#}");
    }
}

#[test]
fn names_have_addresses_of_ipv6_and_tls_ends_at_the_ingress_controller() {
    if !has_ipv6() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let arguments =
        ["--ip", "ipv6", "--cni", "bridge", "--route", "ingress-remote,clusterip-local"];
    let arguments = [&arguments[..], &["--engine", "tap"]].concat();
    let workloads = ["--mode", "iptables,nftables", "--workload", "dns-newconn,tls-newconn"];
    let cases = run(dir.path(), &[&arguments[..], &workloads].concat());
    assert_eq!(cases.len(), 2 * 2 * 2);
    cases.iter().for_each(assert_sound);
    for case in cases.iter().filter(|case| case["workload"] == "dns-newconn") {
        let requests = number(&case["requests"]);
        let queries = |key: &str| number(&case["queries"][key]) / requests;
        // Of the name itself there is an address for AAAA, and for A there is none.
        let answers = ["addresses", "no_data", "nxdomain", "failed", "ignored"].map(queries);
        assert_eq!(answers, [1.0, 1.0, 6.0, 0.0, 0.0], "{case:#}");
        assert!(number(&case["queries"]["joined_ratio"]) >= 0.999, "{case:#}");
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("for web.default.svc.cluster.local: fd00:10:"), "{evidence}");
    }
}

#[test]
fn programs_of_others_listen_at_addresses_of_ipv6_and_connect_from_them() {
    if !has_ipv6() {
        return;
    }
    let found = |program: &str| {
        let ran = Command::new(program).arg("--version").output();
        ran.inspect_err(|error| eprintln!("SKIP {program}: {error}")).is_ok()
    };
    for (program, ingress) in [("haproxy", "haproxy"), ("nginx", "nginx"), ("envoy", "embedded")] {
        if !found(program) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["--balancer", program, "--ingress", ingress, "--ip", "ipv6"];
        let routes = ["--route", "loadbalancer-remote,ingress-local", "--cni", "ptp"];
        let more = ["--mode", "nftables", "--workload", "newconn,tls-newconn"];
        let cases = run(dir.path(), &[&arguments[..], &routes, &more].concat());
        assert_eq!(cases.len(), 4);
        cases.iter().for_each(assert_sound);
    }
}

#[test]
fn plugins_of_others_attach_pods_with_addresses_of_ipv6() {
    if !has_ipv6() {
        return;
    }
    if !["/opt/cni/bin", "/usr/lib/cni"].iter().any(|folder| Path::new(folder).exists()) {
        eprintln!("SKIP there are no plugins here");
        return;
    }
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/cni");
    let list = |name: &str| format!("exec:{}", lists.join(name).display());
    let dir = tempfile::tempdir().unwrap();
    let cnis = [list("bridge.conflist"), list("ptp.conflist")].join(",");
    let arguments = ["--ip", "ipv6", "--cni", &cnis, "--mode", "none,iptables"];
    let cases = run(dir.path(), &[&arguments[..], &["--route", "nodeport-remote"]].concat());
    assert_eq!(cases.len(), 2 * 2);
    for case in &cases {
        assert_sound(case);
        let evidence = case["proof"]["evidence"].to_string();
        assert!(
            evidence.contains("on eth0 and routes to ::/0, as the result of ADD"),
            "{evidence}"
        );
    }
}

#[test]
fn what_there_is_not_for_ipv6_is_skipped_with_the_reason() {
    if !has_ipv6() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A tunnel takes 70 bytes, and with less than 1280 left there is no IPv6.
    let narrow = dir.path().join("narrow.toml");
    let text = format!("{PROFILE}\n[lab]\nmtu = 1340\n");
    fs::write(&narrow, text).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args(["bench", "--kernel", "host", "--profile"]).arg(narrow).env("CI", "true");
    bench.args(["--ip", "ipv6", "--mode", "none", "--cni", "vxlan", "--json", "--out"]);
    let output = bench.arg(dir.path().join("narrow")).output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let case = &summary["cases"][0];
    assert_eq!(case["status"], "skipped", "{case:#}");
    assert_eq!(case["reason"]["found"], "1340", "{case:#}");
    // Plugins are told one range.
    let list = dir.path().join("ptp.conflist");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/cni/ptp.conflist"), &list)
        .unwrap();
    let cni = format!("exec:{}", list.display());
    let cases = run(dir.path(), &["--ip", "dual-ipv6", "--mode", "none", "--cni", &cni]);
    let need = "plugins that give a pod an address of each family";
    assert_eq!(cases[0]["reason"]["need"], need, "{:#}", cases[0]);
}

#[test]
fn another_program_sees_packets_of_ipv6_and_the_translation() {
    if !has_ipv6() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("trace.pcapng");
    let arguments =
        ["--ip", "ipv6", "--mode", "nftables", "--cni", "vxlan", "--route", "nodeport-remote"];
    let mut trace = xtask("trace", dir.path(), &arguments);
    let output = trace.args(["--json", "--pcap"]).arg(&pcap).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = |interface: &str, what: &str| {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&pcap).args(["-d", "udp.port==8472,vxlan"]);
        tshark.args(["-T", "fields", "-E", "separator=/s", "-e", "ipv6.dst", "-e", "tcp.dstport"]);
        tshark.args(["-Y", &format!("frame.interface_name == \"{interface}\" && {what}")]);
        let output = tshark.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let syn = "tcp.flags.syn == 1 && tcp.flags.ack == 0";
    let Some(asked) = seen("node1/eth0", &format!("{syn} && !vxlan")) else {
        eprintln!("SKIP tshark cannot be run here");
        return;
    };
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|line| line == "fd00:10:9::b 30080"), "{asked:?}");
    // Outside the other node, inside the pod.
    let wrapped = seen("node2/eth0", &format!("{syn} && vxlan")).unwrap();
    assert!(!wrapped.is_empty());
    let to_pod =
        |line: &String| line.starts_with("fd00:10:9::c,fd00:10:244:1::") && line.ends_with(" 8080");
    assert!(wrapped.iter().all(to_pod), "{wrapped:?}");
    assert_eq!(seen("node1/eth0", "ip").unwrap(), Vec::<String>::new());
}
