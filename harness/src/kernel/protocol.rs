// SPDX-License-Identifier: Apache-2.0
//! What the harness and the lab inside a guest say to each other: JSON lines over the guest's port.
//! One question at a time, each with one answer; between them the guest says that it is alive.

use std::path::PathBuf;
use std::time::Duration;

use record::{Host, Walk};
use serde::{Deserialize, Serialize};

use crate::Unavailable;
use crate::lab::{Iteration, LabError, Ready};
use crate::plan::{Case, CniKind, Mode, Profile};

/// How often a guest says that it is alive.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Longest line either side reads, bytes: an iteration's capture file fits.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 30;

/// From the harness to the guest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Makes a lab for the cases of a profile; one that was there is dropped.
    Lab(Box<LabSettings>),
    /// Which of these the guest's kernel and tools have.
    Have {
        /// Proxy modes.
        modes: Vec<Mode>,
        /// CNIs.
        cnis: Vec<CniKind>,
    },
    /// Builds and proves a case.
    Up {
        /// Number the bed is known by from now on.
        bed: u32,
        /// The case.
        case: Box<Case>,
    },
    /// Loads without measuring.
    WarmUp {
        /// Which bed.
        bed: u32,
    },
    /// Runs one iteration.
    Iterate {
        /// Which bed.
        bed: u32,
    },
    /// Takes a bed down.
    Down {
        /// Which bed.
        bed: u32,
    },
    /// Waits for the kernel to dismantle what was let go.
    Settle {
        /// Which bed.
        bed: u32,
    },
    /// Follows one request.
    Trace {
        /// The case.
        case: Box<Case>,
    },
    /// Ends the guest; has no answer.
    PowerOff,
    /// Stops what is under way; has no answer of its own.
    Cancel,
}

/// What a lab is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LabSettings {
    /// The profile.
    pub(crate) profile: Profile,
    /// Program that runs agents, a path in the guest.
    pub(crate) program: PathBuf,
    /// Whether frames are kept for a capture file.
    pub(crate) pcap: bool,
    /// Whether every site of a path is probed, to follow single requests.
    pub(crate) thorough: bool,
}

/// From the guest to the harness.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    /// First word: what the guest sees of itself.
    Booted(Box<Host>),
    /// Nothing new.
    Alive,
    /// A piece of a question was read.
    More,
    /// The answer to what has no other.
    Done,
    /// Answers of the guest's kernel and tools, in the order asked.
    Has {
        /// Proxy modes.
        modes: Vec<Result<(), Unavailable>>,
        /// CNIs.
        cnis: Vec<Result<(), Unavailable>>,
    },
    /// A bed is up.
    Ready(Box<Ready>),
    /// A bed is warm.
    Warm {
        /// What a reader of the figures has to know, so far.
        notes: Vec<String>,
    },
    /// An iteration has run.
    Iterated {
        /// Its figures.
        iteration: Box<Iteration>,
        /// What a reader of the figures has to know, so far.
        notes: Vec<String>,
    },
    /// A bed is down.
    Down {
        /// How long it took, milliseconds.
        ms: f64,
        /// Programming one Service more, milliseconds.
        add_one_ms: Option<f64>,
        /// What could not be taken down.
        errors: Vec<String>,
    },
    /// What went wrong while settling.
    Settled {
        /// One sentence each.
        errors: Vec<String>,
    },
    /// A request was followed.
    Traced {
        /// Its walk.
        walk: Box<Walk>,
        /// Its packets.
        #[serde(with = "crate::lab::bytes::optional")]
        pcap: Option<Vec<u8>>,
    },
    /// What was asked for failed.
    Failed(Failed),
}

/// A failure inside a guest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failed {
    /// The guest lacks something.
    Unavailable(Unavailable),
    /// A stop was asked for.
    Cancelled,
    /// Anything else.
    Error {
        /// One sentence.
        message: String,
        /// What the failing tool wrote to standard error.
        stderr: Option<String>,
    },
}

impl From<LabError> for Failed {
    fn from(error: LabError) -> Self {
        let stderr = error.stderr();
        match error {
            LabError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            LabError::Cancelled => Self::Cancelled,
            error => Self::Error { message: error.to_string(), stderr },
        }
    }
}

impl From<Failed> for LabError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unavailable(unavailable) => Self::Unavailable(unavailable),
            Failed::Cancelled => Self::Cancelled,
            Failed::Error { message, stderr } => Self::InGuest { message, stderr },
        }
    }
}
