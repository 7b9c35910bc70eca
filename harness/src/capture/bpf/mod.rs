// SPDX-License-Identifier: Apache-2.0
//! The engine `bpf`: programs at devices, netfilter hooks and sockets, one ring, one clock.
//!
//! The programs are in `harness/bpf/probes.bpf.c`. They are loaded once a run; linking them to a
//! lab's hosts and unlinking them takes milliseconds, so that a run can measure with and without.
//! A kernel that interprets programs has others, of the same parts; those at devices are loaded for
//! each namespace.

mod devices;
mod event;
mod missing;
mod objects;
mod placement;
mod probes;
mod reader;
mod ring;
mod sockets;

pub use event::{EVENT_BYTES_MAX, Event, Place, event_bytes};
pub use missing::{Facts, explain};
pub use placement::{Placement, ProbePoint};
pub use probes::{ProbeCapture, ProbeOptions, Probes};
