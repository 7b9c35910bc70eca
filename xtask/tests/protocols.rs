// SPDX-License-Identifier: Apache-2.0
//! Ring 2: other protocols than small requests of HTTP/1.1, and large bodies, leg by leg.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and says what it skips and sees"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Cases of a run of these workloads; all were measured, without an error.
fn cases(dir: &Path, name: &str, profile: &str, arguments: &[&str]) -> Vec<Value> {
    let file = dir.join(format!("{name}.toml"));
    // Without what only figures need: a long warm-up, and iterations without probes to compare with.
    let profile = format!("{profile}[run]\nwarm_up = \"100ms\"\nunprobed = false\n");
    std::fs::write(&file, profile).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--kernel", "host", "--services", "5", "--iterations", "2", "--json"])
        .args(arguments)
        .arg("--profile")
        .arg(&file)
        .arg("--out")
        .arg(dir.join(name))
        .env("CI", "true")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = summary["cases"].as_array().unwrap().clone();
    for case in &cases {
        assert_eq!((&case["status"], &case["errors"]), (&"measured".into(), &0.into()), "{case:#}");
    }
    cases
}

/// Every request was joined, and its stages add up.
fn adds_up(case: &Value) {
    assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
    let (residual, service) = (&case["residual_ns"]["p50"], &case["service_time_ns"]["p50"]);
    let (residual, service) = (residual.as_f64().unwrap(), service.as_f64().unwrap());
    assert!(residual.abs() <= service / 100.0, "{residual} of {service}");
}

/// Mean of a stage of the request leg, nanoseconds, if it has it.
fn stage(case: &Value, name: &str) -> Option<f64> {
    let stages = case["stages"].as_array().unwrap();
    stages.iter().find(|s| s["name"] == name && s["leg"] == "request")?["mean_ns"].as_f64()
}

/// Bits a second of a leg's body at the median.
fn rate(case: &Value, leg: &str) -> f64 {
    let leg = &case["legs"][leg];
    leg["body_bytes"].as_f64().unwrap() * 8e9 / leg["time_ns"]["p50"].as_f64().unwrap()
}

#[test]
fn a_body_goes_no_faster_than_the_wire_on_its_own_leg_and_the_other_leg_is_short() {
    let dir = tempfile::tempdir().unwrap();
    const RATE: f64 = 100e6;
    // Several times what the queue lets pass at once; 42 ms at that rate.
    let body = 512 * 1024;
    let profile = format!(
        "[lab.wire]\nrate_mbit = 100\n[workload.upload]\nrequest_bytes = {body}\n\
         [workload.download]\nresponse_bytes = {body}\n"
    );
    let arguments = [
        "--mode",
        "nftables",
        "--cni",
        "ptp",
        "--route",
        "nodeport-remote",
        "--workload",
        "upload,download",
        "--duration",
        "600ms",
    ];
    let cases = cases(dir.path(), "slow", &profile, &arguments);
    for (case, leg, other) in
        [(&cases[0], "request", "response"), (&cases[1], "response", "request")]
    {
        adds_up(case);
        let rate = rate(case, leg);
        eprintln!("{}: {:.1} Mbit/s of {:.0}", case["id"], rate / 1e6, RATE / 1e6);
        // Headers of frames and of segments take their part, and the first of it is a burst.
        assert!((0.7 * RATE..1.15 * RATE).contains(&rate), "{rate}");
        let took = |leg: &str| case["legs"][leg]["time_ns"]["p50"].as_f64().unwrap();
        assert!(took(other) < took(leg) / 2.0, "{case:#}");
    }
    let [up, down] = [&cases[0], &cases[1]].map(|case| stage(case, "upload"));
    assert!(up.unwrap() > 0.5 * body as f64 * 8e9 / RATE, "{up:?}");
    assert_eq!(down, None, "a request without a body");
}

#[test]
fn calls_of_grpc_are_followed_on_every_road() {
    let dir = tempfile::tempdir().unwrap();
    let profile = "[workload.calls]\nconnection = \"newconn\"\nprotocol = \"grpc\"\narrival = \"closed\"\n\
                   connections = 1\nrequest_bytes = 20000\nresponse_bytes = 3000\ntimeout = \"5s\"\n\
                   [workload.secured]\nconnection = \"newconn\"\nprotocol = \"grpc\"\ntls = \"1.3\"\n\
                   arrival = \"closed\"\nconnections = 1\nrequest_bytes = 20000\nresponse_bytes = 3000\n\
                   timeout = \"5s\"\n";
    let arguments = [
        "--mode",
        "iptables,ebpf,userspace",
        "--cni",
        "bridge",
        "--route",
        "nodeport-remote,loadbalancer-local",
        "--workload",
        "grpc,calls,secured",
        "--duration",
        "300ms",
    ];
    let cases = cases(dir.path(), "grpc", profile, &arguments);
    assert_eq!(cases.len(), 3 * 2 * 3);
    for case in &cases {
        adds_up(case);
        let has_body = case["workload"] != "grpc";
        assert_eq!(stage(case, "upload").is_some(), has_body, "{case:#}");
        assert_eq!(case["handshakes"].is_null(), case["workload"] != "secured", "{case:#}");
    }
}

