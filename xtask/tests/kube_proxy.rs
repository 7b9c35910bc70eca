// SPDX-License-Identifier: Apache-2.0
//! Ring 2, with the program that NIC2POD_KUBE_PROXY names: `bench` and `compare` with a real kube-proxy in
//! place of our rules, end to end.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn program() -> Option<String> {
    let program = std::env::var("NIC2POD_KUBE_PROXY").ok().filter(|path| !path.is_empty());
    if program.is_none() {
        eprintln!("SKIP NIC2POD_KUBE_PROXY does not name a kube-proxy");
    }
    program
}

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).env("CI", "true");
    command
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn sha256sum(path: &str) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_kube_proxy_is_measured_beside_our_own_rules_and_never_taken_for_them() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let profile = dir.path().join("p.toml");
    fs::write(&profile, "name = \"t\"\n[run]\nadd_one = true\nwarm_up = \"200ms\"\n").unwrap();
    let status = xtask(&["bench", "--kernel", "host", "--out"])
        .arg(&out)
        .args(["--profile", profile.to_str().unwrap(), "--mode", "none,iptables,nftables"])
        .args(["--proxy", "own,kube-proxy", "--proxy-bin", &program, "--cni", "ptp"])
        .args(["--route", "nodeport-remote,clusterip-local", "--services", "1,200"])
        .args(["--workload", "newconn", "--iterations", "2", "--duration", "300ms"])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let summary = read(&out.join("summary.json"));
    let digest = sha256sum(&program);
    let cases = summary["cases"].as_array().unwrap();
    let of = |mode: &str| cases.iter().filter(move |case| case["mode"] == mode).collect::<Vec<_>>();
    assert_eq!(of("none").len(), 4);
    assert_eq!(of("iptables").len(), 4);
    let real = of("iptables.kube-proxy");
    assert_eq!(real.len(), 4);
    for case in real {
        let id = case["id"].as_str().unwrap();
        assert!(id.starts_with("netns/iptables.kube-proxy+ptp/"), "{id}");
        assert_eq!(case["status"], "measured", "{id}: {}", case["failure"]);
        assert_eq!(case["errors"], 0, "{id}");
        assert_eq!(case["proof"]["mode"], "iptables.kube-proxy");
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("answers /proxyMode with iptables"), "{evidence}");
        let notes = case["notes"].to_string();
        assert!(notes.contains(&digest) && notes.contains("Kubernetes v1."), "{notes}");
        if case["probe"]["engine"] == "bpf" {
            let joined = case["joined_ratio"].as_f64().unwrap();
            assert!(joined >= 0.999, "{id}: {joined}");
        }
        assert!(case["install_ms"].as_f64().unwrap() > 0.0);
        // Two connections of its own watch the API server; they are on no entry of the measured one.
        let entries = case["counts"]["conntrack_entries"].as_u64();
        let ours = of("iptables")
            .into_iter()
            .find(|ours| ["route", "services"].iter().all(|key| ours[*key] == case[*key]));
        assert_eq!(entries, ours.unwrap()["counts"]["conntrack_entries"].as_u64(), "{id}");
        let rules = fs::read_to_string(out.join("cases").join(id).join("iptables.rules")).unwrap();
        assert!(rules.contains("KUBE-PROXY-CANARY"), "kube-proxy's rules as the kernel has them");
        let text = fs::read_to_string(out.join("cases").join(id).join("kube-proxy.json")).unwrap();
        assert!(text.contains("KubeProxyConfiguration"));
        eprintln!(
            "{id}: joined {}, rules walked {}, {} ms to write, {} ms for one more, first packet {} ns",
            case["joined_ratio"],
            case["counts"]["rules_walked"],
            case["install_ms"],
            case["add_one_ms"],
            case["first_packet_ns"]["p50"],
        );
    }
    // A version that has the mode is measured; one that has not is a skip, and no other mode's result.
    for case in of("nftables.kube-proxy") {
        assert!(case["status"] != "failed", "{}", case["failure"]);
        assert!(case["status"] != "skipped" || case["reason"]["need"].to_string().contains("1.31"));
    }
    let manifest = read(&out.join("manifest.json"));
    let tools = manifest["tools"].as_array().unwrap();
    let tool = tools.iter().find(|tool| tool["name"] == "kube-proxy").unwrap();
    assert!(tool["version"].as_str().unwrap().contains(&digest), "{tool}");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("iptables.kube-proxy") && report.contains(&digest));
}

#[test]
fn compare_tells_a_kube_proxys_rules_from_ours() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let output = xtask(&["compare", "--kernel", "host", "--json", "--out"])
        .arg(dir.path().join("run"))
        .args(["--mode", "iptables", "--proxy", "own,kube-proxy", "--proxy-bin", &program])
        .args(["--cni", "ptp", "--route", "nodeport-remote", "--services", "100"])
        .args(["--workload", "newconn", "--iterations", "2", "--duration", "200ms"])
        .args(["--budget", "30s"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let judged: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = judged.to_string();
    assert!(text.contains("iptables.kube-proxy"), "{text}");
    eprintln!("{judged:#}");
}

#[test]
fn a_kube_proxy_that_is_not_named_or_not_one_is_said_to_be() {
    let missing =
        xtask(&["bench", "--proxy", "kube-proxy", "--mode", "iptables"]).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(2), "{said}");
    assert!(said.contains("--proxy-bin PATH"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let status = xtask(&["bench", "--kernel", "host", "--mode", "iptables", "--services", "1"])
        .args(["--proxy-bin", "/bin/true", "--out"])
        .arg(&out)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(4), "nothing ran");
    for case in read(&out.join("summary.json"))["cases"].as_array().unwrap() {
        assert_eq!(case["status"], "skipped");
        assert!(case["reason"]["need"].to_string().contains("a kube-proxy program"), "{case}");
    }
}
