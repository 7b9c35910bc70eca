// SPDX-License-Identifier: Apache-2.0
//! Cases without figures: skipped ones with the reason, failed ones with what failed.

use record::{Run, Status};

use crate::analysis::kernel::case_name;
use crate::analysis::number::plural;
use crate::analysis::skip;

/// Cases skipped for one reason.
pub(crate) struct SkipView {
    pub(crate) modes: String,
    pub(crate) cases: String,
    pub(crate) ids: Vec<String>,
    pub(crate) need: String,
    pub(crate) found: String,
    pub(crate) remedy: String,
}

/// A failed case.
pub(crate) struct FailureView {
    pub(crate) id: String,
    pub(crate) message: String,
    pub(crate) stderr: String,
}

/// All skips of the runs.
pub(crate) fn skips(runs: &[Run]) -> Vec<SkipView> {
    let view = |skip: &skip::Skip<'_>| {
        let field = |of: fn(&record::Reason) -> &String| match skip.reason {
            Some(reason) => of(reason).clone(),
            None => "not in the record, which is a bug of nic2pod".to_owned(),
        };
        let run = if runs.len() > 1 { format!(" (run {})", skip.run_id) } else { String::new() };
        SkipView {
            modes: format!("{}{run}", skip.modes.join(", ")),
            cases: plural(skip.cases.len(), "case", "cases"),
            ids: skip.cases.iter().map(|case| case.id.clone()).collect(),
            need: field(|r| &r.need),
            found: field(|r| &r.found),
            remedy: field(|r| &r.r#try),
        }
    };
    skip::skips(runs).iter().map(view).collect()
}

/// All failures of the runs.
pub(crate) fn failures(runs: &[Run]) -> Vec<FailureView> {
    let failed = runs.iter().flat_map(|run| {
        let failed = run.summary.cases.iter().filter(|c| c.status == Status::Failed);
        failed.map(move |case| (run, case))
    });
    let view = |(run, case): (&Run, &record::CaseRecord)| FailureView {
        id: case_name(runs, run, case),
        message: case.failure.as_ref().map_or_else(
            || "no cause in the record, which is a bug of nic2pod".to_owned(),
            |failure| failure.message.clone(),
        ),
        stderr: case.failure.as_ref().and_then(|f| f.stderr.clone()).unwrap_or_default(),
    };
    failed.map(view).collect()
}
