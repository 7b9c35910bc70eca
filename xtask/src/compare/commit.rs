// SPDX-License-Identifier: Apache-2.0
//! A commit of this project: looked up, and its files written out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::UsageError;

/// A commit, by the name it was asked for with.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// As it was named.
    pub(crate) name: String,
    /// Its digest's first 12 digits.
    pub(crate) short: String,
    full: String,
}

impl Commit {
    /// Looks a name up.
    ///
    /// # Errors
    /// git knows no such commit, or is not there.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let output = Command::new("git")
            .arg("-C")
            .arg(crate::root::workspace())
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
            .arg(format!("{name}^{{commit}}"))
            .output()
            .context("failed to start git")?;
        if !output.status.success() {
            bail!(UsageError(format!("--rev {name}: git knows no such commit")));
        }
        let full = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { name: name.to_owned(), short: full.chars().take(12).collect(), full })
    }

    /// What to call it in a comparison.
    pub(crate) fn label(&self) -> String {
        format!("{} ({})", self.name, self.short)
    }

    /// Writes its files into a new folder under `scratch`, without a work tree that git would remember. They are as
    /// new as they are there: cargo takes what is older than its last build for built, whichever revision that was
    /// of, and git's archives have the commit's time.
    ///
    /// # Errors
    /// git or tar fails.
    pub(crate) fn export(&self, scratch: &Path) -> Result<PathBuf> {
        let into = scratch.join("sources");
        std::fs::create_dir(&into).context("failed to make a folder for the sources")?;
        let mut archive = Command::new("git")
            .arg("-C")
            .arg(crate::root::workspace())
            .args(["archive", "--format=tar", &self.full])
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start git")?;
        let stdout = archive.stdout.take().expect("it is piped");
        let unpacked = Command::new("tar")
            .args(["--extract", "--touch"])
            .arg("-C")
            .arg(&into)
            .stdin(stdout)
            .status()
            .context("failed to start tar")?;
        let archived = archive.wait().context("failed to wait for git")?;
        anyhow::ensure!(
            archived.success() && unpacked.success(),
            "failed to write out {}",
            self.label()
        );
        Ok(into)
    }
}

/// Where revisions are built: in no folder that the workspace is built in, for cargo tells the packages of both
/// by nothing but their files' times.
///
/// # Errors
/// As [`cache`].
pub(crate) fn target() -> Result<PathBuf> {
    Ok(cache()?.join("target"))
}

/// Where revisions that were built are kept: a folder of the user's cache.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub(crate) fn cache() -> Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = home("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| home("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("failed to find the user's cache: HOME is not set")?;
    // Not `revisions`, where there are some that were built from files of another.
    Ok(base.join("nic2pod/builds"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn files_of_an_old_commit_are_new_to_whoever_builds_them() {
        let Ok(commit) = Commit::find("HEAD") else {
            println!("SKIP there is no history here");
            return;
        };
        // File systems count in steps.
        let before = SystemTime::now() - Duration::from_secs(1);
        let scratch = tempfile::tempdir().unwrap();
        let sources = commit.export(scratch.path()).unwrap();
        for file in ["Cargo.toml", "xtask/src/main.rs", "harness/record/src/lib.rs"] {
            let written = sources.join(file).metadata().unwrap().modified().unwrap();
            assert!(written >= before, "{file}: {written:?}");
        }
    }
}
