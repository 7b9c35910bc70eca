// SPDX-License-Identifier: Apache-2.0
//! Ring 1: the command line on the fake lab, with every exit code that needs no host.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn xtask(arguments: &[&str]) -> Output {
    Command::cargo_bin("xtask")
        .unwrap()
        .args(arguments)
        .env("NO_COLOR", "1")
        .timeout(std::time::Duration::from_secs(60))
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fake(dir: &Path, more: &[&str]) -> Output {
    let out = dir.join("run");
    let mut arguments = vec!["bench", "--lab", "fake", "--out", out.to_str().unwrap()];
    arguments.extend(more);
    xtask(&arguments)
}

#[test]
fn bench_leaves_a_whole_run_folder_and_prints_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let output = fake(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = dir.path().join("run");
    for file in ["manifest.json", "summary.json", "events.jsonl", "report.html", "report.md"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let pngs = run
        .read_dir()
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "png"));
    assert!(pngs.count() > 0);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("iptables") && table.contains("skipped"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colour in a pipe");
    let events = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
    assert!(events.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn json_is_the_summary_and_nothing_else_on_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let output = fake(dir.path(), &["--mode", "none,iptables", "--services", "1,1000", "--json"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["schema_version"], 1);
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2 * 2 * 2 * 2);
    for key in [
        "id",
        "lab",
        "kernel",
        "mode",
        "cni",
        "route",
        "services",
        "workload",
        "status",
        "reason",
        "proof",
        "requests",
        "errors",
        "throughput_rps",
        "latency_ns",
        "service_time_ns",
        "connect_ns",
        "first_packet_ns",
        "stages",
        "residual_ns",
        "joined_ratio",
        "probe",
        "lab_up_ms",
        "install_ms",
        "down_ms",
    ] {
        assert!(cases[0].get(key).is_some(), "{key}");
    }
}

#[test]
fn the_walks_of_the_slowest_requests_are_kept_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let narrow = ["--mode", "iptables", "--services", "1000", "--workload", "newconn"];
    let output = fake(dir.path(), &[&narrow[..], &["--trace-slowest", "2"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = dir.path().join("run");
    let case = run.join("cases/fake/iptables+bridge/nodeport-remote/svc-1000/newconn");
    let walks: Value =
        serde_json::from_slice(&std::fs::read(case.join("walks.json")).unwrap()).unwrap();
    assert_eq!(walks.as_array().map(Vec::len), Some(2));
    assert_eq!(walks[0]["kept"], "slowest");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("The slowest requests") && page.contains("KUBE-SERVICES rule 1,001"));

    let output = xtask(&["bench", "--lab", "fake", "--trace-slowest", "101"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("run.trace_slowest: 101 is not between 0 and 100"));
}

#[test]
fn trace_prints_the_walk_and_writes_the_files_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (perfetto, html) = (file("t.json"), file("t.html"));
    let output = xtask(&[
        "trace",
        "--lab",
        "fake",
        "--mode",
        "iptables",
        "--cni",
        "vxlan",
        "--services",
        "1000",
        "--perfetto",
        &perfetto,
        "--html",
        &html,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let parts = ["There: opening", "Back: answer", "There: request", "Back: response"];
    let places: Vec<_> = parts.iter().map(|part| text.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("172.18.0.11:30080 -> 10.244.1.2:8080"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour in a pipe");
    assert_eq!(stderr(&output), format!("wrote {perfetto}\nwrote {html}\n"));
    let trace: Value = serde_json::from_slice(&std::fs::read(&perfetto).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.len() > 20));
    assert!(std::fs::read_to_string(&html).unwrap().starts_with("<!DOCTYPE html>"));
}

#[test]
fn trace_goes_through_every_mode_it_can_and_says_which_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let arguments = ["trace", "--lab", "fake", "--mode", "none,ipvs,nftables", "--json", "--out"];
    let output = xtask(&[&arguments[..], &[out.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("skipped ipvs: needs mode ipvs;"), "{}", stderr(&output));
    let walks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases: Vec<_> = walks.as_array().unwrap().iter().map(|w| w["case"].as_str()).collect();
    assert_eq!(
        cases,
        [
            Some("fake/none+bridge/nodeport-remote/svc-1/newconn"),
            Some("fake/nftables+bridge/nodeport-remote/svc-1/newconn"),
        ]
    );
    for file in ["walks.json", "trace.txt", "trace.json", "trace.html"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    // The same array in the file as on standard output.
    assert_eq!(std::fs::read(out.join("walks.json")).unwrap(), output.stdout);
}

#[test]
fn a_trace_that_cannot_be_had_ends_with_4_and_a_wrong_flag_with_2() {
    let output = xtask(&["trace", "--lab", "fake", "--mode", "ipvs", "--json"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(output.stdout, b"[]\n");
    for (flag, value, words) in [
        ("--mode", "ebtables", "`ebtables` is not one of none, userspace"),
        ("--route", "motorway", "`motorway` is not a route"),
        ("--services", "0", "matrix.services: 0 is not between 1 and 60000"),
        ("--workload", "nap", "matrix.workload: `nap` is not one of"),
    ] {
        let output = xtask(&["trace", "--lab", "fake", flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag} {value}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{flag} {value}: {}", stderr(&output));
    }
}

#[test]
fn the_same_seed_gives_the_same_record() {
    let summary = || {
        let dir = tempfile::tempdir().unwrap();
        let output = fake(dir.path(), &["--seed", "7", "--json"]);
        let mut summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        summary["run_id"] = Value::Null;
        summary
    };
    assert_eq!(summary(), summary());
}

#[test]
fn nothing_runnable_ends_with_4_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let output = fake(dir.path(), &["--mode", "ipvs"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("fake.unavailable names it"), "{}", stderr(&output));
}

#[test]
fn a_flag_or_profile_that_cannot_be_used_ends_with_2_and_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("mine.toml");
    std::fs::write(&profile, "[run]\nduraton = \"2s\"\n").unwrap();
    let profile = profile.to_str().unwrap();
    for (arguments, words) in [
        (vec!["--mode", "ebtables"], "`ebtables` is not one of none, userspace"),
        (vec!["--route", "motorway"], "`motorway` is not a route"),
        (vec!["--duration", "2"], "`2` is not a time"),
        (vec!["--services", "0"], "matrix.services: 0 is not between 1 and 60000"),
        (vec!["--workload", "nap"], "matrix.workload: `nap` is not one of"),
        (vec!["--profile", profile], "mine.toml:2: run.duraton: unknown field `duraton`"),
        (vec!["--profile", "/nowhere.toml"], "failed to read profile /nowhere.toml"),
    ] {
        let output = fake(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_run_folder_is_never_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), &[]);
    let again = fake(dir.path(), &[]);
    assert_ne!(again.status.code(), Some(0));
    assert!(stderr(&again).contains("events.jsonl"), "{}", stderr(&again));
}

#[test]
fn report_draws_an_old_run_again_and_refuses_what_is_none() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), &[]);
    let run = dir.path().join("run");
    let html = std::fs::read(run.join("report.html")).unwrap();
    std::fs::remove_file(run.join("report.html")).unwrap();
    assert_eq!(xtask(&["report", run.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(std::fs::read(run.join("report.html")).unwrap(), html);

    let summary = run.join("summary.json");
    let text = std::fs::read_to_string(&summary).unwrap();
    for (edited, words) in [
        (
            text.replace("\"schema_version\": 1", "\"schema_version\": 99"),
            "reads up to 1; use a newer one",
        ),
        (text[..text.len() / 2].to_owned(), "failed to read"),
        (text.replacen("\"requests\": 3000", "\"requests\": \"many\"", 1), "cases[0].requests"),
    ] {
        std::fs::write(&summary, edited).unwrap();
        let output = xtask(&["report", run.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    assert_eq!(xtask(&["report", "/nowhere"]).status.code(), Some(2));
}

#[test]
fn help_names_every_flag_and_exit_code() {
    let help = String::from_utf8(xtask(&["bench", "--help"]).stdout).unwrap();
    for flag in [
        "--profile",
        "--mode",
        "--cni",
        "--route",
        "--services",
        "--workload",
        "--duration",
        "--iterations",
        "--engine",
        "--out",
        "--json",
        "--yes",
        "--pcap",
        "--seed",
        "--trace-slowest",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    let codes = String::from_utf8(xtask(&["--help"]).stdout).unwrap();
    assert!(["2 ", "4 ", "69 ", "130 "].iter().all(|code| codes.contains(code)), "{codes}");
}

#[test]
fn profiles_are_listed_with_their_question_and_time_and_shown_whole() {
    let list = xtask(&["profiles", "ls"]);
    assert_eq!(list.status.code(), Some(0), "{}", stderr(&list));
    let list = String::from_utf8(list.stdout).unwrap();
    let names =
        ["default", "smoke", "proxy-modes", "cni", "service-scale", "tail", "connections", "gate"];
    for name in names {
        assert!(
            list.lines().any(|line| line.starts_with(name) && line.ends_with('?')),
            "{name}: {list}"
        );
    }
    assert!(list.contains("80 cases, 10 min of load at most"), "{list}");
    let shown = xtask(&["profiles", "show", "service-scale"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("30000"), "{shown}");
    assert!(shown.starts_with("# service-scale: What does each further Service cost"), "{shown}");
    // What is shown is a profile itself.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("again.toml");
    std::fs::write(&file, &shown).unwrap();
    let again = xtask(&["profiles", "show", file.to_str().unwrap()]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), shown);
    assert_eq!(xtask(&["profiles", "show", "nonesuch"]).status.code(), Some(2));
}

#[test]
fn a_profile_by_name_asks_its_question_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let output = fake(dir.path(), &["--profile", "smoke"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for file in ["report.html", "report.md"] {
        let text = std::fs::read_to_string(dir.path().join("run").join(file)).unwrap();
        assert!(text.contains("Does the lab work on this machine"), "{file}");
        assert!(
            text.contains("an order of magnitude and no difference between two modes"),
            "{file}"
        );
    }
}

#[test]
fn a_history_is_drawn_from_a_folder_of_runs_and_an_empty_one_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(fake(dir.path(), &["--profile", "smoke"]).status.code(), Some(0));
    std::fs::create_dir(dir.path().join("cut")).unwrap();
    std::fs::write(dir.path().join("cut/summary.json"), "{").unwrap();
    let folder = dir.path().to_str().unwrap();
    let output = xtask(&["report", "--history", folder]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 of the folders could not be read"), "{}", stderr(&output));
    let page = std::fs::read_to_string(dir.path().join("history.html")).unwrap();
    assert!(page.contains("No level changed in 1 run. 1 run could not be read"), "{page}");
    let empty = tempfile::tempdir().unwrap();
    let output = xtask(&["report", "--history", empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(xtask(&["report", "--history", folder, folder]).status.code(), Some(2));
    assert_eq!(xtask(&["report"]).status.code(), Some(2));
}
