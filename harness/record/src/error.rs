// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a record and the disk.

use std::path::PathBuf;

/// Failure to write or read a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no: a full disk, a missing directory, a permission.
    #[error("failed to {op} {path}: {source}")]
    Io {
        /// What was being done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there but does not hold what its name promises.
    #[error("failed to read {path}: {key}: {message}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Key path inside it, `.` for the whole.
        key: String,
        /// What was found.
        message: String,
    },
    /// A file is larger than any that nic2pod writes.
    #[error("failed to read {path}: it is larger than {bytes_max} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Largest that is read.
        bytes_max: u64,
    },
    /// A newer nic2pod wrote it.
    #[error(
        "failed to read {path}: its schema_version is {found}, this nic2pod reads up to {supported}; use a newer one"
    )]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version this code reads.
        supported: u32,
    },
}
