// SPDX-License-Identifier: Apache-2.0
//! The seam between a guest and what it runs in: what has to be started, and what is known of it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use record::GuestKernel;
use tempfile::TempDir;

use super::KernelError;

/// What a guest runs.
#[derive(Clone, Debug)]
pub struct Init {
    /// Program that becomes process 1, a path on the host.
    pub program: PathBuf,
    /// Programs of the user's that cases run, paths on the host, and in the guest. A guest that does not
    /// see the host's files takes them along; one that is not there is for the case to name.
    pub others: Vec<PathBuf>,
    /// Memory of the guest, MiB.
    pub memory_mib: u32,
    /// Processors of the guest.
    pub cpus: u32,
}

impl Init {
    /// Arguments of process 1: the guest's side of the lab, at the port that the kernel's device
    /// makes (`/dev/ttyS0`, `virtio:nic2pod`).
    pub fn arguments(port: &str) -> [String; 4] {
        ["agent", "guest", "--port", port].map(str::to_owned)
    }
}

/// A guest about to be started.
#[derive(Debug)]
pub struct Boot {
    /// Process whose standard input and output are the guest's port (a stream of bytes, nothing
    /// added, nothing translated) and whose standard error is the guest's console. It ends, with
    /// all its processes, when the guest powers off, when it is killed, and when its parent dies.
    pub command: Command,
    /// Whether the process and all that it starts stay on one processor of the host.
    pub one_processor: bool,
    /// How long a guest may give no sign of life before it counts as hung.
    pub silence_max: Duration,
    /// How long it may take to its first word.
    pub boot_max: Duration,
    /// Files the guest boots from; removed when it has ended.
    pub files: Option<TempDir>,
}

/// A kernel that guests can be booted on.
pub trait Kernel: std::fmt::Debug {
    /// What the record says about it. `label` is its name in case ids, `uml-7.2.13`.
    fn facts(&self) -> &GuestKernel;

    /// Changes its name: two kernels of one run may not have the same.
    fn relabel(&mut self, label: String);

    /// Processors that suit its guests where the profile names no number.
    fn processors(&self) -> u32;

    /// Prepares a guest.
    ///
    /// # Errors
    /// Something it boots from is missing; one sentence says which and what supplies it.
    fn boot(&self, init: &Init) -> Result<Boot, KernelError>;
}
