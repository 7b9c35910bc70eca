// SPDX-License-Identifier: Apache-2.0
//! The agent's own memory.

use std::io;

/// Largest resident set of the process since it was executed, bytes.
///
/// Not `ru_maxrss` of getrusage(2): that begins with what the process had before `execve()`, and
/// after a vfork that is the resident set of whoever started the agent (`fs/exec.c`, `exec_mmap`).
pub(super) fn peak_rss_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    high_water_bytes(&status).ok_or_else(|| io::Error::other("no VmHWM in /proc/self/status"))
}

/// The `VmHWM` of a `status` file: proc_pid_status(5).
fn high_water_bytes(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_kibibytes() {
        let status =
            "Name:\tload\nVmPeak:\t    9000 kB\nVmHWM:\t    5432 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(high_water_bytes(status), Some(5432 * 1024));
        assert_eq!(high_water_bytes("VmRSS:\t 1000 kB\n"), None);
    }

    #[test]
    fn the_peak_is_at_least_what_was_touched() {
        let touched = std::hint::black_box(vec![1u8; 8 << 20]);
        assert!(peak_rss_bytes().unwrap() >= touched.len() as u64);
    }
}
