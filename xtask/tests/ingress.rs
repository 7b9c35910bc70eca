// SPDX-License-Identifier: Apache-2.0
//! Ring 2: an ingress controller on the road, measured and traced on namespaces of this machine.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    // Without what only figures need: a long warm-up, and iterations without probes to compare with.
    let profile = dir.path().join("p.toml");
    let text = "name = \"t\"\n[run]\nwarm_up = \"100ms\"\nunprobed = false\n";
    std::fs::write(&profile, text).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_xtask"));
    bench.args(["bench", "--kernel", "host", "--duration", "250ms", "--iterations", "2"]);
    bench.arg("--profile").arg(profile);
    bench.args(["--json", "--out"]).arg(dir.path().join("run")).args(arguments);
    let output = bench.env("CI", "true").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!([Some(0), Some(4)].contains(&output.status.code()), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    summary["cases"].as_array().unwrap().clone()
}

/// Whether a case was skipped for want of a program, which is said.
fn skipped(case: &Value) -> bool {
    let need = case["reason"]["need"].as_str().unwrap_or_default();
    let missing = need.starts_with("program ");
    if missing {
        eprintln!("SKIP {}: {}", case["id"], case["reason"]);
    }
    missing
}

fn names<'a>(case: &'a Value, leg: &str) -> Vec<&'a str> {
    let stages = case["stages"].as_array().unwrap().iter();
    let of_leg = stages.filter(|stage| stage["leg"] == leg);
    of_leg.map(|stage| stage["name"].as_str().unwrap()).collect()
}

/// Without errors, joined, with nothing left over, and with stages of both legs.
fn is_whole(case: &Value) {
    assert_eq!(case["status"], "measured", "{case:#}");
    assert_eq!((&case["errors"], &case["probe"]["dropped"]), (&0.into(), &0.into()), "{case:#}");
    assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
    let mean_ns = case["service_time_ns"]["p50"].as_f64().unwrap();
    for percentile in ["p50", "p99"] {
        let residual_ns = case["residual_ns"][percentile].as_f64().unwrap();
        assert!(residual_ns.abs() <= mean_ns / 100.0, "{case:#}");
    }
    for leg in ["request", "response"] {
        let names = names(case, leg);
        for name in ["wire", "ingress"] {
            assert!(names.contains(&name), "{leg}: {name} in {names:?}");
        }
        let beyond = |part: &str| names.iter().any(|name| name.split('+').any(|one| one == part));
        assert!(beyond("up_wire") && beyond("up_nic_rx"), "{leg}: {names:?}");
    }
    let evidence = case["proof"]["evidence"].as_array().unwrap();
    let passed = |line: &Value| line.as_str().unwrap().contains(" rules, counts ");
    assert!(evidence.iter().any(passed), "{case:#}");
}

#[test]
fn both_legs_are_measured_in_every_mode_to_the_service_and_past_it() {
    let cases = bench(&[
        "--mode",
        "none,userspace,iptables,nftables,ebpf",
        "--cni",
        "vxlan",
        "--route",
        "ingress-local,ingress-remote,ingress-endpoints-local",
        "--services",
        "20",
        "--workload",
        "newconn,tls-keepalive",
    ]);
    assert_eq!(cases.len(), 5 * 3 * 2);
    cases.iter().for_each(is_whole);
    let find = |id: &str| cases.iter().find(|case| case["id"] == id).unwrap();
    let walked = |route: &str| {
        let id = format!("netns/iptables+vxlan/{route}/svc-20/newconn");
        find(&id)["counts"]["rules_walked"].as_u64().unwrap()
    };
    // Past the Service, the second connection has no rules of a Service to walk to the end.
    assert!(walked("ingress-local") > walked("ingress-endpoints-local"));
    let through = find("netns/nftables+vxlan/ingress-remote/svc-20/newconn");
    let (request, response) = (names(through, "request"), names(through, "response"));
    for name in ["cni", "up_proxy", "up_encap", "up_fabric", "up_decap", "up_deliver"] {
        assert!(request.contains(&name) && response.contains(&name), "{name}");
    }
}

