// SPDX-License-Identifier: Apache-2.0
//! Ring 1: compare, gate and baseline on the fake lab, with their exit codes.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn xtask(arguments: &[&str]) -> Output {
    xtask_in(arguments, Path::new("/nonexistent"))
}

fn xtask_in(arguments: &[&str], cache: &Path) -> Output {
    Command::cargo_bin("xtask")
        .unwrap()
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("XDG_CACHE_HOME", cache)
        .timeout(std::time::Duration::from_secs(120))
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A profile on which the fake machine takes `per_service` for each Service under iptables.
fn profile(dir: &Path, name: &str, per_service: &str) -> String {
    let path = dir.join(name);
    let text = format!(
        "name = \"gate\"\n[matrix]\nmode = [\"none\", \"iptables\"]\nservices = [1000]\n\
         route = [\"nodeport-remote\"]\nworkload = [\"newconn\"]\n[run]\nblocks = 12\n\
         unprobed = false\n[fake]\nper_service = \"{per_service}\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn bench(dir: &Path, run: &str, profile: &str, more: &[&str]) -> String {
    let out = dir.join(run).to_str().unwrap().to_owned();
    let mut arguments = vec!["bench", "--lab", "fake", "--profile", profile, "--out", &out];
    arguments.extend(more);
    let output = xtask(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    out
}

#[test]
fn modes_of_one_run_are_compared_until_nothing_is_undecided() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path(), "p.toml", "100ns");
    let out = dir.path().join("run");
    let output = xtask(&[
        "compare",
        "--lab",
        "fake",
        "--profile",
        &profile,
        "--budget",
        "1m",
        "--a-a",
        "--json",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let judged: Value = serde_json::from_slice(&output.stdout).unwrap();
    let comparisons = judged["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 2, "itself again, and the other mode");
    let word = |comparison: &Value, name: &str| {
        let rows = comparison["rows"].as_array().unwrap();
        rows.iter().find(|row| row["metric"] == name).unwrap()["word"].clone()
    };
    for name in ["latency p50", "throughput", "rules walked", "errors"] {
        assert_eq!(word(&comparisons[0], name), "same", "{name}");
    }
    assert_eq!(word(&comparisons[1], "latency p50"), "slower");
    assert_eq!(word(&comparisons[1], "rules walked"), "more");
    // Fake blocks take no time: a minute's would be thousands.
    let blocks = comparisons[0]["blocks"][0].as_u64().unwrap();
    assert!(blocks < 200, "{blocks} blocks for what sixteen decide");
    assert!(out.join("report.html").is_file());
}

#[test]
fn a_baseline_gates_counts_and_leaves_times_of_another_run_unjudged() {
    let dir = tempfile::tempdir().unwrap();
    let plain = profile(dir.path(), "p.toml", "13ns");
    let baseline = dir.path().join("kept").to_str().unwrap().to_owned();
    let run = dir.path().join("base").to_str().unwrap().to_owned();
    let made = xtask(&["baseline", &baseline, "--lab", "fake", "--profile", &plain, "--out", &run]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));

    // The same again, measured now with the baseline's own profile.
    let again = dir.path().join("again").to_str().unwrap().to_owned();
    let files = ["junit.xml", "bench.txt", "bmf.json", "om.txt", "gate.md"]
        .map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let [junit, go, bmf, om, markdown] = &files;
    let output = xtask(&[
        "gate",
        "--baseline",
        &baseline,
        "--lab",
        "fake",
        "--out",
        &again,
        "--junit",
        junit,
        "--gobench",
        go,
        "--bencher",
        bmf,
        "--openmetrics",
        om,
        "--markdown",
        markdown,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("not judged"), "{}", stdout(&output));
    for file in &files {
        assert!(std::fs::metadata(file).unwrap().len() > 0, "{file}");
    }

    // A run whose rules grew, by hand: the count gates, exactly.
    let summary = Path::new(&again).join("summary.json");
    let text = std::fs::read_to_string(&summary).unwrap();
    let mut edited: Value = serde_json::from_str(&text).unwrap();
    for block in edited["cases"][1]["blocks"].as_array_mut().unwrap() {
        let rules = block["counts"]["rules_walked"].as_u64().unwrap();
        block["counts"]["rules_walked"] = (rules + 1).into();
    }
    std::fs::write(&summary, edited.to_string()).unwrap();
    let output = xtask(&["gate", &again, "--baseline", &baseline, "--github"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("::error title="), "{}", stdout(&output));
    assert!(stderr(&output).contains("1 regressions"), "{}", stderr(&output));
}

#[test]
fn records_that_cannot_be_compared_are_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let plain = profile(dir.path(), "p.toml", "13ns");
    let a = bench(dir.path(), "a", &plain, &[]);
    let fewer = bench(dir.path(), "b", &plain, &["--mode", "iptables"]);
    let refused = |b: &str, words: &str| {
        let output = xtask(&["compare", &a, b]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(output.stdout.is_empty(), "no part of a verdict");
    };
    refused(&fewer, "different cases: 1 of A only");

    let changed = |name: &str, file: &str, change: &dyn Fn(String) -> String| {
        let copy = bench(dir.path(), name, &plain, &[]);
        let path = Path::new(&copy).join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
        copy
    };
    let version =
        |text: String| text.replacen("\"schema_version\": 1", "\"schema_version\": 99", 1);
    refused(&changed("newer", "summary.json", &version), "99");
    let half = |text: String| text[..text.len() / 2].to_owned();
    refused(&changed("half", "summary.json", &half), "summary.json");
    let word =
        |text: String| text.replacen("\"requests\": ", "\"requests\": \"many\", \"was\": ", 1);
    refused(&changed("edited", "summary.json", &word), "requests");
    let kernel = |text: String| {
        let mut manifest: Value = serde_json::from_str(&text).unwrap();
        manifest["host"]["kernel_release"] = "2.6.32".into();
        manifest.to_string()
    };
    refused(&changed("elsewhere", "manifest.json", &kernel), "different kernels");
}

#[test]
fn two_cases_of_one_run_are_compared_by_their_folders() {
    let dir = tempfile::tempdir().unwrap();
    let plain = profile(dir.path(), "p.toml", "100ns");
    let run = bench(dir.path(), "a", &plain, &["--iterations", "2"]);
    let case =
        |mode: &str| format!("{run}/cases/fake/{mode}+bridge/nodeport-remote/svc-1000/newconn");
    let output = xtask(&["compare", &case("none"), &case("iptables")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("side by side") && !said.contains("not side by side"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("rules walked") && line.ends_with("more")));
}

#[test]
fn revisions_take_turns_and_each_run_is_a_replicate() {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let commit = git(&["rev-parse", "HEAD"]);
    let dir = tempfile::tempdir().unwrap();
    // What an earlier comparison of this revision would have left: it is not built again.
    let kept = dir.path().join("nic2pod/builds").join(format!("{}-dev", &commit[..12]));
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_xtask"), kept.join("xtask")).unwrap();
    let plain = profile(dir.path(), "p.toml", "13ns");
    let output = xtask_in(
        &[
            "gate",
            "--rev",
            "HEAD",
            "--rev",
            "HEAD",
            "--cargo-profile",
            "dev",
            "--lab",
            "fake",
            "--profile",
            &plain,
            "--mode",
            "iptables",
            "--budget",
            "20s",
            "--json",
        ],
        dir.path(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let judged: Value = serde_json::from_slice(&output.stdout).unwrap();
    let comparison = &judged["comparisons"][0];
    assert!(comparison["blocks"][0].as_u64().unwrap() >= 2);
    assert_eq!(comparison["not_judged"], Value::Null);
    let rows = comparison["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["word"] == "same" || row["word"] == "undecided"), "{rows:?}");
    let unknown = xtask(&["compare", "--rev", "HEAD", "--rev", "no-such-revision"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
}

#[test]
fn the_gate_tries_itself_out() {
    let dir = tempfile::tempdir().unwrap();
    let plain = profile(dir.path(), "p.toml", "13ns");
    let out = dir.path().join("run");
    let output = xtask(&[
        "gate",
        "--self-test",
        "--lab",
        "fake",
        "--profile",
        &plain,
        "--budget",
        "2s",
        "--runs",
        "40",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    // Without noise there is no doubt: nothing is injected and nothing found, ten percent always is.
    let line = |percent: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(percent));
        line.unwrap_or_else(|| panic!("no line {percent}: {said}")).to_owned()
    };
    assert!(line("0 %").contains("0.0 % false alarms"), "{said}");
    assert!(line("10 %").contains("+10.0 %") && line("10 %").contains("100.0 % caught"), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        &["compare", "--lab", "fake", "--mode", "none"][..],
        &["compare", "--lab", "fake", "--alpha", "0"],
        &["compare", "--lab", "fake", "--minimum-effect", "2"],
        &["compare", "only-one"],
        &["gate", "--rev", "HEAD"],
        &["compare", "--rev", "HEAD", "--rev", "HEAD", "--lab", "kubeconfig"],
        &["compare", "--rev", "HEAD", "--rev", "HEAD", "--out", "somewhere"],
        &["gate", "--baseline", "no-such-baseline"],
    ] {
        let output = xtask(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}
