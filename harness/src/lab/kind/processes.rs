// SPDX-License-Identifier: Apache-2.0
//! Processes of a node's containers, as the machine sees them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Process that a container of a node started with. The machine sees a node's control groups below
/// those of the node's own container, with the ids that the node's container runtime gave
/// (`cgroups(7)`, `/proc/PID/cgroup`); of several processes the lowest is the first.
pub(super) fn of_container(id: &str) -> io::Result<Option<u32>> {
    let mut first = None;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that has ended meanwhile is none of the container's.
        let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { continue };
        if groups.contains(id) && first.is_none_or(|first| pid < first) {
            first = Some(pid);
        }
    }
    Ok(first)
}

/// Network namespace of a process.
pub(super) fn netns_of(pid: u32) -> io::Result<OwnedFd> {
    Ok(fs::File::open(format!("/proc/{pid}/ns/net"))?.into())
}

/// A path as a process sees it.
pub(super) fn inside(pid: u32, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_not_there_has_no_process() {
        assert_eq!(of_container("0123456789abcdef-no-such-container").unwrap(), None);
    }

    #[test]
    fn a_process_has_a_namespace_and_a_root() {
        let own = std::process::id();
        netns_of(own).unwrap();
        assert!(inside(own, "etc").is_dir());
    }
}
