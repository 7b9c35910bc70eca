// SPDX-License-Identifier: Apache-2.0
//! Cases that differ only by mode: the unit a reader compares within.

use std::collections::{BTreeSet, HashMap};

use record::{CaseRecord, Run, Status};

use crate::analysis::baseline::Baseline;
use crate::analysis::fidelity::times_count;
use crate::analysis::{baseline, kernel, mode, number};

/// What the cases of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key<'a> {
    /// Place of the run among those given.
    pub run: usize,
    /// Where the nodes lived.
    pub lab: &'a str,
    /// Kernel the lab ran on.
    pub kernel: &'a str,
    /// How pods are wired.
    pub cni: &'a str,
    /// Road and place.
    pub route: &'a str,
    /// Services programmed.
    pub services: u32,
    /// What the id says beyond the named fields, for example the measured Service's position.
    pub variant: String,
    /// Workload's name.
    pub workload: &'a str,
}

impl<'a> Key<'a> {
    /// The key of a case of the run at place `run`.
    pub fn of(run: usize, case: &'a CaseRecord) -> Self {
        Self {
            run,
            lab: &case.lab,
            kernel: &case.kernel,
            cni: &case.cni,
            route: &case.route,
            services: case.services,
            variant: variant(case),
            workload: &case.workload,
        }
    }
}

/// The parts of a case's id that its named fields do not explain, so that an axis which is only
/// in the id (`svc-1000-last`) never merges two cases into one.
fn variant(case: &CaseRecord) -> String {
    let services = format!("svc-{}", case.services);
    let datapath = format!("{}+{}", case.mode, case.cni);
    let lab = format!("{}+{}", case.lab, case.kernel);
    let known = [&case.lab, &lab, &case.kernel, &case.route, &case.workload, &services, &datapath];
    let rest = case.id.split('/').filter(|part| known.iter().all(|k| k.as_str() != *part));
    let rest = rest.map(|part| match part.strip_prefix(&services) {
        Some(tail) if tail.starts_with('-') => &tail[1..],
        _ => part.strip_prefix(&format!("{}+", case.mode)).unwrap_or(part),
    });
    rest.collect::<Vec<_>>().join("/")
}

/// Cases that differ only by mode.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What they have in common.
    pub key: Key<'a>,
    /// The run they are of.
    pub run: &'a Run,
    /// The cases in the order of [`mode::ORDER`].
    pub cases: Vec<&'a CaseRecord>,
    /// What ratios in the group are to.
    pub baseline: Option<Baseline<'a>>,
    /// One line that names it among its run's groups.
    pub title: String,
    /// The same without lab, kernel and run.
    pub plain_title: String,
}

/// One line of a chart: a case and what to call it.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// The case.
    pub case: &'a CaseRecord,
    /// Mode, and route where that is not the group's.
    pub label: String,
}

impl<'a> Group<'a> {
    /// Cases with figures.
    pub fn measured(&self) -> impl Iterator<Item = &'a CaseRecord> {
        self.cases.iter().copied().filter(|case| case.status == Status::Measured)
    }

    /// Cases with figures whose times count.
    pub fn timed(&self) -> impl Iterator<Item = &'a CaseRecord> {
        let run = self.run;
        self.measured().filter(move |case| times_count(run, case))
    }

    /// What its charts show: the floor first where it comes from another group, then its cases. Times
    /// that do not count are not drawn.
    pub fn series(&self) -> Vec<Series<'a>> {
        let floor = self.baseline.as_ref().filter(|b| !b.in_group && self.timed().count() > 0);
        let floor = floor.map(|b| Series { case: b.case, label: b.label.clone() });
        let own = self.timed().map(|case| Series { case, label: case.mode.clone() });
        floor.into_iter().chain(own).collect()
    }
}

/// The groups of all runs, in plan order.
pub fn groups(runs: &[Run]) -> Vec<Group<'_>> {
    let mut place = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for case in &run.summary.cases {
            let key = Key::of(index, case);
            let at = *place.entry(key.clone()).or_insert_with(|| {
                let (title, plain_title) = (String::new(), String::new());
                let group =
                    Group { key, run, cases: Vec::new(), baseline: None, title, plain_title };
                groups.push(group);
                groups.len() - 1
            });
            groups[at].cases.push(case);
        }
    }
    let several_labs = groups.iter().map(|g| g.key.lab).collect::<BTreeSet<_>>().len() > 1
        || kernel::any_guest(runs);
    for group in &mut groups {
        group.cases.sort_by_key(|case| mode::rank(&case.mode));
        group.baseline = baseline::choose(group);
        group.title = title(group, runs.len() > 1, several_labs);
        group.plain_title = title(group, false, false);
    }
    groups
}

fn title(group: &Group<'_>, several_runs: bool, several_labs: bool) -> String {
    let key = &group.key;
    let services = number::plural(key.services as usize, "Service", "Services");
    let mut parts = vec![key.route.to_owned(), services];
    if !key.variant.is_empty() {
        parts.push(key.variant.clone());
    }
    parts.extend([key.workload.to_owned(), key.cni.to_owned()]);
    if several_labs {
        parts.push(format!("{} on {}", key.lab, kernel::on(key.kernel)));
    }
    if several_runs {
        parts.push(format!("run {}", group.run.manifest.run_id));
    }
    number::one_line(&parts.join(" · "))
}
