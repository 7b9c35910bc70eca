// SPDX-License-Identifier: Apache-2.0
//! Ring 3: `bench` and `trace` in guests of User-Mode Linux, a kernel with ip_vs that runs as a
//! process. The kernel is the file that NIC2POD_UML names.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The kernel as `--kernel` names it.
fn kernel() -> Option<String> {
    let path = std::env::var("NIC2POD_UML").ok();
    if path.is_none() {
        eprintln!("SKIP NIC2POD_UML names no kernel");
    }
    path.map(|path| format!("uml:{path}"))
}

fn xtask(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env("CI", "true").env("XDG_CACHE_HOME", cache).stdin(Stdio::null());
    command
}

const SHORT: [&str; 12] = [
    "--cni",
    "bridge",
    "--route",
    "nodeport-remote",
    "--services",
    "10",
    "--workload",
    "newconn",
    "--iterations",
    "2",
    "--duration",
    "200ms",
];

/// Runs a few short cases.
fn bench(dir: &Path, arguments: &[&str]) -> Output {
    let out = dir.join("run");
    let mut command = xtask(&dir.join("cache"));
    command.args(["bench", "--out"]).arg(out).args(SHORT).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn cases(dir: &Path) -> Vec<Value> {
    json(&dir.join("run/summary.json"))["cases"].as_array().unwrap().clone()
}

fn assert_measured(case: &Value) {
    assert_eq!(case["status"], "measured", "{case:#}");
    assert_eq!(case["errors"], 0, "{case:#}");
    assert!(case["requests"].as_u64().unwrap() > 0, "{case:#}");
    assert!(case["joined_ratio"].as_f64().unwrap() >= 0.999, "{case:#}");
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn every_mode_is_measured_in_a_guest_and_the_record_says_on_which_kernel() {
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let modes = ["--mode", "none,userspace,iptables,ipvs,nftables,ebpf"];
    let routes = ["--route", "nodeport-remote,clusterip-local"];
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--kernel", &kernel, "--out"])
        .arg(dir.path().join("run"))
        .args(modes)
        .args(routes)
        .args(["--cni", "bridge", "--services", "100", "--workload", "newconn,keepalive"])
        .args(["--iterations", "1", "--duration", "300ms"])
        .env("CI", "true")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cases = cases(dir.path());
    assert_eq!(cases.len(), 6 * 2 * 2);
    let manifest = json(&dir.path().join("run/manifest.json"));
    let facts = &manifest["kernels"][0];
    let label = facts["label"].as_str().unwrap();
    assert!(label.starts_with("uml-"), "{label}");
    assert_eq!(facts["host"]["kernel_release"], facts["release"]);
    assert!(facts["boot_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(facts["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(facts["config_sha256"].as_str().unwrap().len(), 64);
    for case in &cases {
        assert_measured(case);
        assert_eq!(case["kernel"], label);
        assert_eq!(case["fidelity"], "relative");
        assert!(case["id"].as_str().unwrap().starts_with(&format!("netns+{label}/")));
    }
    let ipvs: Vec<_> = cases.iter().filter(|case| case["mode"] == "ipvs").collect();
    assert_eq!(ipvs.len(), 4);
    for case in ipvs {
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("ip_vs has the connection"), "{evidence}");
    }
    let page = fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(page.contains(label), "the report does not say which kernel");
}

#[test]
fn auto_takes_an_installed_kernel_for_all_cases_where_the_host_lacks_a_mode() {
    let Some(kernel) = kernel() else { return };
    if Path::new("/proc/net/ip_vs").exists() {
        eprintln!("SKIP this host has ip_vs");
        return;
    }
    let dir = scratch();
    let file = kernel.strip_prefix("uml:").unwrap();
    let cache = dir.path().join("cache");
    let used = xtask(&cache).args(["lab", "kernel", "use", file]).output().unwrap();
    assert_eq!(used.status.code(), Some(0), "{}", stderr(&used));
    let output = bench(dir.path(), &["--mode", "none,ipvs"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let loud = stderr(&output);
    assert!(loud.contains("all cases run on kernel uml-"), "{loud}");
    let both = cases(dir.path());
    assert_eq!(both.len(), 2);
    for case in &both {
        assert_measured(case);
        assert!(case["kernel"].as_str().unwrap().starts_with("uml-"), "{case:#}");
    }
    // Where the host has all that is asked for, it is the host.
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    let output = bench(dir.path(), &["--mode", "none"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(cases(dir.path())[0]["kernel"], "host");
}

#[test]
fn kernels_that_are_compared_take_turns() {
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let copy = dir.path().join("other-linux");
    fs::copy(kernel.strip_prefix("uml:").unwrap(), &copy).unwrap();
    // One byte more: another kernel file of the same release.
    let mut bytes = fs::read(&copy).unwrap();
    bytes.push(0);
    fs::write(&copy, bytes).unwrap();
    let both = format!("{kernel},uml:{}", copy.display());
    let output = bench(dir.path(), &["--kernel", &both, "--mode", "none,nftables"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cases = cases(dir.path());
    assert_eq!(cases.len(), 4);
    let mut labels: Vec<_> = cases.iter().map(|case| case["kernel"].as_str().unwrap()).collect();
    labels.dedup();
    assert_eq!(labels.len(), 2, "{labels:?}");
    assert!(labels[1].starts_with(labels[0]), "{labels:?}");
    let turns = |case: &Value| {
        let iterations = case["iterations"].as_array().unwrap();
        iterations.iter().map(|i| i["sequence"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let turns: Vec<_> = cases.iter().map(turns).collect();
    assert_eq!(turns, [[0, 7], [1, 6], [2, 5], [3, 4]], "A B C D, D C B A");
    cases.iter().for_each(assert_measured);
}

#[test]
fn an_ordinary_user_measures_ipvs_without_any_right() {
    let Some(kernel) = kernel() else { return };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP only root can become another user");
        return;
    }
    // A folder of its own that the other user can read whatever the way to this one is.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let copy = |from: &Path, name: &str| -> PathBuf {
        let to = dir.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    };
    let program = copy(Path::new(env!("CARGO_BIN_EXE_xtask")), "xtask");
    let linux = copy(Path::new(kernel.strip_prefix("uml:").unwrap()), "linux");
    nix::unistd::chown(dir.path(), Some(65534.into()), Some(65534.into())).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&program)
        .args(["bench", "--mode", "none,ipvs", "--kernel", &format!("uml:{}", linux.display())])
        .args(SHORT)
        .arg("--out")
        .arg(dir.path().join("run"))
        .current_dir("/")
        .env("PATH", "/usr/bin:/bin")
        .env("CI", "true")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cases = cases(dir.path());
    assert_eq!(cases.len(), 2);
    cases.iter().for_each(assert_measured);
}

#[test]
fn a_kernel_that_cannot_be_had_is_one_sentence_and_exit_69() {
    let dir = scratch();
    for (choice, words) in [
        ("uml", "needs a User-Mode Linux kernel"),
        ("uml:no-such-name", "no kernel is called `no-such-name`"),
        ("uml:/bin/true", "no User-Mode Linux kernel"),
        ("uml:/no/such/file", "failed to find /no/such/file"),
    ] {
        let output = bench(dir.path(), &["--kernel", choice, "--mode", "none"]);
        assert_eq!(output.status.code(), Some(69), "{choice}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{choice}: {}", stderr(&output));
        assert!(!dir.path().join("run").exists(), "{choice} left a run");
    }
    for choice in ["xen", "auto,host", "uml:"] {
        let output = bench(dir.path(), &["--kernel", choice, "--mode", "none"]);
        assert_eq!(output.status.code(), Some(2), "{choice}: {}", stderr(&output));
    }
}

#[test]
fn a_guest_with_more_memory_than_the_tmpfs_has_is_refused_before_it_boots() {
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let profile = dir.path().join("large.toml");
    fs::write(&profile, "[lab]\nguest_memory_mib = 65536\n").unwrap();
    let profile = profile.to_str().unwrap();
    let output = bench(dir.path(), &["--kernel", &kernel, "--mode", "none", "--profile", profile]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("a tmpfs with room for the guest's 65536 MiB"));
    assert_eq!(cases(dir.path())[0]["status"], "skipped");
}

#[test]
fn a_request_through_ipvs_is_told_from_inside_a_guest() {
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let output = xtask(dir.path())
        .args(["trace", "--kernel", &kernel, "--mode", "ipvs", "--json", "--services", "10"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let walks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let walk = &walks[0];
    assert!(walk["case"].as_str().unwrap().starts_with("netns+uml-"), "{}", walk["case"]);
    let steps = walk["steps"].as_array().unwrap();
    let on_node = |name: &str| {
        let here = |step: &&Value| step["host"] == "node1" && step["leg"] == "request";
        let names = |step: &Value| step["name"].as_str().unwrap().contains(name);
        steps.iter().filter(here).any(names)
    };
    // To ip_vs the packet goes up, and from it down again.
    assert!(on_node("INPUT") && on_node("OUTPUT") && !on_node("FORWARD"), "{steps:#?}");
    let rules = walk["steps"].to_string();
    assert!(rules.contains("KUBE-"), "no rule of the mode's is told: {rules}");
}

#[test]
fn programs_that_are_interpreted_follow_connections_of_ipv6_as_well() {
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let output = xtask(&dir.path().join("cache"))
        .args(["bench", "--kernel", &kernel, "--mode", "nftables", "--ip", "ipv4,ipv6"])
        .args(["--cni", "vxlan", "--services", "10", "--workload", "newconn"])
        .args(["--balancer", "ipvs", "--route", "nodeport-remote,loadbalancer-remote"])
        .args(["--duration", "200ms", "--iterations", "1", "--out"])
        .arg(dir.path().join("run"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cases = cases(dir.path());
    assert_eq!(cases.len(), 2 * 2);
    let names = |case: &Value| {
        let stages = case["stages"].as_array().unwrap();
        stages.iter().map(|stage| stage["name"].to_string()).collect::<Vec<_>>()
    };
    for pair in cases.chunks(2) {
        let [four, six] = pair else { panic!("two families") };
        assert_measured(six);
        let said = (&six["mode"], &six["probe"]["engine"]);
        assert_eq!(said, (&"nftables.ipv6".into(), &"bpf".into()));
        assert!(six["joined_ratio"].as_f64().unwrap() >= 0.99, "{six:#}");
        assert_eq!(names(six), names(four));
    }
    // With ip_vs before the node.
    let evidence = cases[3]["proof"]["evidence"].to_string();
    assert!(evidence.contains("ip_vs passed ") && evidence.contains("[fd00:10:"), "{evidence}");
}

/// By ipvsadm's own count nothing comes back through it.
#[test]
fn ip_vs_before_the_nodes_passes_requests_on_and_sees_no_answer() {
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let output = xtask(&dir.path().join("cache"))
        .args(["bench", "--kernel", &kernel, "--balancer", "ipvs"])
        .args(["--mode", "none,iptables,ipvs,nftables", "--route", "loadbalancer-remote"])
        .args(["--cni", "bridge", "--services", "10", "--workload", "newconn"])
        .args(["--duration", "200ms", "--iterations", "1", "--out"])
        .arg(dir.path().join("run"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cases = cases(dir.path());
    assert_eq!(cases.len(), 4);
    for case in &cases {
        assert_measured(case);
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
        let stages = case["stages"].as_array().unwrap();
        let of_name = stages.iter().filter(|stage| stage["name"] == "lb");
        let legs: Vec<_> = of_name.map(|stage| &stage["leg"]).collect();
        assert_eq!(legs, ["request"], "{case:#}");
        let evidence = case["proof"]["evidence"].to_string();
        assert!(evidence.contains("ip_vs passed "), "{evidence}");
        assert!(evidence.contains(" packets there and 0 back"), "{evidence}");
    }
}

#[test]
fn ctrl_c_reaches_a_guest_and_what_was_measured_is_kept() {
    const COUNTS: usize = 300;
    let Some(kernel) = kernel() else { return };
    let dir = scratch();
    let told = dir.path().join("told");
    let out = dir.path().join("run");
    // So many that the profile is longer than a terminal's buffer.
    let services: Vec<_> = (1..=COUNTS).map(|n| n.to_string()).collect();
    let mut child = xtask(dir.path())
        .args(["bench", "--kernel", &kernel, "--mode", "none", "--workload", "newconn"])
        .args(["--services", &services.join(","), "--route", "direct-remote"])
        .args(["--duration", "200ms", "--iterations", "1", "--out"])
        .arg(&out)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let events = out.join("events.jsonl");
    let ended = || fs::read_to_string(&events).is_ok_and(|text| text.contains("case_end"));
    while !ended() && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let in_time = ended();
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let code = child.wait().unwrap().code();
    let told = fs::read_to_string(&told).unwrap();
    assert!(in_time, "no case ended within a minute: {code:?}\n{told}");
    assert_eq!(code, Some(130), "{told}");
    let kept = cases(dir.path());
    assert!(!kept.is_empty() && kept.len() < COUNTS, "{} cases", kept.len());
    assert!(kept.iter().all(|case| case["status"] == "measured"), "{kept:#?}");
}
