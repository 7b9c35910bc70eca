// SPDX-License-Identifier: Apache-2.0
//! `lab gc`: namespaces, interfaces, rules and processes go with the run that made them, however it
//! ends; what is left of a killed run is its scratch folder, and of a killed build of a kernel its
//! folder in the cache.

use anyhow::{Context, Result};
use harness::kernel::store::Store;
use harness::lab::scratch;

use crate::exit::Exit;

/// Removes the folders of runs and builds whose process is gone.
pub(crate) fn gc() -> Result<Exit> {
    let mut left = scratch::abandoned().context("failed to look for scratch folders")?;
    // Without a home there is no cache to look in.
    if let Ok(store) = Store::open() {
        left.extend(store.abandoned()?);
    }
    for folder in &left {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
        println!("removed {}", folder.display());
    }
    #[cfg(feature = "kind")]
    let clusters = super::abandoned::remove()?;
    #[cfg(not(feature = "kind"))]
    let clusters: Vec<String> = Vec::new();
    for name in &clusters {
        println!("removed {name}");
    }
    if left.is_empty() && clusters.is_empty() {
        println!("nothing to remove");
    }
    Ok(Exit::Ok)
}
