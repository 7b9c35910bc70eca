// SPDX-License-Identifier: Apache-2.0
//! Finds the runs in a folder and says which cannot be read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use record::Run;

use crate::ReportError;

/// Most runs that are read; the newest by name, since a run's name begins with its time.
const RUNS_MAX: usize = 1000;

/// Folders below the one given that are looked into.
const DEPTH_MAX: usize = 4;

/// A run that is not in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its folder.
    pub dir: PathBuf,
    /// Why not, in words.
    pub reason: String,
}

/// The runs of a folder.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Oldest first.
    pub runs: Vec<Run>,
    /// By folder.
    pub unreadable: Vec<Unreadable>,
}

/// Reads every run in `dir` and the folders in it. Links are not followed.
///
/// # Errors
/// `dir` itself cannot be read. What cannot be read in it is listed with the reason.
pub fn find(dir: &Path) -> Result<Found, ReportError> {
    let mut found = Found::default();
    let mut dirs = Vec::new();
    walk(dir, 0, &mut dirs, &mut found.unreadable).map_err(|source| ReportError::Io {
        op: "read",
        path: dir.to_owned(),
        source,
    })?;
    dirs.sort();
    let surplus = dirs.len().saturating_sub(RUNS_MAX);
    for dir in dirs.drain(..surplus) {
        let reason = format!("more than {RUNS_MAX} runs, and its name is not among the last");
        found.unreadable.push(Unreadable { dir, reason });
    }
    let mut timed = Vec::new();
    let mut names = BTreeSet::new();
    for dir in dirs {
        let mut refuse =
            |reason: String| found.unreadable.push(Unreadable { dir: dir.clone(), reason });
        match Run::open(&dir) {
            Err(error) => refuse(error.to_string()),
            Ok(run) if !names.insert(run.manifest.run_id.clone()) => {
                refuse(format!("run {} is there twice", run.manifest.run_id));
            }
            Ok(run) => match run.manifest.started_at.parse::<jiff::Timestamp>() {
                Ok(started) => timed.push((started, run)),
                Err(error) => refuse(format!("its start is no time: {error}")),
            },
        }
    }
    timed.sort_by_key(|(started, _)| *started);
    found.runs = timed.into_iter().map(|(_, run)| run).collect();
    found.unreadable.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(found)
}

/// Collects the folders that hold a run. One that does is not looked into.
fn walk(
    dir: &Path,
    depth: usize,
    dirs: &mut Vec<PathBuf>,
    unreadable: &mut Vec<Unreadable>,
) -> std::io::Result<()> {
    if ["manifest.json", "summary.json"].iter().any(|file| dir.join(file).is_file()) {
        dirs.push(dir.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && depth < DEPTH_MAX {
            let below = entry.path();
            if let Err(error) = walk(&below, depth + 1, dirs, unreadable) {
                unreadable.push(Unreadable { dir: below, reason: error.to_string() });
            }
        }
    }
    Ok(())
}
