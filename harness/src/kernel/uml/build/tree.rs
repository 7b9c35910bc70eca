// SPDX-License-Identifier: Apache-2.0
//! A kernel's sources.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::super::store::Source;
use super::BuildError;

/// A folder of kernel sources, and where it came from.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) path: PathBuf,
    pub(super) source: Source,
}

impl Tree {
    /// The user's own.
    ///
    /// # Errors
    /// It is no kernel tree with User-Mode Linux, or was built in.
    pub(super) fn own(path: &Path) -> Result<Self, BuildError> {
        let failed =
            |found: &str| BuildError::Tree { path: path.to_owned(), found: found.to_owned() };
        let absolute = path.canonicalize().map_err(|error| failed(&error.to_string()))?;
        let revision = revision(&absolute);
        let source = Source::Folder { path: absolute.display().to_string(), revision };
        Self::new(absolute, source)
    }

    /// Any.
    ///
    /// # Errors
    /// As [`Tree::own`].
    pub(super) fn new(path: PathBuf, source: Source) -> Result<Self, BuildError> {
        let has = |name: &str| path.join(name).exists();
        let found = if !has("Makefile") || !has("Kconfig") || !has("arch") {
            "it is no kernel tree: it has not all of Makefile, Kconfig and arch"
        } else if !has("arch/um/Kconfig") {
            "it has no User-Mode Linux: there is no arch/um"
        } else if has(".config") || has("include/config") || has("arch/um/include/generated") {
            // Kbuild refuses to build elsewhere then (Makefile, outputmakefile), and cleaning up is
            // not ours to do.
            "a kernel was configured in it, so Kbuild builds nowhere else: give a clean checkout \
             (git worktree add), or run make mrproper in it"
        } else if path.to_string_lossy().contains([' ', ':']) {
            // Makefile: "source directory cannot contain spaces or colons".
            "Kbuild takes no path with spaces or colons"
        } else {
            return Ok(Self { path, source });
        };
        Err(BuildError::Tree { path, found: found.to_owned() })
    }
}

/// The commit, where `path` is the top of a git checkout. Without locks: not even git's index of the
/// user's tree is to change.
fn revision(path: &Path) -> Option<String> {
    if !path.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("--no-optional-locks")
            .arg("-C")
            .arg(path)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if clean { commit } else { commit + "-dirty" })
}
