// SPDX-License-Identifier: Apache-2.0
//! A guest in User-Mode Linux, booted by hand. The kernel is the file that NIC2POD_UML names.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An init that runs `script` in a guest that has what the lab needs, and powers off.
pub(crate) fn init(script: &str) -> String {
    format!(
        "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /run; mount -t tmpfs tmp /tmp
ip link set lo up
ulimit -n 65536
cd /
{script}
poweroff -f
"
    )
}

/// Boots the kernel with `script` as init, the host's files as root, and waits for its end.
pub(crate) fn boot(kernel: &Path, dir: &Path, script: &str) -> String {
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

pub(crate) fn kernel() -> Option<PathBuf> {
    let path = std::env::var_os("NIC2POD_UML").map(PathBuf::from);
    if path.is_none() {
        eprintln!("SKIP NIC2POD_UML names no kernel");
    }
    path
}
