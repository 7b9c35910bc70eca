// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask compare`: A against B, with a word for every metric.

pub(crate) mod commit;
pub(crate) mod inside;
pub(crate) mod output;
pub(crate) mod records;
pub(crate) mod revisions;

use anyhow::{Result, bail};
use reports::judge::{Comparison, Terms};

use crate::cli::{BenchArgs, CompareArgs, JudgeArgs, LabKind};
use crate::exit::Exit;

/// What a comparison came to.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) terms: Terms,
    /// How the measuring ended, where it did not end well.
    pub(crate) ended: Exit,
}

/// A flag that cannot be used as it was.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Runs the command.
pub(crate) fn run(args: &CompareArgs) -> Result<Exit> {
    let judged = judge(args)?;
    output::write(&judged, &args.judge.output, args.bench.json)?;
    Ok(judged.ended)
}

/// Compares what the arguments name.
///
/// # Errors
/// They do not name two sides, or the sides cannot be compared.
pub(crate) fn judge(args: &CompareArgs) -> Result<Judged> {
    let terms = terms(&args.judge)?;
    match (args.sides.as_slice(), args.rev.as_slice()) {
        ([a, b], []) => records::compare(a, b, terms),
        ([], [a, b]) => revisions::compare(args, [a, b], terms),
        ([], []) => inside::compare(args, terms),
        ([], _) => bail!(UsageError("--rev wants two revisions: --rev main --rev HEAD".into())),
        _ => bail!(UsageError("two runs (or cases) are compared, or two --rev, or modes".into())),
    }
}

/// The flag for runs in processes of their own; they are of the machine's own labs only.
///
/// # Errors
/// Another lab was asked for, or a folder, which runs that are read and removed have not.
pub(crate) fn lab_flag(args: &BenchArgs) -> Result<&'static [&'static str], UsageError> {
    if args.out.is_some() {
        return Err(UsageError("--out: the runs of two revisions are not kept".into()));
    }
    match args.lab.as_slice() {
        [LabKind::Netns] => Ok(&["--lab", "netns"]),
        [LabKind::Fake] => Ok(&["--lab", "fake"]),
        _ => Err(UsageError("--lab: revisions and self-tests are measured in lab netns".into())),
    }
}

pub(crate) fn terms(args: &JudgeArgs) -> Result<Terms> {
    let within = |name: &str, value: f64, most: f64| {
        if value > 0.0 && value < most {
            return Ok(value);
        }
        Err(UsageError(format!("--{name}: {value} is not above 0 and below {most}")))
    };
    Ok(Terms {
        alpha: within("alpha", args.alpha, 0.5)?,
        minimum_effect: within("minimum-effect", args.minimum_effect, 1.0)?,
        ..Terms::default()
    })
}
