// SPDX-License-Identifier: Apache-2.0
//! Where and how a run was made, and how to make it again.

use std::collections::{BTreeMap, BTreeSet};

use record::{CaseRecord, Run};

use crate::analysis::fidelity::{Notice, notices};
use crate::analysis::kernel;
use crate::analysis::number::{NONE, bytes};
use crate::render::shell;
use crate::render::view::{Fact, kernel_columns};

/// A run's method and host.
pub(crate) struct HostView {
    pub(crate) run_id: String,
    /// Which kernels its cases ran on, a sentence; empty where it has no cases.
    pub(crate) ran_on: String,
    /// Whether any of them is not the host's.
    pub(crate) guests: bool,
    pub(crate) notices: Vec<Notice>,
    pub(crate) interrupted: String,
    pub(crate) command: String,
    pub(crate) reproduce: String,
    pub(crate) asked: Vec<Fact>,
    /// What the profile asks, and how it says that its report is to be read; empty where it says nothing.
    pub(crate) question: String,
    pub(crate) about: String,
    pub(crate) facts: Vec<Fact>,
    /// A row for each thing known of them, a column for each.
    pub(crate) kernels: Vec<Vec<String>>,
    pub(crate) sysctls: Vec<Fact>,
    pub(crate) kernel_config: Vec<Fact>,
    pub(crate) tools: Vec<Fact>,
    pub(crate) profile: String,
}

impl HostView {
    pub(crate) fn new(run: &Run) -> Self {
        let manifest = &run.manifest;
        let facts_of =
            |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| Fact::new(k, v)).collect();
        Self {
            run_id: manifest.run_id.clone(),
            ran_on: kernel::sentence(run),
            guests: kernel::any_guest(std::slice::from_ref(run)),
            notices: notices(run),
            interrupted: manifest.interrupted.clone().unwrap_or_default(),
            command: shell::command(&manifest.command),
            reproduce: reproduce(run),
            asked: asked(run),
            question: said(run, "question"),
            about: said(run, "about"),
            facts: facts(run),
            kernels: kernel_columns(run),
            sysctls: facts_of(&manifest.host.sysctls),
            kernel_config: facts_of(&manifest.host.kernel_config),
            tools: manifest.tools.iter().map(|t| Fact::new(&t.name, &t.version)).collect(),
            profile: manifest.profile.clone(),
        }
    }
}

/// A text of the profile. One that is no TOML was edited by hand: it is shown as it is at the foot.
fn said(run: &Run, key: &str) -> String {
    let profile = run.manifest.profile.parse::<toml::Table>().unwrap_or_default();
    profile.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
}

fn reproduce(run: &Run) -> String {
    let command = shell::command(&run.manifest.command);
    match run.manifest.revision.as_deref() {
        Some(revision) => match revision.strip_suffix("-dirty") {
            Some(clean) => format!(
                "git checkout {clean}   # the tree had changes on top, which are not in the record\n{command}"
            ),
            None => format!("git checkout {revision}\n{command}"),
        },
        None => command,
    }
}

/// The axes of the matrix, from its cases: what was asked for, run or not.
fn asked(run: &Run) -> Vec<Fact> {
    let cases = &run.summary.cases;
    let words = |of: fn(&CaseRecord) -> &str| {
        let mut words: Vec<&str> = Vec::new();
        for case in cases {
            if !words.contains(&of(case)) {
                words.push(of(case));
            }
        }
        words.join(", ")
    };
    let services: BTreeSet<u32> = cases.iter().map(|case| case.services).collect();
    let services: Vec<String> = services.iter().map(u32::to_string).collect();
    let mut asked = vec![
        Fact::new("Proxy modes", words(|c| &c.mode)),
        Fact::new("CNIs", words(|c| &c.cni)),
        Fact::new("Routes", words(|c| &c.route)),
        Fact::new("Services", services.join(", ")),
        Fact::new("Workloads", words(|c| &c.workload)),
    ];
    if kernel::any_guest(std::slice::from_ref(run)) {
        asked.push(Fact::new("Kernels", words(|c| &c.kernel)));
    }
    asked.retain(|fact| !fact.value.is_empty());
    asked
}

fn facts(run: &Run) -> Vec<Fact> {
    let (manifest, host) = (&run.manifest, &run.manifest.host);
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
    vec![
        Fact::new("Run", &manifest.run_id),
        Fact::new("Started", &manifest.started_at),
        Fact::new("Ended", manifest.ended_at.clone().unwrap_or_else(|| "not recorded".to_owned())),
        Fact::new("Profile", &manifest.profile_name),
        Fact::new("Seed", manifest.seed.to_string()),
        Fact::new("nic2pod revision", or_none(&manifest.revision)),
        Fact::new("Host’s kernel", format!("{} {}", host.kernel_release, host.machine)),
        Fact::new("Host’s kernel, build", &host.kernel_version),
        Fact::new("Processor", format!("{} × {}", host.cpus, host.cpu_model)),
        Fact::new("Governor", or_none(&host.governor)),
        Fact::new("Memory", bytes(host.memory_bytes)),
        Fact::new("Load average at the start", format!("{:.2}", host.load_average)),
        Fact::new("Privilege", &host.privilege),
        Fact::new("Record format", format!("schema_version {}", manifest.schema_version)),
    ]
}
