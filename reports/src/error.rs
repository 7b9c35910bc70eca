// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a record and its report.

use std::path::PathBuf;

/// Failure to write a report. A chart of a page that cannot be drawn is not one: the
/// page says why instead.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system said no: a full disk, a missing directory, a permission.
    #[error("failed to {op} {path}: {source}")]
    Io {
        /// What was being done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The page's template refused.
    #[error("failed to fill in the report's template: {source}")]
    Template {
        /// What the template engine said.
        source: askama::Error,
    },
    /// A chart that is all there is to be written.
    #[error("failed to draw {file}: {problem}")]
    Draw {
        /// Its file.
        file: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// The fonts the charts are lettered with are not readable.
    #[error("failed to load the bundled font {name}; the build of this binary is damaged")]
    Font {
        /// File of the font.
        name: &'static str,
    },
}
