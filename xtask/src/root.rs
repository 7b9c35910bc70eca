// SPDX-License-Identifier: Apache-2.0
//! Where the workspace is.

use std::path::PathBuf;

/// The workspace's folder: as cargo says when it starts this program, else where it was built.
pub(crate) fn workspace() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}
