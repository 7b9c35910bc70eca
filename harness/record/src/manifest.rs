// SPDX-License-Identifier: Apache-2.0
//! `manifest.json`: where and how a run was made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::GuestKernel;

/// Where and how a run was made. Enough to make it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Name of the run.
    pub run_id: String,
    /// Start, RFC 3339 with offset.
    pub started_at: String,
    /// End; absent while the run goes on or when it was killed.
    pub ended_at: Option<String>,
    /// Command line as typed.
    pub command: Vec<String>,
    /// Profile's name.
    pub profile_name: String,
    /// Profile with every default filled in, as TOML.
    pub profile: String,
    /// Seed of every random choice: same seed, same plan.
    pub seed: u64,
    /// Git revision of nic2pod, with `-dirty` where the tree had changes.
    pub revision: Option<String>,
    /// The machine.
    pub host: Host,
    /// Kernels of its own that the lab ran on; none where all cases ran on the host's.
    #[serde(default)]
    pub kernels: Vec<GuestKernel>,
    /// Versions of the tools the run called.
    pub tools: Vec<Tool>,
    /// Whether the run was interrupted, and how.
    pub interrupted: Option<String>,
}

/// The machine a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -v`.
    pub kernel_version: String,
    /// `uname -m`.
    pub machine: String,
    /// Processor's model name.
    pub cpu_model: String,
    /// Processors online.
    pub cpus: u32,
    /// Frequency governor of the first processor, where the kernel has one.
    pub governor: Option<String>,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// One-minute load average when the run began.
    pub load_average: f64,
    /// Sysctls that matter to the path, by name.
    pub sysctls: BTreeMap<String, String>,
    /// Kernel configuration options that matter to the path, where the kernel tells them.
    pub kernel_config: BTreeMap<String, String>,
    /// `root` or `user namespace`.
    pub privilege: String,
}

/// A tool and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Name, for example `nft`.
    pub name: String,
    /// First line of what it says of its version.
    pub version: String,
}
