// SPDX-License-Identifier: Apache-2.0
//! What the ratios of a group are to.

use record::{CaseRecord, Status};

use crate::analysis::fidelity::times_count;
use crate::analysis::group::{Group, Key};

/// The case that reads ×1.
#[derive(Clone, Debug)]
pub struct Baseline<'a> {
    /// The case.
    pub case: &'a CaseRecord,
    /// What to call it: its mode, and its route where that is not the group's.
    pub label: String,
    /// Whether it is a case of the group itself.
    pub in_group: bool,
}

/// `none` in the group; or else the nearest `none` of the same run, lab, CNI, workload and backend's
/// place (the pod's address has a route of its own, and no Services to count); or else iptables. Always
/// on the group's own kernel, and never a case whose times do not count.
pub fn choose<'a>(group: &Group<'a>) -> Option<Baseline<'a>> {
    let own = |mode: &str| {
        let case = group.timed().find(|case| case.mode == mode)?;
        Some(Baseline { case, label: mode.to_owned(), in_group: true })
    };
    own("none").or_else(|| floor(group)).or_else(|| own("iptables"))
}

fn floor<'a>(group: &Group<'a>) -> Option<Baseline<'a>> {
    let key = &group.key;
    let candidates = group.run.summary.cases.iter().filter(|case| {
        case.mode == "none" && case.status == Status::Measured && times_count(group.run, case) && {
            let other = Key::of(key.run, case);
            (other.lab, other.kernel, other.cni, other.workload)
                == (key.lab, key.kernel, key.cni, key.workload)
                && place(other.route) == place(key.route)
        }
    });
    let case = candidates.min_by_key(|case| {
        (case.route != key.route, case.services.abs_diff(key.services), case.id.as_str())
    })?;
    let label =
        if case.route == key.route { "none".to_owned() } else { format!("none ({})", case.route) };
    Some(Baseline { case, label, in_group: false })
}

/// Where the backend is: the last part of a route.
fn place(route: &str) -> &str {
    route.rsplit('-').next().unwrap_or(route)
}

/// `value` as a multiple of `base`; none where the base is zero.
pub fn ratio(value: u64, base: u64) -> Option<f64> {
    (base > 0).then(|| value as f64 / base as f64)
}
