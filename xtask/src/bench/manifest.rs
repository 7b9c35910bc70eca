// SPDX-License-Identifier: Apache-2.0
//! The run's name and the manifest's facts.

use std::process::Command;

use super::ground::Grounds;
use harness::net::Netns;
use harness::plan::{Profile, Proxy};
use harness::proxy::Program;
use record::{Fidelity, GuestKernel, Manifest, Tool};

/// A manifest under way.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) run_id: String,
    pub(super) fidelity: Fidelity,
    pub(super) manifest: Manifest,
}

impl Made {
    /// Looks at the machine now, before anything loads it.
    pub(super) fn new(profile: &Profile, ground: &Grounds, run_id: String) -> Self {
        let now = jiff::Zoned::now();
        let host = harness::host::host(ground.privilege());
        let manifest = Manifest {
            schema_version: record::SCHEMA_VERSION,
            run_id: run_id.clone(),
            started_at: now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            ended_at: None,
            command: command(),
            profile_name: profile.name.clone(),
            profile: profile.resolved(),
            seed: profile.seed,
            revision: revision(),
            kernels: ground.kernels(),
            tools: harness::host::tools().into_iter().chain(kube_proxy(profile)).collect(),
            host,
            interrupted: None,
        };
        let fidelity = ground.fidelity().unwrap_or_else(|| harness::host::fidelity(&manifest.host));
        Self { run_id, fidelity, manifest }
    }

    /// The manifest of a run that has ended.
    pub(super) fn ended(self, interrupted: Option<String>, kernels: Vec<GuestKernel>) -> Manifest {
        let ended_at = Some(jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
        Manifest { ended_at, interrupted, kernels, ..self.manifest }
    }
}

/// The program that stands in for our own rules, where one does. What it lacks is the cases' to say.
fn kube_proxy(profile: &Profile) -> Option<Tool> {
    let wanted = profile.matrix.proxy.contains(&Proxy::KubeProxy);
    let path = profile.service.kube_proxy.as_ref().filter(|_| wanted)?;
    let program = Program::find(path, &Netns::here("question").ok()?).ok()?;
    let Program { path, sha256, version, .. } = program;
    let version = format!("{version}, {}, sha256 {sha256}", path.display());
    Some(Tool { name: "kube-proxy".to_owned(), version })
}

/// A run's name. Two runs may start in the same second: the process id tells them apart.
pub(super) fn run_id() -> String {
    let now = jiff::Zoned::now();
    format!("{}-{:04x}", now.strftime("%Y%m%d-%H%M%S"), std::process::id() & 0xffff)
}

/// The command as a person types it again.
fn command() -> Vec<String> {
    ["cargo".to_owned(), "xtask".to_owned()].into_iter().chain(std::env::args().skip(1)).collect()
}

fn revision() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(crate::root::workspace())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
