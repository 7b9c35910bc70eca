// SPDX-License-Identifier: Apache-2.0
//! Failures of building a kernel.

use std::path::PathBuf;

use super::super::super::store::StoreError;
use crate::Unavailable;

/// A kernel could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The machine lacks something: tools, a source, room.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A folder is no kernel tree that can be built from.
    #[error("failed to build from {}: {found}", path.display())]
    Tree {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A fragment is none.
    #[error("failed to read {}{}: {found}", path.display(), at(*line))]
    Fragment {
        /// The file.
        path: PathBuf,
        /// Which line, from 1; 0 where it is the file as a whole.
        line: usize,
        /// What is wrong with it.
        found: String,
    },
    /// The source did not take options it has to take.
    #[error(
        "the source in {} did not take {}: it does not know them, or not without others",
        folder.display(), options.join(", ")
    )]
    NotTaken {
        /// The source's folder.
        folder: PathBuf,
        /// The options, as they were asked for.
        options: Vec<String>,
    },
    /// A program failed.
    #[error("failed at {what}: {program}: {ended}\n{}{}", tail, log_note(log.as_ref()))]
    Step {
        /// What was being done.
        what: String,
        /// The program.
        program: String,
        /// How it ended: `exit status: 2`.
        ended: String,
        /// The last lines it wrote.
        tail: String,
        /// Where more of them are.
        log: Option<PathBuf>,
    },
    /// A stop was asked for.
    #[error("stopped by Ctrl-C; nothing is kept")]
    Stopped,
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses.
    #[error("failed to {op} {}: {source}", path.display())]
    File {
        /// What was done.
        op: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!(":{line}") }
}

fn log_note(log: Option<&PathBuf>) -> String {
    log.map(|path| format!("\nmore in {}", path.display())).unwrap_or_default()
}
