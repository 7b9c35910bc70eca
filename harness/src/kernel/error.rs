// SPDX-License-Identifier: Apache-2.0
//! Failures of guests.

use std::path::PathBuf;

use super::store::StoreError;
use crate::Unavailable;

/// A guest could not be booted, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The machine lacks something: a kernel, a module, /dev/kvm, room on a tmpfs.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The store of kernels has none of this name, or one that cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file the guest boots from cannot be used.
    #[error("failed to {op} {}: {source}", path.display())]
    File {
        /// What was done.
        op: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file the guest boots from is not what it should be.
    #[error("failed to use {}: {found}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The guest ended, hung, or said what it should not.
    #[error("kernel {label}: {found}")]
    Guest {
        /// Which kernel.
        label: String,
        /// One sentence: `the guest panicked: Out of memory`.
        found: String,
        /// Last lines of its console.
        console: String,
    },
}
