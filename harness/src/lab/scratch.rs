// SPDX-License-Identifier: Apache-2.0
//! A run's scratch folder: lock files and sockets of the tools it calls.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Start of every scratch folder's name; the maker's process id follows.
const PREFIX: &str = "nic2pod-";

/// A folder that goes when it is dropped. A killed run leaves it behind; [`abandoned`] finds it.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one in the system's temporary folder, readable by its owner only.
    ///
    /// # Errors
    /// The system refuses.
    pub fn create() -> io::Result<Self> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        tempfile::Builder::new().prefix(&prefix).tempdir().map(Self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Scratch folders whose maker is gone.
///
/// # Errors
/// The temporary folder cannot be listed.
pub fn abandoned() -> io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in std::env::temp_dir().read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let maker = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if let Some(pid) = maker
            && entry.file_type()?.is_dir()
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            left.push(entry.path());
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_maker_keeps_its_folder_and_a_dead_one_does_not() {
        let mine = Scratch::create().unwrap();
        // Above /proc/sys/kernel/pid_max's largest possible value, so nobody's.
        let dead = tempfile::Builder::new().prefix(&format!("{PREFIX}4194999-")).tempdir().unwrap();
        let left = abandoned().unwrap();
        assert!(left.contains(&dead.path().to_owned()));
        assert!(!left.contains(&mine.path().to_owned()));
    }
}
