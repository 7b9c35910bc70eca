// SPDX-License-Identifier: Apache-2.0
//! SHA-256 of files, hexadecimal.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::KernelError;

/// SHA-256 of a file's content.
///
/// # Errors
/// The file cannot be read.
pub(super) fn of_file(path: &Path) -> Result<String, KernelError> {
    let read = || {
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok(hasher.finalize())
    };
    let failed = |source| KernelError::File { op: "read", path: path.to_owned(), source };
    Ok(read().map_err(failed)?.iter().map(|byte| format!("{byte:02x}")).collect())
}
