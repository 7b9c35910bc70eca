// SPDX-License-Identifier: Apache-2.0
//! Failures of the store of kernels.

use std::path::PathBuf;

/// A kernel could not be found, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody says where the user's cache is.
    #[error("failed to find the cache folder: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    NoHome,
    /// There is no kernel of this name.
    #[error("no kernel is called `{name}`; {}", known(has))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those there are.
        has: Vec<String>,
    },
    /// Several kernels have this version.
    #[error("`{name}` is one of {}; give its whole name", has.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Those it may be.
        has: Vec<String>,
    },
    /// A file is not what it should be.
    #[error("failed to use {}: {found}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The system refuses.
    #[error("failed to {op} {}: {source}", path.display())]
    File {
        /// What was done.
        op: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

fn known(has: &[String]) -> String {
    if has.is_empty() {
        "none is built: cargo xtask lab kernel build".to_owned()
    } else {
        format!("there are {}", has.join(", "))
    }
}
