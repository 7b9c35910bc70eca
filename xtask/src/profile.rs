// SPDX-License-Identifier: Apache-2.0
//! The profile a command is asked to use.

use std::path::PathBuf;

use harness::plan::{Profile, ProfileError};

/// Reads a profile by its name in profiles/ or by its path.
///
/// # Errors
/// The profile cannot be read.
pub(crate) fn read(name: &str) -> Result<Profile, ProfileError> {
    if name == "default" { Profile::embedded() } else { Profile::read(&path(name)) }
}

/// A bare name is a file in profiles/; anything with a slash or an ending is a path.
fn path(name: &str) -> PathBuf {
    if name.contains('/') || name.ends_with(".toml") {
        PathBuf::from(name)
    } else {
        crate::root::workspace().join("profiles").join(format!("{name}.toml"))
    }
}
