// SPDX-License-Identifier: Apache-2.0
//! Where a judgement is written.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use reports::judge::say;

use super::Judged;
use crate::cli::OutputArgs;

/// Prints the judgement and writes the files that were asked for.
pub(crate) fn write(judged: &Judged, args: &OutputArgs, json: bool) -> Result<()> {
    let Judged { comparisons, terms, .. } = judged;
    if json {
        println!("{:#}", say::json(comparisons, terms));
    } else {
        for comparison in comparisons {
            println!("{}\n", say::text(comparison));
        }
    }
    if let Some(path) = &args.markdown {
        file(path, &say::markdown(comparisons, terms))?;
    }
    if let Some(path) = &args.junit {
        file(path, &say::junit(comparisons))?;
    }
    if args.github {
        print!("{}", say::github(comparisons));
    }
    Ok(())
}

pub(crate) fn file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
