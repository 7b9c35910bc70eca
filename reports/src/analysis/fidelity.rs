// SPDX-License-Identifier: Apache-2.0
//! What times may be used for, in words.

use record::{CaseRecord, Fidelity, Run};

use crate::analysis::kernel::{self, guest, on};
use crate::analysis::number::{one_line, prose_list};

/// Stands where a time would, in cases whose times mean nothing.
pub const EMULATED: &str = "emulated";

/// Its name, as the record spells it.
pub fn word(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Functional => "functional",
        Fidelity::Relative => "relative",
        Fidelity::Absolute => "absolute",
    }
}

/// What a reader may do with the times.
pub fn advice(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Functional => {
            "Made on an emulated processor: its times mean nothing. Use its counts, proofs and paths."
        }
        Fidelity::Relative => {
            "Compare within this run only. Other work shared the processor, so a time here is not \
             what your machine would show; the difference between two modes in this run is."
        }
        Fidelity::Absolute => {
            "Made on isolated cores of a quiet machine: its times hold for this machine and kernel."
        }
    }
}

/// What a case's times may be used for: its own word, else its run's; but never more than its kernel
/// allows.
pub fn of_case(run: &Run, case: &CaseRecord) -> Fidelity {
    let said = case.fidelity.unwrap_or(run.summary.fidelity);
    let allowed = guest(run, &case.kernel).map_or(said, |kernel| kernel.fidelity);
    if rank(allowed) < rank(said) { allowed } else { said }
}

fn rank(fidelity: Fidelity) -> u8 {
    match fidelity {
        Fidelity::Functional => 0,
        Fidelity::Relative => 1,
        Fidelity::Absolute => 2,
    }
}

/// Whether a case's times may be shown and compared at all.
pub fn times_count(run: &Run, case: &CaseRecord) -> bool {
    of_case(run, case) != Fidelity::Functional
}

/// A time as text, or the word that says why there is none.
pub fn or_emulated(timed: bool, text: String) -> String {
    if timed { text } else { EMULATED.to_owned() }
}

/// What to know about the times of some of a run's cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `functional`, `relative` or `absolute`.
    pub word: &'static str,
    /// Which cases, ` on kernel uml-7.2.13`; empty where it is all of the run's.
    pub of: String,
    /// What a reader may do, and why.
    pub advice: String,
}

/// A notice for each fidelity that a run's cases have; for the run as a whole where it has no cases.
pub fn notices(run: &Run) -> Vec<Notice> {
    let mut kinds: Vec<(Fidelity, Vec<&str>)> = Vec::new();
    for label in kernel::of_run(run) {
        for case in run.summary.cases.iter().filter(|case| case.kernel == label) {
            let fidelity = of_case(run, case);
            match kinds.iter_mut().find(|(known, _)| *known == fidelity) {
                Some((_, labels)) if labels.contains(&label) => {}
                Some((_, labels)) => labels.push(label),
                None => kinds.push((fidelity, vec![label])),
            }
        }
    }
    if kinds.is_empty() {
        kinds.push((run.summary.fidelity, Vec::new()));
    }
    let several = kinds.len() > 1;
    let notice = |(fidelity, labels): &(Fidelity, Vec<&str>)| {
        let names: Vec<String> = labels.iter().map(|label| on(label)).collect();
        let of = if several { format!(" on {}", prose_list(&names)) } else { String::new() };
        let why = labels.iter().filter_map(|label| why(run, label, *fidelity));
        let advice = std::iter::once(advice(*fidelity).to_owned()).chain(why);
        Notice { word: word(*fidelity), of, advice: advice.collect::<Vec<_>>().join(" ") }
    };
    kinds.iter().map(notice).collect()
}

/// What about a guest's kernel makes its times what they are.
fn why(run: &Run, label: &str, fidelity: Fidelity) -> Option<String> {
    let guest = guest(run, label)?;
    let name = one_line(label);
    match (guest.kind.as_str(), fidelity) {
        ("uml", _) => Some(format!(
            "{name} is a process: each system call in it takes several of the host’s, so a request \
             costs several times what it does on the host’s kernel. Times of it say something beside \
             other times of the same run, and nothing beside those of another run."
        )),
        (_, Fidelity::Functional) => Some(match &guest.accelerator_reason {
            Some(reason) => {
                format!("{name} has no better processor here because {}.", one_line(reason))
            }
            None => format!("{name} was given no other processor."),
        }),
        _ => None,
    }
}
