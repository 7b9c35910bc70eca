// SPDX-License-Identifier: Apache-2.0
//! Reads a run directory.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::writer::case_path;
use crate::{Histogram, Manifest, RecordError, SCHEMA_VERSION, Summary, path_component};

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
