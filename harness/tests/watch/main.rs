// SPDX-License-Identifier: Apache-2.0
//! Ring 2: which rules a connection meets, by mode. Needs root (or a user namespace). A mode that
//! the kernel cannot run is skipped, with its reason on standard error.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

mod bench;
mod listing;
mod modes;
mod nodes;
#[path = "../service_lab/mod.rs"]
mod service_lab;
