// SPDX-License-Identifier: Apache-2.0
//! A kernel of its own that a lab ran on.

use serde::{Deserialize, Serialize};

use crate::{Fidelity, Host};

/// A kernel of its own that a lab ran on: a file, and the machine it was booted in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestKernel {
    /// Its name in case ids, unique in the run: `uml-7.2.13`.
    pub label: String,
    /// What it runs in: `uml` or `qemu`.
    pub kind: String,
    /// `uname -r`, as the file itself says it.
    pub release: String,
    /// The file.
    pub path: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// SHA-256 of its configuration, hexadecimal, where it is known.
    pub config_sha256: Option<String>,
    /// How its processor is had: `process` (UML), `kvm` or `tcg`.
    pub accelerator: String,
    /// Why not a faster one: what `kvm` lacks here.
    pub accelerator_reason: Option<String>,
    /// What times measured on it may be used for.
    pub fidelity: Fidelity,
    /// Memory of the guest, bytes.
    pub memory_bytes: u64,
    /// Processors of the guest.
    pub cpus: u32,
    /// From starting the process to the guest's first word, milliseconds; `None` before it booted.
    pub boot_ms: Option<f64>,
    /// What the guest says of itself; `None` before it booted.
    pub host: Option<Host>,
}
