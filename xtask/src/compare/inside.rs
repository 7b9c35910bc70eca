// SPDX-License-Identifier: Apache-2.0
//! Modes (or kernels) of one run against each other: blocks until nothing is undecided, or the time
//! is up.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::plan::{Case, Plan, Profile};
use harness::run::Progress;
use record::{Run, Status};
use reports::judge::comparison::Times;
use reports::judge::looks::looks;
use reports::judge::metric::Replicates;
use reports::judge::within::{AGAIN, within};
use reports::judge::{Terms, judge};

use super::{Judged, UsageError};
use crate::bench::{self, overrides};
use crate::cli::CompareArgs;
use crate::exit::Exit;

/// Most blocks of a case; the budget ends long before.
const BLOCKS_MAX: u32 = 10_000;

/// Measures and compares the first case of each group with the others.
pub(super) fn compare(args: &CompareArgs, terms: Terms) -> Result<Judged> {
    let mut profile = overrides::profile(&args.bench, "gate")?;
    profile.run.blocks = BLOCKS_MAX;
    profile.run.unprobed = false;
    if args.judge.again {
        add_twins(&mut profile);
    }
    let plan = Plan::new(&profile, &[harness::plan::HOST_KERNEL])?;
    let sides = plan.groups.iter().map(|group| group.cases.len()).max().unwrap_or_default();
    if sides * profile.matrix.kernel.len() + usize::from(args.judge.again) < 2 {
        bail!(UsageError("one mode is nothing to compare: --mode A,B, or --a-a".into()));
    }
    if let Some(exit) = bench::of_clusters(&args.bench)? {
        return Ok(Judged { comparisons: Vec::new(), terms, ended: exit });
    }
    let budget = args.judge.budget.0 / u32::try_from(plan.groups.len().max(1)).unwrap_or(u32::MAX);
    let mut clock = BlockClock::new(budget);
    let again = args.judge.again;
    let shape = |plan: Plan| if again { with_twins(plan) } else { plan };
    let measured = bench::measure(&args.bench, &profile, &shape, &mut |progress| {
        clock.enough(progress, |blocks, looks| decided(blocks, &Terms { looks, ..terms }))
    })?;
    let terms = Terms { looks: clock.planned, ..terms };
    let run = Run::open(&measured.dir)?;
    reports::render(std::slice::from_ref(&run), &measured.dir)?;
    eprintln!("report: {}", measured.dir.join("report.html").display());
    let comparisons = within(&run, &terms);
    let ended = match (measured.interrupted, comparisons.is_empty()) {
        (true, _) => Exit::Interrupted,
        (_, true) => Exit::NothingRan,
        _ if run.summary.cases.iter().any(|case| case.status == Status::Failed) => Exit::Failed,
        _ => Exit::Ok,
    };
    Ok(Judged { comparisons, terms, ended })
}

/// The first workload of each group's cases again, under a second name.
fn add_twins(profile: &mut Profile) {
    for name in profile.matrix.workload.clone() {
        if let Some(workload) = profile.workload.get(&name).cloned() {
            profile.workload.insert(format!("{name}{AGAIN}"), workload);
        }
    }
}

/// Puts the first case of each group into it twice: A against A.
fn with_twins(mut plan: Plan) -> Plan {
    for group in &mut plan.groups {
        let first = group.cases[0].clone();
        let workload = format!("{}{AGAIN}", first.workload);
        group.cases.insert(1, Case { workload, ..first });
    }
    plan
}

fn decided(progress: &[Progress<'_>], terms: &Terms) -> bool {
    let Some((a, others)) = progress.split_first() else { return true };
    let a = Replicates::of_blocks(a.case, a.blocks);
    others.iter().all(|b| {
        let b = Replicates::of_blocks(b.case, b.blocks);
        !judge("", &a, &b, terms, &Times::Judged).is_undecided()
    })
}

/// When to look, and when to stop.
#[derive(Debug)]
pub(crate) struct BlockClock {
    budget: Duration,
    began: Option<Instant>,
    looks: Vec<usize>,
    /// Most looks that any group was to have.
    planned: u32,
}

impl BlockClock {
    pub(crate) fn new(budget: Duration) -> Self {
        Self { budget, began: None, looks: Vec::new(), planned: 1 }
    }

    /// Asked after each block of a group. The looks are laid down after the first block, from the time
    /// it took and nothing it measured.
    pub(crate) fn enough(
        &mut self,
        progress: &[Progress<'_>],
        decided: impl FnOnce(&[Progress<'_>], u32) -> bool,
    ) -> bool {
        let blocks = progress.iter().map(|case| case.blocks.len()).min().unwrap_or_default();
        if blocks <= 1 {
            // The clock starts with the second block: the first one of a group has caches to fill.
            self.began = Some(Instant::now());
            self.looks.clear();
            return false;
        }
        let elapsed = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        let per_block = elapsed / u32::try_from(blocks - 1).unwrap_or(u32::MAX);
        if self.looks.is_empty() {
            let fit = self.budget.as_nanos() / per_block.as_nanos().max(1);
            let fit = usize::try_from(fit).unwrap_or(usize::MAX).clamp(2, BLOCKS_MAX as usize);
            self.looks = looks(fit);
            self.planned = self.planned.max(self.looks.len() as u32);
        }
        elapsed + per_block > self.budget
            || (self.looks.contains(&blocks) && decided(progress, self.planned))
            || self.looks.last().is_some_and(|&last| blocks >= last)
    }
}
