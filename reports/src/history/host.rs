// SPDX-License-Identifier: Apache-2.0
//! Runs of one machine and profile: what may stand on one line.

use record::Run;

/// Runs that were made alike. A record names no machine, so two of the same model, memory and kernel
/// are taken for one.
#[derive(Clone, Debug)]
pub struct Hosted<'a> {
    /// One line that says what they have in common.
    pub title: String,
    /// Oldest first; at least one.
    pub runs: Vec<&'a Run>,
}

/// What runs on one line have in common: machine, kernel, rights and profile.
fn key(run: &Run) -> [String; 6] {
    let host = &run.manifest.host;
    [
        host.cpu_model.clone(),
        host.cpus.to_string(),
        (host.memory_bytes >> 30).to_string(),
        format!("{} {}", host.kernel_release, host.machine),
        host.privilege.clone(),
        run.manifest.profile_name.clone(),
    ]
}

/// Splits runs by machine, kernel and profile, in the order of their first runs.
pub fn hosts(runs: &[Run]) -> Vec<Hosted<'_>> {
    let mut hosts: Vec<([String; 6], Vec<&Run>)> = Vec::new();
    for run in runs {
        let key = key(run);
        match hosts.iter_mut().find(|(other, _)| *other == key) {
            Some((_, runs)) => runs.push(run),
            None => hosts.push((key, vec![run])),
        }
    }
    let title = |[cpu, cpus, memory, kernel, privilege, profile]: [String; 6]| {
        format!("{cpus} × {cpu}, {memory} GiB, Linux {kernel}, {privilege}, profile {profile}")
    };
    hosts.into_iter().map(|(key, runs)| Hosted { title: title(key), runs }).collect()
}
