// SPDX-License-Identifier: Apache-2.0
//! The kube-proxy program that tests run: the one that is named, or that of the kind nodes' image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::root;

/// Names the program to the tests.
pub(super) const VARIABLE: &str = "NIC2POD_KUBE_PROXY";
/// Writes it to standard output: an image of kind's nodes has kube-proxy's image in containerd's store, as
/// layers, which are archives.
const TAKE_OUT: &str = "for layer in /var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/*; do \
    for name in usr/local/bin/kube-proxy ./usr/local/bin/kube-proxy; do \
    tar -xOf $layer $name 2>/dev/null && exit 0; done; done; exit 1";

/// The program: what the environment names, else what the image has; `None` where there is neither. An
/// image is opened once.
pub(super) fn find(image: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Some(named.into());
    }
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", image])?;
    let id = String::from_utf8(id).ok()?.trim().trim_start_matches("sha256:").to_owned();
    let folder = root::workspace().join("target/kube-proxy").join(id);
    let program = folder.join("kube-proxy");
    if !program.is_file() {
        let bytes = docker(&["run", "--rm", "--entrypoint", "sh", image, "-c", TAKE_OUT])?;
        fs::create_dir_all(&folder).ok()?;
        let beside = folder.join(format!("kube-proxy.{}", std::process::id()));
        fs::write(&beside, bytes).ok()?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).ok()?;
        fs::rename(&beside, &program).ok()?;
    }
    Some(program)
}
