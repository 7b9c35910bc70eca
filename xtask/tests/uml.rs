// SPDX-License-Identifier: Apache-2.0
//! Ring 3: `bench` inside User-Mode Linux, a kernel with ip_vs that runs as a process. The kernel is
//! the file that NIC2POD_UML names.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Boots the kernel with `script` as init, the host's files as root, and waits for its end.
fn boot(kernel: &Path, dir: &Path, script: &str) -> String {
    let init = dir.join("init.sh");
    fs::write(&init, script).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let console = dir.join("console");
    let status = Command::new("timeout")
        .args(["--kill-after=5", "240"])
        .arg(kernel)
        .args([
            "seccomp=on",
            "ncpus=2",
            "mem=2G",
            "root=/dev/root",
            "rootfstype=hostfs",
            "hostfs=/",
            "rw",
        ])
        .arg(format!("init={}", init.display()))
        .args(["con=null", "con0=fd:0,fd:1", "ssl=null", "quiet"])
        .env("TMPDIR", "/dev/shm")
        .stdin(Stdio::null())
        .stdout(fs::File::create(&console).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let text = fs::read_to_string(&console).unwrap_or_default();
    assert!(status.success(), "the guest ended with {status}: {text}");
    text
}

fn kernel() -> Option<PathBuf> {
    let path = std::env::var_os("NIC2POD_UML").map(PathBuf::from);
    if path.is_none() {
        eprintln!("SKIP NIC2POD_UML names no kernel");
    }
    path
}

#[test]
fn ipvs_carries_requests_and_is_proved_by_its_own_counters() {
    let Some(kernel) = kernel() else { return };
    // Not below /tmp: the guest has one of its own.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = dir.path().display();
    let script = format!(
        "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /run; mount -t tmpfs tmp /tmp
ip link set lo up
ulimit -n 65536
cd /
{xtask} bench --mode none,iptables,ipvs,nftables --cni bridge \
  --route nodeport-remote,clusterip-local --services 100 \
  --workload newconn --duration 300ms --iterations 1 --json --out {out}/run \
  >{out}/stdout 2>{out}/stderr
echo $? >{out}/status
poweroff -f
",
        xtask = env!("CARGO_BIN_EXE_xtask"),
    );
    let console = boot(&kernel, dir.path(), &script);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let stderr = read("stderr");
    assert_eq!(read("status").trim(), "0", "{stderr}\n{console}");
    let summary: Value = serde_json::from_str(&read("stdout")).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4 * 2);
    for case in cases {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["requests"].as_u64().unwrap() > 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
    }
    let evidence = |case: &Value| case["proof"]["evidence"].to_string();
    let ipvs: Vec<_> = cases.iter().filter(|case| case["mode"] == "ipvs").collect();
    assert_eq!(ipvs.len(), 2);
    assert!(
        ipvs.iter().all(|case| evidence(case).contains("ip_vs has the connection")),
        "{}",
        evidence(ipvs[0])
    );
}
