// SPDX-License-Identifier: Apache-2.0
//! The agents as static programs, for containers that hold nothing else.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use harness::docker::AgentsImage;

use crate::cargo::cargo;
use crate::root::workspace;

/// The C library is linked in.
const STATIC: &str = "-Ctarget-feature=+crt-static";
/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`
/// (doc.rust-lang.org/cargo/reference/environment-variables.html).
const SEPARATOR: &str = "\u{1f}";

/// Files of the agents' programs.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) load: PathBuf,
    pub(crate) target: PathBuf,
}

/// Has cargo build them, which is done in a second where nothing has changed. cargo's own lines say
/// how far it is; without `progress` only its errors are shown.
///
/// # Errors
/// cargo fails.
pub(crate) fn build(progress: bool) -> Result<Agents> {
    let (triple, folder) = (host_triple()?, workspace().join("target/static"));
    let mut command = cargo();
    // The target is named though it is the host: only so are programs that run while building,
    // which cannot be static, spared the flags.
    command
        .args(["build", "--release", "--package", "workloads", "--bins", "--target", &triple])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(workspace())
        .env("CARGO_ENCODED_RUSTFLAGS", flags())
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !progress {
        command.arg("--quiet");
    }
    let status = command.status().context("failed to run cargo")?;
    ensure!(status.success(), "failed to build the agents: cargo: {status}");
    let built = folder.join(triple).join("release");
    Ok(Agents { load: built.join("load"), target: built.join("target") })
}

/// Builds them and makes their image; for `probes` on nodes it holds this very program, too.
///
/// # Errors
/// cargo fails, what it built is not static, or this program has no probes.
pub(crate) fn image(progress: bool, probes: bool) -> Result<AgentsImage> {
    ensure!(
        cfg!(feature = "bpf") || !probes,
        "failed to put probes into an image: this program is built without the feature bpf"
    );
    let agents = build(progress)?;
    let this = if probes { Some(crate::kernels::program()?) } else { None };
    Ok(AgentsImage::of_files(&agents.load, &agents.target, this.as_deref())?)
}

/// Flags of the user's, and ours.
fn flags() -> OsString {
    let mut flags = std::env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.is_empty() {
        flags.push(SEPARATOR);
    }
    flags.push(STATIC);
    flags
}

fn host_triple() -> Result<String> {
    let output = cargo().arg("-vV").output().context("failed to run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).with_context(|| format!("failed to find the host in {text:?}"))
}
