// SPDX-License-Identifier: Apache-2.0
//! Writes a run directory, complete after every case: a full disk or a kill costs one case.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{CaseRecord, Histogram, Manifest, RecordError, Summary, Walk};

/// The open run directory.
#[derive(Debug)]
pub struct RunWriter {
    dir: PathBuf,
    events: File,
    summary: Summary,
}

/// What a case leaves beside its line in the summary.
#[derive(Debug, Default)]
pub struct CaseFiles {
    /// Name (`latency`, `service_time`, `stage-request-wire`, ...) and distribution.
    pub histograms: Vec<(String, Histogram)>,
    /// Other files, by name: the applied rules, raw samples.
    pub files: Vec<(String, Vec<u8>)>,
    /// Requests kept with every place they passed; none makes no `walks.json`.
    pub walks: Vec<Walk>,
}

impl RunWriter {
    /// Makes `dir` and writes the manifest and an empty summary.
    ///
    /// # Errors
    /// The directory holds a run already, or the disk refuses.
    pub fn create(dir: &Path, manifest: &Manifest, summary: Summary) -> Result<Self, RecordError> {
        fs::create_dir_all(dir.join("cases")).map_err(io("create", dir))?;
        let path = dir.join("events.jsonl");
        let events = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(io("create", &path))?;
        let writer = Self { dir: dir.to_owned(), events, summary };
        writer.write_manifest(manifest)?;
        writer.flush_summary()?;
        Ok(writer)
    }

    /// Where the run is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The summary so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Replaces the manifest.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), RecordError> {
        write_json(&self.dir.join("manifest.json"), manifest)
    }

    /// Appends one event as a JSON line.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn event(&mut self, event: &impl Serialize) -> Result<(), RecordError> {
        let path = self.dir.join("events.jsonl");
        let mut line = to_json(&path, event, false)?;
        line.push(b'\n');
        self.events.write_all(&line).map_err(io("write", &path))
    }

    /// Directory of a case, made if need be.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn case_dir(&self, id: &str) -> Result<PathBuf, RecordError> {
        let dir = self.dir.join("cases").join(case_path(id));
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        Ok(dir)
    }

    /// Writes a case's files, then its line in the summary.
    ///
    /// # Errors
    /// The disk refuses; cases written earlier stay whole.
    pub fn case(&mut self, case: CaseRecord, files: &CaseFiles) -> Result<(), RecordError> {
        let dir = self.case_dir(&case.id)?;
        write_json(&dir.join("case.json"), &case)?;
        for (name, histogram) in &files.histograms {
            let name = format!("{}.histogram.json", path_component(name));
            write_whole(&dir.join(&name), &to_json(&dir.join(&name), histogram, false)?)?;
        }
        for (name, bytes) in &files.files {
            write_whole(&dir.join(path_component(name)), bytes)?;
        }
        if !files.walks.is_empty() {
            write_json(&dir.join("walks.json"), &files.walks)?;
        }
        self.summary.cases.push(case);
        self.flush_summary()
    }

    fn flush_summary(&self) -> Result<(), RecordError> {
        write_json(&self.dir.join("summary.json"), &self.summary)
    }
}

/// Case ids are paths; every component is made safe by itself.
pub(crate) fn case_path(id: &str) -> PathBuf {
    id.split('/').map(path_component).collect()
}

/// A name as one path component. ASCII letters, digits, `_`, `+`, `-` and dots that do not lead are
/// kept; where anything else had to go, a hash of the whole name keeps different names apart.
pub fn path_component(name: &str) -> String {
    let kept = |(i, c): (usize, char)| {
        if c.is_ascii_alphanumeric() || "_+-".contains(c) || (c == '.' && i > 0) { c } else { '_' }
    };
    let safe: String = name.chars().take(100).enumerate().map(kept).collect();
    if safe == name && !safe.is_empty() { safe } else { format!("{safe}-{:08x}", fnv1a(name)) }
}

/// FNV-1a, 32 bits: stable over versions and machines, as file names have to be.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn io<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> RecordError + 'a {
    move |source| RecordError::Io { op, path: path.to_owned(), source }
}

fn to_json(path: &Path, value: &impl Serialize, pretty: bool) -> Result<Vec<u8>, RecordError> {
    let text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    text.map_err(|error| RecordError::Io {
        op: "encode",
        path: path.to_owned(),
        source: error.into(),
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RecordError> {
    let mut text = to_json(path, value, true)?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// Writes beside the file and renames, so that a reader sees the old text or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, bytes).map_err(io("write", path))?;
    fs::rename(&temporary, path).map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_name_can_leave_its_directory(name in ".*") {
            let component = path_component(&name);
            prop_assert!(!component.contains('/') && !component.starts_with('.'));
            prop_assert!(!component.is_empty() && component.len() <= 109);
        }
    }
}