/// Messages on connections that are kept and on new ones, in the clear and over TLS, with and without bodies.
const MESSAGES: &str = "[workload.opened]\nconnection = \"newconn\"\nprotocol = \"websocket\"\narrival = \"closed\"\n\
                        connections = 1\nrequest_bytes = 20000\nresponse_bytes = 3000\ntimeout = \"5s\"\n\
                        [workload.secured]\nconnection = \"newconn\"\nprotocol = \"websocket\"\ntls = \"1.3\"\n\
                        arrival = \"closed\"\nconnections = 1\nrequest_bytes = 0\nresponse_bytes = 100\n\
                        timeout = \"5s\"\n\
                        [workload.kept]\nconnection = \"keepalive\"\nprotocol = \"websocket\"\ntls = \"1.2\"\n\
                        arrival = \"closed\"\nconnections = 2\nrequest_bytes = 50000\n\
                        response_bytes = 50000\ntimeout = \"5s\"\n";

#[test]
fn messages_of_websocket_are_followed_on_every_road_and_an_upgrade_is_a_stage_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for (engine, modes, routes) in [
        ("bpf", "iptables,ebpf,userspace", "nodeport-remote,loadbalancer-local"),
        ("tap", "iptables", "clusterip-local"),
    ] {
        let arguments = [
            "--engine",
            engine,
            "--mode",
            modes,
            "--cni",
            "bridge",
            "--route",
            routes,
            "--workload",
            "websocket,opened,secured,kept",
            "--duration",
            "300ms",
        ];
        let cases = cases(dir.path(), engine, MESSAGES, &arguments);
        assert_eq!(cases.len(), modes.split(',').count() * routes.split(',').count() * 4);
        for case in &cases {
            adds_up(case);
            let workload = case["workload"].as_str().unwrap();
            let (newconn, secured) = match workload {
                "websocket" => (false, false),
                "opened" => (true, false),
                "secured" => (true, true),
                _ => (false, true),
            };
            assert_eq!(stage(case, "upgrade").is_some(), newconn, "{case:#}");
            assert_eq!(case["upgrade_ns"].is_null(), !newconn, "{case:#}");
            assert_eq!(stage(case, "upload").is_some(), ["opened", "kept"].contains(&workload));
            assert_eq!(case["handshakes"].is_null(), !secured, "{case:#}");
            // Neither a mask nor a key changes how many bytes a request has.
            let exact = !newconn || !secured;
            assert_eq!(case["counts"]["bytes"].is_u64(), exact, "{case:#}");
            let p50 = |name: &str| case[name]["p50"].as_f64().unwrap_or(0.0) / 1e3;
            eprintln!(
                "{engine} {}: {:.4} joined, residual {} ns of {:.1} us, upgrade {:.1} us",
                case["id"],
                case["joined_ratio"].as_f64().unwrap(),
                case["residual_ns"]["p50"],
                p50("service_time_ns"),
                p50("upgrade_ns"),
            );
        }
    }
}

#[test]
fn proxies_of_others_pass_messages_on_and_they_are_found_by_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    for balancer in ["haproxy", "nginx", "envoy"] {
        let found = Command::new("which").arg(balancer).output().unwrap();
        if !found.status.success() {
            eprintln!("SKIP {balancer} is not here");
            continue;
        }
        let arguments = [
            "--balancer",
            balancer,
            "--proxy-protocol",
            "--mode",
            "iptables",
            "--cni",
            "bridge",
            "--route",
            "loadbalancer-local",
            "--workload",
            "websocket,opened,secured",
            "--duration",
            "300ms",
        ];
        let cases = cases(dir.path(), balancer, MESSAGES, &arguments);
        assert_eq!(cases.len(), 3);
        cases.iter().for_each(adds_up);
    }
}

