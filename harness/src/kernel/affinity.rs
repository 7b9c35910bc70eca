// SPDX-License-Identifier: Apache-2.0
//! Which processors of the host a guest's process may use.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

/// Starts a process that stays on one processor, the last of those this thread may use: interrupts
/// are most often taken by the first. What it starts inherits that (`sched_setaffinity(2)`).
///
/// # Errors
/// The kernel refuses, or `start` fails.
pub(super) fn on_one_processor<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let allowed = sched_getaffinity(SELF)?;
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu) == Ok(true));
    let mut one = CpuSet::new();
    one.set(last.expect("a thread that runs may use a processor"))?;
    sched_setaffinity(SELF, &one)?;
    let started = start();
    sched_setaffinity(SELF, &allowed)?;
    started
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The processors that `/proc` says a process may use.
    fn allowed(status: &str) -> String {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn what_is_started_stays_on_one_processor_and_the_starter_is_free_again() {
        let before = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let child = on_one_processor(|| Command::new("cat").arg("/proc/self/status").output());
        let child = String::from_utf8(child.unwrap().stdout).unwrap();
        assert!(allowed(&child).parse::<usize>().is_ok(), "{}", allowed(&child));
        let after = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_eq!(allowed(&before), allowed(&after));
    }
}
