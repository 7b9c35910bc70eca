// SPDX-License-Identifier: Apache-2.0
//! Reads a run directory.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::writer::case_path;
use crate::{Histogram, Manifest, RecordError, SCHEMA_VERSION, Summary, Walk, path_component};

/// Largest `walks.json` that is read, bytes: hundreds of walks through the longest path take less.
pub const WALKS_BYTES_MAX: u64 = 64 << 20;

/// A run read back. Histograms are read when asked for.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where it was read from.
    pub dir: PathBuf,
    /// Where and how it was made.
    pub manifest: Manifest,
    /// Its figures.
    pub summary: Summary,
}

#[derive(Deserialize)]
struct Versioned {
    schema_version: u32,
}

impl Run {
    /// Reads the manifest and the summary of the run in `dir`.
    ///
    /// # Errors
    /// Files missing, cut short, edited into something else, or of a newer format.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        Ok(Self {
            dir: dir.to_owned(),
            manifest: read_versioned(&dir.join("manifest.json"))?,
            summary: read_versioned(&dir.join("summary.json"))?,
        })
    }

    /// A case's distribution by name; `None` when the case did not record it.
    ///
    /// # Errors
    /// The file is there but unreadable.
    pub fn histogram(&self, case_id: &str, name: &str) -> Result<Option<Histogram>, RecordError> {
        let file = format!("{}.histogram.json", path_component(name));
        let path = self.dir.join("cases").join(case_path(case_id)).join(file);
        if !path.exists() {
            return Ok(None);
        }
        parse(&path, &read(&path)?).map(Some)
    }

    /// A case's walks, in the order they were kept; none when the case kept none.
    ///
    /// # Errors
    /// The file is there but unreadable, or larger than [`WALKS_BYTES_MAX`].
    pub fn walks(&self, case_id: &str) -> Result<Vec<Walk>, RecordError> {
        let path = self.dir.join("cases").join(case_path(case_id)).join("walks.json");
        if !path.exists() {
            return Ok(Vec::new());
        }
        parse(&path, &read_bounded(&path, WALKS_BYTES_MAX)?)
    }
}

/// Reads a file of at most `bytes_max` bytes. What is read is bounded, not what a file claims to be.
fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, RecordError> {
    let io = |source| RecordError::Io { op: "read", path: path.to_owned(), source };
    let mut text = String::new();
    let mut file = File::open(path).map_err(io)?.take(bytes_max + 1);
    if let Err(error) = file.read_to_string(&mut text) {
        // A character cut in two by the bound is not what is wrong with the file.
        if file.limit() > 0 {
            return Err(io(error));
        }
        return Err(RecordError::TooLarge { path: path.to_owned(), bytes_max });
    }
    if text.len() as u64 > bytes_max {
        return Err(RecordError::TooLarge { path: path.to_owned(), bytes_max });
    }
    Ok(text)
}

fn read(path: &Path) -> Result<String, RecordError> {
    fs::read_to_string(path).map_err(|source| RecordError::Io {
        op: "read",
        path: path.to_owned(),
        source,
    })
}

fn read_versioned<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let text = read(path)?;
    // The version first, so that a newer format is named as such and not as a missing field.
    let Versioned { schema_version } = parse(path, &text)?;
    if schema_version > SCHEMA_VERSION {
        return Err(RecordError::TooNew {
            path: path.to_owned(),
            found: schema_version,
            supported: SCHEMA_VERSION,
        });
    }
    parse(path, &text)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, RecordError> {
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(deserializer).map_err(|error| RecordError::Malformed {
        path: path.to_owned(),
        key: error.path().to_string(),
        message: error.into_inner().to_string(),
    })
}
