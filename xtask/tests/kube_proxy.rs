// SPDX-License-Identifier: Apache-2.0
//! Ring 2, with the program that NIC2POD_KUBE_PROXY names: `bench` and `compare` with a real kube-proxy in
//! place of our rules, end to end.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::fs;
use std::path::{Path, PathBuf};
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

/// The minor version that a program names.
fn minor(program: &str) -> u32 {
    let output = Command::new(program).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let rest = said.trim().strip_prefix("Kubernetes v1.").unwrap();
    rest.split('.').next().unwrap().parse().unwrap()
}

/// A run of modes by our own rules and by the program's: its folder and its cases.
struct Run {
    program: String,
    out: PathBuf,
    cases: Vec<Value>,
}

impl Run {
    fn of(program: String, dir: &Path, arguments: &[&str]) -> Self {
        let out = dir.join("run");
        let profile = dir.join("p.toml");
        fs::write(&profile, "name = \"t\"\n[run]\nadd_one = true\nwarm_up = \"200ms\"\n").unwrap();
        let output = xtask(&["bench", "--out"])
            .arg(&out)
            .args(["--profile", profile.to_str().unwrap(), "--proxy", "own,kube-proxy"])
            .args(["--proxy-bin", &program, "--cni", "ptp", "--workload", "newconn"])
            .args(["--duration", "300ms"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        let cases = read(&out.join("summary.json"))["cases"].as_array().unwrap().clone();
        Self { program, out, cases }
    }

    fn of_mode(&self, mode: &str) -> Vec<&Value> {
        self.cases.iter().filter(|case| case["mode"] == mode).collect()
    }

    /// Every case of a mode by the program is measured, is never taken for ours, and walks what ours walks
    /// but for rules; `names` is in the file of what the kernel holds.
    fn is_measured(&self, mode: &str, (file, names): (&str, &str)) {
        let digest = sha256sum(&self.program);
        let (own, real) = (self.of_mode(mode), self.of_mode(&format!("{mode}.kube-proxy")));
        assert!(!real.is_empty());
        assert_eq!(real.len(), own.len());
        for case in real {
            let id = case["id"].as_str().unwrap();
            assert!(id.contains(&format!("/{mode}.kube-proxy+ptp/")), "{id}");
            assert_eq!(case["status"], "measured", "{id}: {} {}", case["failure"], case["reason"]);
            assert_eq!(case["errors"], 0, "{id}");
            assert!(case["requests"].as_u64().unwrap() > 0, "{id}");
            assert_eq!(case["proof"]["mode"], format!("{mode}.kube-proxy"));
            let evidence = case["proof"]["evidence"].to_string();
            let said = format!("answers /proxyMode with {mode}");
            assert!(evidence.contains(&said), "{evidence}");
            let notes = case["notes"].to_string();
            assert!(notes.contains(&digest) && notes.contains("Kubernetes v1."), "{notes}");
            if case["probe"]["engine"] == "bpf" {
                let joined = case["joined_ratio"].as_f64().unwrap();
                assert!(joined >= 0.999, "{id}: {joined}");
            }
            assert!(case["install_ms"].as_f64().unwrap() > 0.0);
            assert!(case["add_one_ms"].as_f64().unwrap() > 0.0);
            // Two connections of its own watch the API server; they are on no entry of the measured one.
            let ours = own
                .iter()
                .find(|ours| ["route", "services"].iter().all(|key| ours[*key] == case[*key]))
                .unwrap();
            let entries = |case: &Value| case["counts"]["conntrack_entries"].as_u64();
            assert_eq!(entries(case), entries(ours), "{id}");
            let folder = self.out.join("cases").join(id);
            let held = fs::read_to_string(folder.join(file)).unwrap();
            assert!(held.contains(names), "kube-proxy's rules as the kernel has them");
            let text = fs::read_to_string(folder.join("kube-proxy.json")).unwrap();
            assert!(text.contains("KubeProxyConfiguration"));
            for (who, case) in [("own", *ours), ("kube-proxy", case)] {
                eprintln!(
                    "{id}, {who}: joined {}, rules walked {}, {} ms to write, {} ms for one more, first packet \
                     {} ns",
                    case["joined_ratio"],
                    case["counts"]["rules_walked"],
                    case["install_ms"],
                    case["add_one_ms"],
                    case["first_packet_ns"]["p50"],
                );
            }
        }
    }
}

#[test]
fn a_kube_proxy_is_measured_beside_our_own_rules_and_never_taken_for_them() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let modes = ["--kernel", "host", "--mode", "none,iptables,nftables"];
    let matrix = ["--route", "nodeport-remote,clusterip-local", "--services", "1,200"];
    let arguments = [&modes[..], &matrix, &["--iterations", "2"]].concat();
    let run = Run::of(program.clone(), dir.path(), &arguments);
    assert_eq!(run.of_mode("none").len(), 4);
    assert_eq!(run.of_mode("iptables").len(), 4);
    run.is_measured("iptables", ("iptables.rules", "KUBE-PROXY-CANARY"));
    // A version that has the mode is measured; one that has not is a skip, and no other mode's result.
    if minor(&program) >= 31 {
        run.is_measured("nftables", ("nftables.nft", "map service-ips"));
        for (case, ours) in run.of_mode("nftables.kube-proxy").iter().zip(run.of_mode("nftables")) {
            let evidence = case["proof"]["evidence"].to_string();
            assert!(evidence.contains("looks up @service-ips"), "{evidence}");
            assert_eq!(case["services"], ours["services"]);
        }
    } else {
        let skipped = run.of_mode("nftables.kube-proxy");
        assert!(!skipped.is_empty());
        for case in skipped {
            assert_eq!(case["status"], "skipped", "{case:#}");
            assert!(case["reason"]["need"].to_string().contains("1.31 or later"), "{case:#}");
        }
    }
    let digest = sha256sum(&program);
    let manifest = read(&run.out.join("manifest.json"));
    let tools = manifest["tools"].as_array().unwrap();
    let tool = tools.iter().find(|tool| tool["name"] == "kube-proxy").unwrap();
    assert!(tool["version"].as_str().unwrap().contains(&digest), "{tool}");
    let report = fs::read_to_string(run.out.join("report.html")).unwrap();
    assert!(report.contains("iptables.kube-proxy") && report.contains(&digest));
}

#[test]
fn a_kube_proxy_writes_as_many_rules_for_ipv6_and_its_requests_pass_the_same_stages() {
    let Some(program) = program() else { return };
    if !Path::new("/proc/sys/net/ipv6").exists() {
        eprintln!("SKIP the kernel has no IPv6");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--kernel", "host", "--mode", "iptables", "--ip", "ipv4,ipv6"];
    let more = ["--route", "nodeport-remote", "--services", "20", "--iterations", "1"];
    let run = Run::of(program, dir.path(), &[&arguments[..], &more].concat());
    let real = |case: &&Value| case["mode"].as_str().unwrap().contains("kube-proxy");
    let cases: Vec<_> = run.cases.iter().filter(real).collect();
    let [four, six] = cases[..] else { panic!("two families") };
    for case in [four, six] {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
    }
    let names = |case: &Value| {
        let stages = case["stages"].as_array().unwrap();
        stages.iter().map(|stage| stage["name"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(six), names(four));
    assert_eq!(six["counts"]["conntrack_entries"], four["counts"]["conntrack_entries"]);
    assert!(six["counts"]["rules_walked"].as_u64().unwrap() > 0, "{six:#}");
    let folder = run.out.join("cases").join(six["id"].as_str().unwrap());
    let held = fs::read_to_string(folder.join("iptables.rules")).unwrap();
    let rules: Vec<_> = held.lines().filter(|line| line.contains("-A KUBE-")).collect();
    assert!(rules.iter().any(|line| line.contains("--to-destination [fd00:10:244:")), "{held}");
    assert!(!rules.iter().any(|line| line.contains(" 10.")), "{held}");
}

/// The kernel that an environment variable names to tests.
fn kernel(variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok().filter(|path| !path.is_empty());
    if path.is_none() {
        eprintln!("SKIP {variable} names no kernel");
    }
    path
}

const IPVS: [&str; 8] = [
    "--mode",
    "ipvs",
    "--services",
    "10",
    "--iterations",
    "1",
    "--route",
    // An emulated kube-proxy takes ten seconds to write rules.
    "nodeport-remote",
];

/// Mode ipvs is measured, and ip_vs itself says that it carried the connections.
fn ipvs_is_measured(run: &Run) {
    run.is_measured("ipvs", ("ipvs.rules", "-A -t 10."));
    for case in run.of_mode("ipvs.kube-proxy") {
        let evidence = case["proof"]["evidence"].to_string();
        for line in ["ip_vs has the connection", "ipvsadm --stats of -t 10.", "was translated"] {
            assert!(evidence.contains(line), "{line}: {evidence}");
        }
        let folder = run.out.join("cases").join(case["id"].as_str().unwrap());
        let sets = fs::read_to_string(folder.join("ipset.rules")).unwrap();
        assert!(sets.contains("add KUBE-CLUSTER-IP 10."), "{sets}");
    }
}

#[test]
fn a_kube_proxy_in_mode_ipvs_is_measured_on_a_distributions_kernel() {
    let (Some(program), Some(kernel)) = (program(), kernel("NIC2POD_QEMU_KERNEL")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let kernel = format!("qemu:{kernel}");
    let run = Run::of(program, dir.path(), &[&["--kernel", &kernel], &IPVS[..]].concat());
    ipvs_is_measured(&run);
}

#[test]
fn a_kube_proxy_in_mode_ipvs_is_measured_in_user_mode_linux_or_says_what_it_lacks() {
    let (Some(program), Some(path)) = (program(), kernel("NIC2POD_UML")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = Command::new(&path).arg("--showconfig").output().unwrap().stdout;
    let loads_modules =
        String::from_utf8_lossy(&config).lines().any(|line| line == "CONFIG_MODULES=y");
    let kernel = format!("uml:{path}");
    let run = Run::of(program.clone(), dir.path(), &[&["--kernel", &kernel], &IPVS[..]].concat());
    // Without /proc/modules an old one takes ip_vs for absent, and runs iptables without a word.
    if loads_modules || minor(&program) >= 31 {
        return ipvs_is_measured(&run);
    }
    for case in run.of_mode("ipvs.kube-proxy") {
        if case["status"] == "measured" {
            return ipvs_is_measured(&run);
        }
        assert_eq!(case["status"], "skipped", "{case:#}");
        let reason = case["reason"].to_string();
        assert!(
            reason.contains("a kube-proxy in mode ipvs, which it was told to be in"),
            "{reason}"
        );
        assert!(reason.contains("answers /proxyMode with iptables"), "{reason}");
    }
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
