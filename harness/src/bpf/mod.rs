// SPDX-License-Identifier: Apache-2.0
//! BPF programs in the kernel: loading, linking, asking. What they do is in `harness/bpf/*.bpf.c`;
//! the compiled objects stand beside their sources, so that building needs no clang.
//!
//! Every link is a descriptor and nothing is pinned: whatever a program was linked to, it is gone
//! when the last descriptor is, however the process ends.
#![deny(unsafe_code)]

mod beside;
mod link;
mod object;
mod stats;
mod table;

pub use beside::{IngressProgram, ingress_programs};
pub use link::{Hook, Link, Order, Side, attached};
pub use object::{BpfError, Loaded, Opened};
pub use stats::{RunStats, StatsOn};
pub use table::Table;
