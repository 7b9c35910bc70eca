// SPDX-License-Identifier: Apache-2.0
//! Ring 2: `bench --cni exec:FILE` with Debian's plugins and with ones that fail, end to end.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/cni").join(name)
}

fn exec(path: &Path) -> String {
    format!("exec:{}", path.display())
}

/// A short run of one workload.
fn bench(out: &Path, cni: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["bench", "--kernel", "host", "--json", "--out"]).arg(out).args(["--cni", cni]);
    command.args(["--services", "10", "--workload", "newconn"]);
    command.args(["--duration", "300ms", "--iterations", "1"]).args(arguments).env("CI", "true");
    command
}

fn cases(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    let summary: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    summary["cases"].as_array().unwrap().clone()
}

/// Whether a case was skipped because this machine has no reference plugins; loudly.
fn lacks_plugins(case: &Value) -> bool {
    let lacks = case["reason"]["need"].to_string().contains("the CNI plugin");
    if lacks {
        eprintln!("SKIP {}", case["reason"]);
    }
    lacks
}

/// Stages of a case, each once, in order.
fn stages(case: &Value) -> Vec<String> {
    let all = case["stages"].as_array().unwrap();
    all.iter().map(|stage| format!("{} {}", stage["leg"], stage["name"])).collect()
}

