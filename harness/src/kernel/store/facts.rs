// SPDX-License-Identifier: Apache-2.0
//! `kernel.json`: what is known of a kernel that was built here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;

/// Most that is read of a `kernel.json`, bytes; ours are below 1 KiB.
const BYTES_MAX: u64 = 64 * 1024;

/// What a kernel was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A package of the distribution's kernel source.
    Package {
        /// Its name, `linux-source-7.2`.
        name: String,
        /// Its version, `7.2.13-1`.
        version: String,
        /// Where it came from: mirror and suite.
        origin: String,
    },
    /// A folder of the user's.
    Folder {
        /// Where it was.
        path: String,
        /// Its git commit, `-dirty` behind it where files differ; `None` without git.
        revision: Option<String>,
    },
}

/// What is known of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// `uname -r`, as the file itself says it.
    pub version: String,
    /// SHA-256 of `config`, hexadecimal.
    pub config_sha256: String,
    /// What it was built from.
    pub source: Source,
    /// When its build began, RFC 3339.
    pub built_at: String,
    /// How long that took, seconds.
    pub seconds: u64,
    /// The compiler's first line about itself.
    pub toolchain: String,
    /// Options that the configuration asks for and this source does not have.
    pub not_taken: Vec<String>,
}

impl Facts {
    /// As a file.
    pub(super) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers only");
        text + "\n"
    }

    /// From a file.
    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
            .map_err(|source| StoreError::File { op: "read", path: path.to_owned(), source })?;
        let malformed = |found| StoreError::Malformed { path: path.to_owned(), found };
        let facts: Self = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        let hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        if facts.config_sha256.len() != 64 || !hexadecimal(&facts.config_sha256) {
            return Err(malformed("config_sha256 is not 64 hexadecimal digits".to_owned()));
        }
        // The version becomes part of a path.
        if facts.version.is_empty() || facts.version.contains('/') {
            return Err(malformed(format!("`{}` is no version of a kernel", facts.version)));
        }
        Ok(facts)
    }
}
