// SPDX-License-Identifier: Apache-2.0
//! Failure of a capture.

use std::io;

use crate::Unavailable;

/// Packets could not be captured, or what was captured must not be used.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// This machine or user cannot tap interfaces at all.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The kernel refused.
    #[error("failed to {op} {subject}: {source}")]
    Os {
        /// What was being done.
        op: &'static str,
        /// To what: `node1/eth0`.
        subject: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// Settings that contradict each other or the kernel's limits.
    #[error("failed to set up taps: {0}")]
    Options(String),
    /// Frames that the kernel counted did not turn up in the ring.
    #[error("failed to drain {tap}: {missing} frames did not arrive within {waited_ms} ms")]
    Stalled {
        /// Tap.
        tap: String,
        /// Frames counted and not seen.
        missing: u64,
        /// How long they were waited for.
        waited_ms: u64,
    },
    /// An interface went down or away while it was listened on.
    #[error("failed to listen on {tap}: {source}")]
    Gone {
        /// Tap.
        tap: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The wall clock was set while packets were stamped by it.
    #[error(
        "failed to place packets in time: the wall clock was moved by {moved_ns} ns during the \
         capture; stop what sets it and run again"
    )]
    ClockStepped {
        /// By how much it moved against CLOCK_MONOTONIC.
        moved_ns: i64,
    },
    /// The thread that reads the rings ended before it was told to.
    #[error("failed to read the rings: the reader ended{0}")]
    ReaderEnded(String),
    /// BPF programs could not be loaded, linked or asked.
    #[cfg(feature = "bpf")]
    #[error(transparent)]
    Bpf(#[from] crate::bpf::BpfError),
    /// The capture file could not be written.
    #[error("failed to write packets as pcapng: {0}")]
    Pcap(#[from] pcap_file::PcapError),
}

/// An error with all its causes, in one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl CaptureError {
    pub(super) fn os(
        op: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.into();
        move |source| Self::Os { op, subject, source }
    }
}
