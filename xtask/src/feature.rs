// SPDX-License-Identifier: Apache-2.0
//! Parts that are built when they are first asked for: the clients of Docker and Kubernetes are more
//! code than all the rest, and most runs need neither.

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::exit::Exit;

/// Set for the program that was built with the part, so that it never builds itself again.
const BUILT: &str = "NIC2POD_WITH_KIND";

/// Where the feature `kind` is `needed` and this program has it not, builds one that has, runs it with
/// the same arguments, and returns how it ended.
///
/// # Errors
/// It cannot be built.
pub(crate) fn kind(needed: bool) -> Result<Option<Exit>> {
    if !needed || cfg!(feature = "kind") {
        return Ok(None);
    }
    anyhow::ensure!(std::env::var_os(BUILT).is_none(), "the feature kind was asked for in vain");
    eprintln!("building the labs kind and kubeconfig (once; minutes)");
    let status = cargo()
        .args(["run", "--quiet", "--release", "--features", "kind", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .env(BUILT, "1")
        .status()
        .context("failed to start cargo")?;
    Ok(Some(match status.code() {
        Some(0) => Exit::Ok,
        Some(2) => Exit::Usage,
        Some(3) => Exit::Regression,
        Some(4) => Exit::NothingRan,
        Some(69) => Exit::Unavailable,
        Some(130) => Exit::Interrupted,
        _ => Exit::Failed,
    }))
}
