// SPDX-License-Identifier: Apache-2.0
//! Ring 3: what a profile's `[lab.wire]` does to a request lies in stage `wire`, and nowhere else. On
//! this machine's kernel with a rate; inside User-Mode Linux, whose kernel has netem, with a delay.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PLAIN: &str = "[workload.keepalive]\nconnections = 1\n";
const ARGUMENTS: [&str; 13] = [
    "--mode",
    "none,nftables",
    "--cni",
    "bridge",
    "--services",
    "1",
    "--workload",
    "keepalive",
    "--duration",
    "800ms",
    "--iterations",
    "1",
    "--json",
];

fn p50(value: &Value) -> f64 {
    value["p50"].as_f64().unwrap_or_else(|| panic!("no median in {value}"))
}

/// Medians of stage `wire`, request and response, and the longest of all others', nanoseconds.
fn stages(case: &Value) -> ([f64; 2], f64) {
    let stages = case["stages"].as_array().unwrap();
    let time = |stage: &Value| stage["p50_ns"].as_f64().unwrap();
    let (wire, others): (Vec<_>, Vec<_>) = stages.iter().partition(|s| s["name"] == "wire");
    let leg = |leg: &str| time(wire.iter().find(|stage| stage["leg"] == leg).unwrap());
    ([leg("request"), leg("response")], others.into_iter().map(time).fold(0.0, f64::max))
}

fn cases(summary: &str) -> Vec<Value> {
    let summary: Value = serde_json::from_str(summary).unwrap();
    let cases = summary["cases"].as_array().unwrap().clone();
    for case in &cases {
        assert_eq!(case["status"], "measured", "{case:#}");
    }
    cases
}

fn notes(case: &Value) -> String {
    case["notes"].to_string()
}

#[test]
fn a_delay_is_waited_for_in_stage_wire_on_both_legs_and_in_no_other() {
    // Long beside whatever a busy machine may add to a stage.
    const DELAY_NS: f64 = 50e6;
    let Ok(kernel) = std::env::var("NIC2POD_UML") else {
        eprintln!("SKIP NIC2POD_UML names no kernel");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("delayed.toml");
    fs::write(&profile, format!("{PLAIN}[lab.wire]\ndelay = \"50ms\"\n")).unwrap();
    let routes = "nodeport-local,clusterip-local";
    let cases = bench(&profile, dir.path(), &format!("uml:{kernel}"), routes);
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let (id, latency, (wire, longest)) = (&case["id"], p50(&case["latency_ns"]), stages(case));
        eprintln!("{id}: latency {latency} ns, wire {wire:?}, no other stage above {longest}");
        assert!(longest < DELAY_NS / 2.0, "{case:#}");
        if case["route"] == "clusterip-local" {
            assert!(notes(case).contains("does not pass the wire"), "{}", notes(case));
            assert!(latency < DELAY_NS, "{case:#}");
            continue;
        }
        assert!(notes(case).contains("50ms delay each way"), "{}", notes(case));
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("dev to-client root handle 1: netem"), "{evidence}");
        assert!(wire.iter().all(|leg| (DELAY_NS..2.0 * DELAY_NS).contains(leg)), "{case:#}");
        assert!((2.0 * DELAY_NS..4.0 * DELAY_NS).contains(&latency), "{case:#}");
    }
}

/// A large response over a slow wire, with whatever engine the machine has.
#[test]
fn a_slow_wire_is_slow_in_stage_wire_on_the_response() {
    let dir = tempfile::tempdir().unwrap();
    let (large, slow) = (dir.path().join("large.toml"), dir.path().join("slow.toml"));
    // 256 KiB at 50 Mbit/s take 42 ms.
    let text = format!("{PLAIN}response_bytes = 262144\n");
    fs::write(&large, &text).unwrap();
    fs::write(&slow, format!("{text}[lab.wire]\nrate_mbit = 50\n")).unwrap();
    let [large, slow] =
        [large, slow].map(|profile| bench(&profile, dir.path(), "host", "nodeport-local"));
    for (large, slow) in large.iter().zip(&slow) {
        assert!(notes(slow).contains("50 Mbit/s each way"), "{}", notes(slow));
        let (before, now) = (p50(&large["latency_ns"]), p50(&slow["latency_ns"]));
        eprintln!("{}: {before} -> {now} ns", slow["id"]);
        assert!(now > before * 1.5 && now > 25e6, "{before} -> {now}");
    }
}

fn bench(profile: &Path, dir: &Path, kernel: &str, routes: &str) -> Vec<Value> {
    let out = dir.join(profile.file_stem().unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--kernel", kernel, "--route", routes])
        .args(ARGUMENTS)
        .arg("--profile")
        .arg(profile)
        .arg("--out")
        .arg(out)
        .env("CI", "true")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    cases(&String::from_utf8_lossy(&output.stdout))
}