#[test]
fn programs_of_others_are_followed_as_our_own_is() {
    for program in ["nginx", "haproxy"] {
        let arguments = ["--ingress", program, "--mode", "none,nftables", "--cni", "ptp"];
        let more = ["--route", "ingress-local,ingress-endpoints-remote", "--services", "9"];
        let rest = ["--workload", "newconn,keepalive,tls-newconn,tls-resume"];
        let cases = bench(&[&arguments[..], &more, &rest].concat());
        assert_eq!(cases.len(), 2 * 2 * 4);
        if cases.iter().all(skipped) {
            continue;
        }
        for case in &cases {
            is_whole(case);
            let evidence = case["proof"]["evidence"].as_array().unwrap();
            let by_name = |line: &Value| line.as_str().unwrap().to_lowercase().contains(program);
            assert!(evidence.iter().any(by_name), "{case:#}");
            let handshakes = |kind: &str| case["handshakes"][kind].as_u64().unwrap_or(0);
            match case["workload"].as_str().unwrap() {
                "tls-newconn" => {
                    assert!(handshakes("full") > 0 && handshakes("resumed") == 0, "{case:#}");
                    assert!(names(case, "request").contains(&"tls+ingress_tls"), "{case:#}");
                }
                "tls-resume" => assert!(handshakes("resumed") > 0, "{case:#}"),
                _ => {}
            }
        }
    }
}

#[test]
fn tls_is_spoken_with_pods_again_or_passed_through() {
    for (program, kind) in ["embedded", "nginx", "haproxy"]
        .into_iter()
        .flat_map(|program| ["reencrypt", "passthrough"].map(|kind| (program, kind)))
    {
        let arguments = ["--ingress", program, "--ingress-tls", kind, "--mode", "nftables"];
        let more = ["--cni", "ptp", "--route", "ingress-remote", "--services", "9"];
        let rest = ["--workload", "tls-newconn,tls-keepalive,newconn"];
        let cases = bench(&[&arguments[..], &more, &rest].concat());
        assert_eq!(cases.len(), 3);
        if cases.iter().any(skipped) {
            continue;
        }
        for case in &cases {
            is_whole(case);
            let request = names(case, "request");
            let tls = case["workload"] != "newconn";
            let evidence = case["proof"]["evidence"].as_array().unwrap();
            let words = match kind {
                "reencrypt" => "pods are asked by TLS again",
                _ => "TLS is passed through",
            };
            let said = evidence.iter().any(|line| line.as_str().unwrap().contains(words));
            assert_eq!(said, tls, "{program} {kind}: {evidence:#?}");
            if case["workload"] == "tls-newconn" {
                // The pod's handshake is the client's, or another that only the controller waits for.
                let own = request.contains(&"tls") && request.contains(&"pod_tls");
                assert_eq!(own, kind == "passthrough", "{program} {kind}: {request:?}");
                assert_eq!(request.contains(&"tls+ingress_tls"), !own, "{request:?}");
            }
        }
    }
}

#[test]
fn ten_thousand_rules_come_up_and_each_request_finds_its_own() {
    for program in ["embedded", "nginx", "haproxy"] {
        let arguments = ["--ingress", program, "--mode", "ebpf", "--cni", "ptp", "--services"];
        let more = ["10000", "--route", "ingress-local", "--workload", "keepalive"];
        let cases = bench(&[&arguments[..], &more].concat());
        if cases.iter().all(skipped) {
            continue;
        }
        is_whole(&cases[0]);
        let evidence = cases[0]["proof"]["evidence"].as_array().unwrap();
        let rules = |line: &Value| line.as_str().unwrap().contains(", with 9999 rules, ");
        assert!(evidence.iter().any(rules), "{:#}", cases[0]);
        eprintln!("{program}: up in {} ms with 10,000 rules", cases[0]["lab_up_ms"]);
    }
}

#[test]
fn one_request_is_told_over_both_of_its_connections() {
    let mut trace = Command::new(env!("CARGO_BIN_EXE_xtask"));
    trace.args(["trace", "--kernel", "host", "--route", "ingress", "--mode", "nftables"]);
    let output = trace.args(["--cni", "vxlan", "--json"]).env("CI", "true").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let walks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = walks[0].to_string();
    // Both connections are tracked: that to the controller and the one that it makes.
    let conntrack = walks[0]["conntrack"].as_array().unwrap();
    let to = |port: &str| conntrack.iter().any(|line| line.as_str().unwrap().contains(port));
    assert!(to(":30081") && to("10.96.100.100:80"), "{conntrack:#?}");
    for words in ["reaches the pod of the ingress controller", "on a connection of its own"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}
