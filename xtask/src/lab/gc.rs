// SPDX-License-Identifier: Apache-2.0
//! `lab gc`: namespaces, interfaces, rules and processes go with the run that made them, however it
//! ends; what is left of a killed run is its scratch folder.

use anyhow::{Context, Result};
use harness::lab::scratch;

use crate::exit::Exit;

/// Removes the scratch folders of runs whose process is gone.
pub(crate) fn gc() -> Result<Exit> {
    let left = scratch::abandoned().context("failed to look for scratch folders")?;
    for folder in &left {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
        println!("removed {}", folder.display());
    }
    if left.is_empty() {
        println!("nothing to remove");
    }
    Ok(Exit::Ok)
}
