// SPDX-License-Identifier: Apache-2.0
//! Exit codes. README lists them; scripts rely on them.

use std::process::ExitCode;

use harness::kernel::store::StoreError;
use harness::kernel::uml::build::BuildError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done; skipped cases are in the record with their reasons.
    Ok = 0,
    /// A case failed, or the program is at fault.
    Failed = 1,
    /// A flag or a profile cannot be used.
    Usage = 2,
    /// A gate found a regression.
    Regression = 3,
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

/// A name, a path or a file that `lab kernel` was given and cannot use.
fn kernel_usage(error: &anyhow::Error) -> bool {
    let store = match error.downcast_ref() {
        Some(BuildError::Tree { .. } | BuildError::Fragment { .. }) => return true,
        Some(BuildError::Store(store)) => Some(store),
        _ => error.downcast_ref(),
    };
    matches!(
        store,
        Some(
            StoreError::Unknown { .. }
                | StoreError::Ambiguous { .. }
                | StoreError::Malformed { .. }
                | StoreError::File { op: "find" | "run", .. }
        )
    )
}

/// The exit code of an error that ended a command.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    let usage = error.is::<harness::plan::ProfileError>()
        || error.is::<harness::plan::PlanError>()
        || error.is::<crate::compare::UsageError>()
        || error.is::<record::RecordError>()
            && !matches!(error.downcast_ref(), Some(record::RecordError::Io { op, .. }) if *op != "read");
    if usage || kernel_usage(error) {
        Exit::Usage
    } else if crate::kernels::lacking(error).is_some()
        || error.is::<harness::kernel::KernelError>()
        || matches!(error.downcast_ref(), Some(BuildError::Unavailable(_)))
    {
        Exit::Unavailable
    } else if matches!(error.downcast_ref(), Some(BuildError::Stopped)) {
        Exit::Interrupted
    } else {
        Exit::Failed
    }
}
