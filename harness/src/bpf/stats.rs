// SPDX-License-Identifier: Apache-2.0
//! What programs cost by the kernel's own count.
//!
//! The kernel counts runs and nanoseconds of every program while `kernel.bpf_stats_enabled` is set
//! or somebody holds the descriptor that `BPF_ENABLE_STATS` gives (Linux 5.8). The descriptor
//! leaves the machine's setting alone and cannot be forgotten.
#![expect(unsafe_code, reason = "the bpf system call")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::BpfError;

/// While it lives, the kernel counts. Two clock readings dearer, each run, on the whole machine:
/// not for times that count.
#[derive(Debug)]
pub struct StatsOn(#[expect(dead_code, reason = "held")] OwnedFd);

impl StatsOn {
    /// Switches counting on.
    ///
    /// # Errors
    /// `CAP_SYS_ADMIN` is missing, or the kernel is older.
    pub fn begin() -> Result<Self, BpfError> {
        // SAFETY: no pointer is passed.
        let fd = unsafe {
            libbpf_rs::libbpf_sys::bpf_enable_stats(libbpf_rs::libbpf_sys::BPF_STATS_RUN_TIME)
        };
        if fd < 0 {
            return Err(BpfError::refused("switch on", "BPF statistics")(
                io::Error::from_raw_os_error(-fd),
            ));
        }
        // SAFETY: the kernel just gave this descriptor to us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// What one program cost while counting was on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    /// Kernel's number of the program.
    pub id: u32,
    /// Times it ran.
    pub runs: u64,
    /// Time it ran, nanoseconds.
    pub time_ns: u64,
}

impl RunStats {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The descriptor is no program's.
    pub fn of(program: BorrowedFd<'_>) -> Result<Self, BpfError> {
        let mut info = libbpf_rs::libbpf_sys::bpf_prog_info::default();
        let mut bytes = size_of_val(&info) as u32;
        // SAFETY: `info` is as long as `bytes` says, and all its pointers to buffers are null.
        let code = unsafe {
            libbpf_rs::libbpf_sys::bpf_prog_get_info_by_fd(
                program.as_raw_fd(),
                &raw mut info,
                &raw mut bytes,
            )
        };
        if code < 0 {
            return Err(BpfError::refused("ask about", "a BPF program")(
                io::Error::from_raw_os_error(-code),
            ));
        }
        Ok(Self { id: info.id, runs: info.run_cnt, time_ns: info.run_time_ns })
    }
}
