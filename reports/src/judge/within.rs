// SPDX-License-Identifier: Apache-2.0
//! The comparisons that lie in one run: the first case of each group with the others.

use record::{CaseRecord, Run, Status};

use crate::analysis::fidelity::times_count;
use crate::judge::comparison::Times;
use crate::judge::{Comparison, Replicates, Terms, judge};

/// Ending of a workload that is another one again: A beside A.
pub const AGAIN: &str = "-again";

/// The comparisons of a run whose cases have blocks; none of other runs.
pub fn within(run: &Run, terms: &Terms) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    let measured = |case: &&CaseRecord| case.status == Status::Measured && !case.blocks.is_empty();
    let cases: Vec<&CaseRecord> = run.summary.cases.iter().filter(measured).collect();
    for group in cases.chunk_by(|a, b| common(a) == common(b)) {
        let Some((a, others)) = group.split_first() else { continue };
        let title = common(a).join(" ");
        for b in others {
            let times = match times_count(run, a) && times_count(run, b) {
                true => Times::Judged,
                false => Times::NotJudged("the kernel's processor is emulated".to_owned()),
            };
            let [label_a, label_b] = [a, b].map(|case| {
                let again = if case.workload.ends_with(AGAIN) { ", again" } else { "" };
                match a.kernel == b.kernel {
                    true => format!("{}{again}", case.mode),
                    false => format!("{} on {}{again}", case.mode, case.kernel),
                }
            });
            let (of_a, of_b) = (Replicates::of_case(label_a, a), Replicates::of_case(label_b, b));
            comparisons.push(judge(&title, &of_a, &of_b, terms, &times));
        }
    }
    comparisons
}

/// What the cases of a group have in common.
fn common(case: &CaseRecord) -> [String; 5] {
    let position = case.id.split('/').nth(3).unwrap_or_default().to_owned();
    let workload = case.workload.strip_suffix(AGAIN).unwrap_or(&case.workload).to_owned();
    [case.lab.clone(), case.cni.clone(), case.route.clone(), position, workload]
}