#[test]
fn the_reference_bridge_has_the_stages_of_our_own_and_joins_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let list = example("bridge.conflist");
    let cnis = format!("bridge,{}", exec(&list));
    let routes = "nodeport-remote,nodeport-local,clusterip-local";
    let modes = "none,userspace,iptables,nftables,ebpf";
    let output = bench(&out, &cnis, &["--mode", modes, "--route", routes]).output().unwrap();
    let cases = cases(&output);
    assert_eq!(cases.len(), 2 * 3 * 5);
    let (own, theirs): (Vec<&Value>, Vec<&Value>) =
        cases.iter().partition(|case| case["cni"] == "bridge");
    if lacks_plugins(theirs[0]) {
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for (own, case) in own.into_iter().zip(theirs) {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!((&case["errors"], &case["cni"]), (&0.into(), &"exec-bridge".into()), "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
        assert_eq!(stages(case), stages(own), "{}", case["id"]);
        let evidence = case["proof"]["evidence"].to_string();
        for said in [
            "cni exec-bridge is a list of bridge with sha256 ",
            "plugin host-local is /",
            "CHECK of 4 pods",
        ] {
            assert!(evidence.contains(said), "{said} in {evidence}");
        }
    }
    let id = "netns/nftables+exec-bridge/nodeport-remote/svc-10/newconn";
    let kept = fs::read_to_string(out.join("cases").join(id).join("cni.conflist")).unwrap();
    assert_eq!(kept, fs::read_to_string(&list).unwrap());
}

#[test]
fn ptp_and_chained_plugins_carry_what_they_are_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let cnis =
        [example("ptp.conflist"), example("chained.conflist")].map(|path| exec(&path)).join(",");
    let modes = "none,iptables,nftables";
    let routes = "nodeport-remote,clusterip-local";
    let output = bench(&out, &cnis, &["--mode", modes, "--route", routes]).output().unwrap();
    let cases = cases(&output);
    assert_eq!(cases.len(), 2 * 2 * 3);
    if cases.iter().any(lacks_plugins) {
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for case in cases {
        // Its mappings of host ports are rules like a proxy mode's.
        if (&case["mode"], &case["cni"]) == (&"none".into(), &"exec-chained".into()) {
            assert_eq!(case["status"], "skipped", "{case:#}");
            assert!(case["reason"]["found"].to_string().contains("portmap"), "{case:#}");
            continue;
        }
        assert_eq!((&case["status"], &case["errors"]), (&"measured".into(), &0.into()), "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
        assert!(stages(&case).iter().any(|stage| stage.contains("\"proxy\"")), "{case:#}");
    }
}

/// The same cases are carried and refused, by the same stages, whoever makes the slaves.
#[test]
fn macvlan_measures_what_it_can_carry_and_refuses_the_rest_by_whichever_hand() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let cnis = format!("macvlan,{}", exec(&example("macvlan.conflist")));
    let routes = "direct-local,clusterip-local,clusterip-remote,nodeport-remote";
    let modes = "none,userspace,iptables,nftables,ebpf";
    let output = bench(&out, &cnis, &["--mode", modes, "--route", routes]).output().unwrap();
    let cases = cases(&output);
    assert_eq!(cases.len(), 2 * 4 * 5);
    let (own, theirs): (Vec<&Value>, Vec<&Value>) =
        cases.iter().partition(|case| case["cni"] == "macvlan");
    if own.iter().all(|case| case["reason"]["need"].to_string().contains("CONFIG_MACVLAN")) {
        eprintln!("SKIP {}", own[0]["reason"]);
        return;
    }
    for case in &own {
        let neighbours = case["route"] == "clusterip-local";
        let translated = case["mode"] == "iptables" || case["mode"] == "nftables";
        if case["mode"] == "ebpf" || translated && neighbours {
            assert_eq!(case["status"], "skipped", "{case:#}");
            assert!(case["reason"]["found"].to_string().contains("macvlan"), "{case:#}");
            continue;
        }
        assert_eq!((&case["status"], &case["errors"]), (&"measured".into(), &0.into()), "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
        // Only between two pods of a node nothing enters it.
        let at_hooks = stages(case).iter().any(|stage| stage.contains("proxy"));
        assert_eq!(at_hooks, case["mode"] != "none" || !neighbours, "{case:#}");
    }
    if theirs.iter().any(|case| lacks_plugins(case)) {
        return;
    }
    for (own, case) in own.into_iter().zip(theirs) {
        assert_eq!(
            (&case["status"], &case["reason"]),
            (&own["status"], &own["reason"]),
            "{case:#}"
        );
        assert_eq!((&case["errors"], stages(case)), (&0.into(), stages(own)), "{case:#}");
    }
}

#[test]
fn a_record_makes_its_plan_again_without_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("a.conflist");
    fs::copy(example("ptp.conflist"), &list).unwrap();
    let out = dir.path().join("run");
    let arguments = ["--mode", "none", "--route", "nodeport-local"];
    let output = bench(&out, &exec(&list), &arguments).output().unwrap();
    let before = cases(&output);
    fs::remove_file(&list).unwrap();
    let manifest = fs::read_to_string(out.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let profile = dir.path().join("again.toml");
    fs::write(&profile, manifest["profile"].as_str().unwrap()).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--json", "--profile"])
        .arg(&profile)
        .arg("--out")
        .arg(dir.path().join("again"))
        .output()
        .unwrap();
    let ids = |cases: &[Value]| -> Vec<String> {
        cases.iter().map(|case| case["id"].to_string()).collect()
    };
    assert_eq!(ids(&cases(&again)), ids(&before));
}

/// A plugin that speaks every version and then does as the script says, and a list of it.
fn plugin(dir: &Path, does: &str) -> PathBuf {
    let path = dir.join("mock");
    let text = format!(
        "#!/bin/sh\ncase $CNI_COMMAND in\n\
         VERSION) echo '{{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"1.0.0\"]}}';;\n\
         ADD) {does};;\nesac\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    list(dir, "mock")
}

fn list(dir: &Path, plugin: &str) -> PathBuf {
    let path = dir.join("mine.conflist");
    let text = format!(
        r#"{{"cniVersion": "1.0.0", "name": "mine", "plugins": [{{"type": "{plugin}"}}]}}"#
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_plugin_that_fails_fails_its_case_with_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let does =
        "echo '{\"code\": 11, \"msg\": \"try again\", \"details\": \"the moon is full\"}'; exit 1";
    let list = plugin(dir.path(), does);
    let out = dir.path().join("run");
    let output = bench(&out, &exec(&list), &["--mode", "nftables", "--route", "nodeport-local"])
        .env("CNI_PATH", dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let case = &cases(&output)[0];
    assert_eq!(case["id"], "netns/nftables+exec-mine/nodeport-local/svc-10/newconn");
    assert_eq!(
        case["failure"]["message"],
        "plugin mock failed at ADD of pod1-1: code 11: try again (the moon is full)"
    );
}

#[test]
fn a_plugin_that_does_not_exist_is_a_skip_that_names_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path(), "no-such-plugin");
    let out = dir.path().join("run");
    let arguments = ["--mode", "none,nftables", "--route", "nodeport-local"];
    let output = bench(&out, &exec(&list), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    for case in cases(&output) {
        assert_eq!(case["reason"]["need"], "the CNI plugin no-such-plugin", "{case:#}");
        assert!(
            case["reason"]["try"].to_string().contains("containernetworking-plugins"),
            "{case:#}"
        );
    }
}

#[test]
fn a_file_that_is_no_list_is_a_matter_of_usage() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one.conflist"), dir.path().join("other.conflist"));
    fs::write(&one, "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"bridge\"}").unwrap();
    fs::copy(example("ptp.conflist"), &other).unwrap();
    let twin = dir.path().join("twin.conflist");
    fs::copy(&other, &twin).unwrap();
    for (cni, said) in [
        (exec(&one), "one.conflist: it has no `plugins`"),
        (exec(&dir.path().join("none")), "none: No such file"),
        (format!("{},{}", exec(&other), exec(&twin)), "two lists have the name `ptp`"),
        ("exec:".to_owned(), "names no file behind the colon"),
    ] {
        let output = bench(&dir.path().join("run"), &cni, &[]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(said), "{said} in {stderr}");
    }
}