#[test]
fn a_traced_message_shows_the_upgrade_before_it_and_not_as_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("p.toml");
    std::fs::write(&profile, MESSAGES).unwrap();
    for workload in ["opened", "secured"] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["trace", "--kernel", "host", "--mode", "iptables", "--services", "1", "--json"])
            .args(["--route", "nodeport-remote", "--workload", workload, "--profile"])
            .arg(&profile)
            .env("CI", "true")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let walks: Value = serde_json::from_slice(&output.stdout).unwrap();
        let steps = walks[0]["steps"].as_array().unwrap();
        let place = |name: &str| steps.iter().position(|step| step["name"] == name).unwrap();
        assert_eq!(steps[place("upgraded")]["stage"], "upgrade");
        assert!(place("connected") < place("upgraded"));
        assert!(place("upgraded") < place("request written"));
        // By the direction it goes, at the first device that sees it.
        let first = |packet: &str, leg: &str| {
            let seen =
                |s: &Value| s["packet"] == packet && s["leg"] == leg && s["place"] == "device";
            steps.iter().position(seen).unwrap_or_else(|| panic!("{packet} {leg} in {steps:#?}"))
        };
        let there = [first("upgrade", "request"), place("upgraded"), first("request", "request")];
        assert!(there.is_sorted(), "{there:?}");
        let back = [first("upgrade", "response"), place("upgraded"), first("response", "response")];
        assert!(back.is_sorted(), "{back:?}");
        if workload == "secured" {
            assert!(first("TLS", "request") < place("secured"));
            assert!(place("secured") < first("upgrade", "request"));
        }
    }
}

#[test]
fn ingress_controllers_pass_upgrades_on_and_messages_are_followed_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    for controller in ["embedded", "nginx", "haproxy"] {
        let found = Command::new("which").arg(controller).output().unwrap();
        if controller != "embedded" && !found.status.success() {
            eprintln!("SKIP {controller} is not here");
            continue;
        }
        let arguments = [
            "--ingress",
            controller,
            "--mode",
            "iptables",
            "--cni",
            "bridge",
            "--route",
            "ingress-local,ingress-endpoints-remote",
            "--workload",
            "websocket,opened,secured",
            "--duration",
            "300ms",
        ];
        let cases = cases(dir.path(), controller, MESSAGES, &arguments);
        assert_eq!(cases.len(), 2 * 3);
        for case in &cases {
            adds_up(case);
            assert!(stage(case, "ingress").is_some(), "{case:#}");
            assert_eq!(stage(case, "upgrade").is_some(), case["workload"] != "websocket");
        }
    }
}

/// Calls on connections that are kept, many at a time, and on new ones, in the clear and over TLS; and plain HTTP/2.
const CALLS: &str = "[workload.calls]\nconnection = \"newconn\"\nprotocol = \"grpc\"\narrival = \"closed\"\n\
                     connections = 1\nrequest_bytes = 20000\nresponse_bytes = 3000\ntimeout = \"5s\"\n\
                     [workload.secured]\nconnection = \"newconn\"\nprotocol = \"grpc\"\ntls = \"1.3\"\n\
                     arrival = \"closed\"\nconnections = 1\nrequest_bytes = 0\nresponse_bytes = 100\n\
                     timeout = \"5s\"\n\
                     [workload.many]\nconnection = \"keepalive\"\nprotocol = \"grpc\"\ntls = \"1.2\"\n\
                     arrival = \"closed\"\nconnections = 8\nrequest_bytes = 1000\nresponse_bytes = 50000\n\
                     timeout = \"5s\"\n\
                     [workload.plain]\nconnection = \"newconn\"\nprotocol = \"http2\"\narrival = \"closed\"\n\
                     connections = 1\nrequest_bytes = 0\nresponse_bytes = 100\ntimeout = \"5s\"\n";

#[test]
fn our_own_ingress_controller_passes_calls_on_and_they_are_followed_behind_it() {
    calls_pass("embedded");
}

#[test]
fn nginx_passes_calls_on_and_they_are_followed_behind_it() {
    calls_pass("nginx");
}

#[test]
fn haproxy_passes_calls_on_and_they_are_followed_behind_it() {
    calls_pass("haproxy");
}

fn calls_pass(controller: &str) {
    let dir = tempfile::tempdir().unwrap();
    let found = Command::new("which").arg(controller).output().unwrap();
    if controller != "embedded" && !found.status.success() {
        eprintln!("SKIP {controller} is not here");
        return;
    }
    for tls in ["edge", "reencrypt", "passthrough"] {
        // What has no TLS is the same whatever becomes of TLS.
        let workloads =
            if tls == "edge" { "grpc,calls,secured,many,plain,http2" } else { "secured,many" };
        let arguments = [
            "--ingress",
            controller,
            "--ingress-tls",
            tls,
            "--mode",
            "iptables",
            "--cni",
            "bridge",
            "--route",
            "ingress-local,ingress-endpoints-remote",
            "--workload",
            workloads,
            "--duration",
            "300ms",
        ];
        let cases = cases(dir.path(), &format!("{controller}-{tls}"), CALLS, &arguments);
        assert_eq!(cases.len(), 2 * workloads.split(',').count());
        for case in &cases {
            eprintln!(
                "{controller} {tls} {}: {:.4} of {} joined, residual {} ns of {:.1} us",
                case["id"],
                case["joined_ratio"].as_f64().unwrap(),
                case["requests"],
                case["residual_ns"]["p50"],
                case["service_time_ns"]["p50"].as_f64().unwrap() / 1e3,
            );
            adds_up(case);
            assert!(stage(case, "ingress").is_some(), "{case:#}");
        }
    }
}
