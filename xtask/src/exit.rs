// SPDX-License-Identifier: Apache-2.0
//! Exit codes. README lists them; scripts rely on them.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done; skipped cases are in the record with their reasons.
    Ok = 0,
    /// A case failed, or the program is at fault.
    Failed = 1,
    /// A flag or a profile cannot be used.
    Usage = 2,
    /// No case could be measured.
    NothingRan = 4,
    /// The lab cannot be had on this machine (`EX_UNAVAILABLE` of sysexits.h).
    Unavailable = 69,
    /// Stopped by Ctrl-C; what was measured before is kept.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code of an error that ended a command.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    let usage = error.is::<harness::plan::ProfileError>()
        || error.is::<harness::plan::PlanError>()
        || error.is::<record::RecordError>()
            && !matches!(error.downcast_ref(), Some(record::RecordError::Io { op, .. }) if *op != "read");
    if usage {
        Exit::Usage
    } else if error.is::<harness::Unavailable>() || error.is::<harness::kernel::KernelError>() {
        Exit::Unavailable
    } else {
        Exit::Failed
    }
}
