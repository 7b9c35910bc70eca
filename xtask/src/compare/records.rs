// SPDX-License-Identifier: Apache-2.0
//! Two records, or two cases of records.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use record::{CaseRecord, Fidelity, Run, Status};
use reports::analysis::fidelity;
use reports::judge::comparison::Times;
use reports::judge::metric::Replicates;
use reports::judge::{Comparison, Terms, judge};

use super::{Judged, UsageError};
use crate::exit::Exit;

/// A run, and the case of it that was named.
struct Side {
    run: Run,
    case: Option<String>,
}

/// Compares two runs' cases, which have to be the same ones, or two cases.
pub(super) fn compare(a: &Path, b: &Path, terms: Terms) -> Result<Judged> {
    let (a, b) = (open(a)?, open(b)?);
    let comparisons = match (&a.case, &b.case) {
        (None, None) => runs(&a.run, &b.run, &terms)?,
        (Some(of_a), Some(of_b)) => vec![cases(&a.run, of_a, &b.run, of_b, &terms)?],
        _ => bail!(UsageError("a run cannot be compared with a case: name two of a kind".into())),
    };
    Ok(Judged { comparisons, terms: Terms { looks: 1, ..terms }, ended: Exit::Ok })
}

/// A run's folder, or that of one of its cases.
fn open(path: &Path) -> Result<Side> {
    if !path.join("case.json").exists() || path.join("manifest.json").exists() {
        return Ok(Side { run: Run::open(path)?, case: None });
    }
    let path = path.canonicalize()?;
    let root: Option<PathBuf> =
        path.ancestors().find(|folder| folder.join("manifest.json").exists()).map(Into::into);
    let Some(root) = root else {
        bail!(UsageError(format!("{} is in no run's folder", path.display())));
    };
    let text = std::fs::read_to_string(path.join("case.json"))?;
    let case: serde_json::Value = serde_json::from_str(&text)?;
    let Some(id) = case.get("id").and_then(|id| id.as_str()) else {
        bail!(UsageError(format!("{}/case.json names no case", path.display())));
    };
    Ok(Side { run: Run::open(&root)?, case: Some(id.to_owned()) })
}

/// All cases of two runs.
///
/// # Errors
/// They are not the same cases, or were made on different kernels.
pub(crate) fn runs(a: &Run, b: &Run, terms: &Terms) -> Result<Vec<Comparison>> {
    let ids = |run: &Run| -> Vec<String> {
        let measured = run.summary.cases.iter().filter(|case| case.status == Status::Measured);
        let mut ids: Vec<String> = measured.map(|case| case.id.clone()).collect();
        ids.sort();
        ids
    };
    let (of_a, of_b) = (ids(a), ids(b));
    if of_a != of_b {
        let only = |these: &[String], those: &[String], name: &str| {
            let more: Vec<_> = these.iter().filter(|id| !those.contains(id)).collect();
            more.first().map(|first| format!("{} of {name} only, {first} for one", more.len()))
        };
        let parts = [only(&of_a, &of_b, "A"), only(&of_b, &of_a, "B")];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        bail!(UsageError(format!("the runs measured different cases: {}", parts.join("; "))));
    }
    if of_a.is_empty() {
        bail!(UsageError("neither run measured a case".into()));
    }
    same_kernels(a, b)?;
    of_a.iter().map(|id| cases(a, id, b, id, terms)).collect()
}

/// A count differs between kernels for reasons of its own, a time even more.
fn same_kernels(a: &Run, b: &Run) -> Result<()> {
    let kernels = |run: &Run| {
        let mut all =
            vec![format!("{} {}", run.manifest.host.kernel_release, run.manifest.host.machine)];
        all.extend(run.manifest.kernels.iter().map(|kernel| kernel.label.clone()));
        all.join(", ")
    };
    let (of_a, of_b) = (kernels(a), kernels(b));
    if of_a != of_b {
        bail!(UsageError(format!("the runs are of different kernels: {of_a} and {of_b}")));
    }
    Ok(())
}

fn cases(a: &Run, id_a: &str, b: &Run, id_b: &str, terms: &Terms) -> Result<Comparison> {
    let find = |run: &Run, id: &str| -> Result<CaseRecord> {
        match run.summary.cases.iter().find(|case| case.id == id) {
            Some(case) if case.status == Status::Measured => Ok(case.clone()),
            Some(_) => bail!(UsageError(format!("{id} was not measured"))),
            None => bail!(UsageError(format!("no case {id} in {}", run.dir.display()))),
        }
    };
    let (of_a, of_b) = (find(a, id_a)?, find(b, id_b)?);
    let one_run = a.manifest.run_id == b.manifest.run_id;
    if !one_run {
        same_kernels(a, b)?;
    }
    let side_by_side = one_run && same_group(&of_a, &of_b);
    let terms = Terms { paired: side_by_side, looks: 1, ..*terms };
    let times = times(a, &of_a, b, &of_b, side_by_side);
    let (label_a, label_b) = match (one_run, id_a == id_b) {
        (true, _) => (id_a.to_owned(), id_b.to_owned()),
        (_, true) => (a.manifest.run_id.clone(), b.manifest.run_id.clone()),
        _ => (
            format!("{} of {}", id_a, a.manifest.run_id),
            format!("{} of {}", id_b, b.manifest.run_id),
        ),
    };
    let title = if id_a == id_b { id_a.to_owned() } else { format!("{id_a} and {id_b}") };
    let (of_a, of_b) = (Replicates::of_case(label_a, &of_a), Replicates::of_case(label_b, &of_b));
    Ok(judge(&title, &of_a, &of_b, &terms, &times))
}

/// Cases that differ in mode and kernel only took turns.
fn same_group(a: &CaseRecord, b: &CaseRecord) -> bool {
    let key = |case: &CaseRecord| {
        let rest: Vec<String> = case.id.split('/').skip(2).map(str::to_owned).collect();
        (case.lab.clone(), case.cni.clone(), rest)
    };
    key(a) == key(b)
}

fn times(a: &Run, of_a: &CaseRecord, b: &Run, of_b: &CaseRecord, side_by_side: bool) -> Times {
    if !(fidelity::times_count(a, of_a) && fidelity::times_count(b, of_b)) {
        return Times::NotJudged("the kernel's processor is emulated".to_owned());
    }
    let absolute = [(a, of_a), (b, of_b)]
        .iter()
        .all(|(run, case)| fidelity::of_case(run, case) == Fidelity::Absolute);
    let one_machine = a.manifest.host.cpu_model == b.manifest.host.cpu_model
        && a.manifest.host.cpus == b.manifest.host.cpus;
    match (side_by_side, absolute && one_machine) {
        (true, _) | (_, true) => Times::Judged,
        _ => Times::NotJudged(
            "the two were not measured side by side, and the machine's other work may have changed \
             in between (fidelity relative)"
                .to_owned(),
        ),
    }
}
