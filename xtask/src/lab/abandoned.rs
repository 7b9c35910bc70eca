// SPDX-License-Identifier: Apache-2.0
//! Clusters and containers of runs that were killed.

use anyhow::Result;
use harness::docker::{Engine, RUN_LABEL, kind};
use harness::lab::kind::Kept;

/// Removes them where Docker is; returns their names. Clusters that were kept stay.
pub(super) fn remove() -> Result<Vec<String>> {
    // Without Docker there are none.
    let Ok(engine) = Engine::connect() else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for name in kind::list(&engine)? {
        // Without a control plane it is what is left of one that somebody killed at its making or removal.
        let pid = kind::look(&engine, &name)?.and_then(|cluster| cluster.control_plane().pid);
        let kept = pid.map(Kept::read).transpose()?.flatten().is_some();
        let run = name.rsplit_once('-').map_or("", |(run, _)| run);
        if !kept && !is_under_way(run) && kind::delete(&engine, &name)? > 0 {
            removed.push(format!("cluster {name}"));
        }
    }
    for host in engine.by_label(RUN_LABEL)? {
        if !is_under_way(&host.labels[RUN_LABEL]) {
            engine.remove(&host.id, true)?;
            removed.push(format!("container {}", host.name));
        }
    }
    Ok(removed)
}

/// Whether a process of ours may be the one that began a run: a run's name ends with the low half of its
/// process id. One that may be is left alone.
fn is_under_way(run: &str) -> bool {
    let Some(low) = low_half(run) else { return true };
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    processes.flatten().any(|entry| {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        pid.is_some_and(|pid| pid & 0xffff == low) && name.trim_end() == "xtask"
    })
}

fn low_half(run: &str) -> Option<u32> {
    u32::from_str_radix(run.rsplit('-').next()?, 16).ok().map(|low| low & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_whose_process_is_gone_is_not_under_way_and_a_strange_name_is_left_alone() {
        assert_eq!(low_half("nic2pod-20261125-204201-1e5f"), Some(0x1e5f));
        assert_eq!(low_half("up-13ee6"), Some(0x3ee6));
        // Process 0 is nobody's.
        assert!(!is_under_way("nic2pod-20261125-204201-0000"));
        assert!(is_under_way("somebody-elses"));
    }
}
