// SPDX-License-Identifier: Apache-2.0
//! Baselines: runs that are kept in the repository, without what only a report needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use record::{Run, Status};

use crate::bench;
use crate::cli::BaselineArgs;
use crate::exit::Exit;

/// Makes a baseline: measures, and keeps the manifest (which says where it was made) and the figures.
pub(crate) fn run(args: &BaselineArgs) -> Result<Exit> {
    let profile = bench::overrides::profile(&args.bench, "gate")?;
    if let Some(exit) = bench::of_clusters(&args.bench)? {
        return Ok(exit);
    }
    let measured = bench::measure(&args.bench, &profile, &|plan| plan, &mut |_| false)?;
    let run = Run::open(&measured.dir)?;
    let count = |status| run.summary.cases.iter().filter(|case| case.status == status).count();
    match (measured.interrupted, count(Status::Failed), count(Status::Measured)) {
        (true, ..) => return Ok(Exit::Interrupted),
        (_, failed, _) if failed > 0 => return Ok(Exit::Failed),
        (.., 0) => return Ok(Exit::NothingRan),
        _ => {}
    }
    let into = path(&args.name);
    fs::create_dir_all(&into).with_context(|| format!("failed to make {}", into.display()))?;
    for name in ["manifest.json", "summary.json"] {
        fs::copy(measured.dir.join(name), into.join(name))
            .with_context(|| format!("failed to keep {name} in {}", into.display()))?;
    }
    println!("{}", into.display());
    Ok(Exit::Ok)
}

/// Opens a baseline by its name in reports/baselines/ or by its folder.
pub(super) fn open(name: &str) -> Result<Run> {
    let dir = path(name);
    Run::open(&dir)
        .with_context(|| format!("no baseline {name}: cargo xtask baseline {name} makes one"))
}

/// A bare name is a folder in reports/baselines/; anything with a slash is a path.
fn path(name: &str) -> PathBuf {
    if name.contains('/') {
        return Path::new(name).to_owned();
    }
    crate::root::workspace().join("reports/baselines").join(name)
}
