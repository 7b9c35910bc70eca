// SPDX-License-Identifier: Apache-2.0
//! The program at sockets.

use std::os::fd::OwnedFd;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf::{BpfError, Link, Loaded};

/// The program, and whose sockets it looks at.
#[derive(Debug)]
pub(super) struct Sockets {
    program: OwnedFd,
    hosts: MapHandle,
}

impl Sockets {
    /// The name of the program.
    pub(super) const NAME: &str = "readable";

    /// Links the program once, to see whether the kernel has its tracepoint.
    pub(super) fn of(loaded: &Loaded) -> Result<Self, BpfError> {
        let sockets = Self { program: loaded.program(Self::NAME)?, hosts: loaded.map("hosts")? };
        sockets.link()?;
        Ok(sockets)
    }

    pub(super) fn link(&self) -> Result<Link, BpfError> {
        Link::to_tracepoint(&self.program, c"sk_data_ready")
    }

    /// Says that a namespace's sockets are of the lab; the tracepoint is the whole machine's.
    pub(super) fn watch(&self, netns: u32) -> Result<(), BpfError> {
        let outcome = self.hosts.update(&netns.to_ne_bytes(), &[1], MapFlags::ANY);
        outcome.map_err(BpfError::map("hosts"))
    }

    /// The program, to be asked what it costs.
    pub(super) fn program(&self) -> &OwnedFd {
        &self.program
    }
}
