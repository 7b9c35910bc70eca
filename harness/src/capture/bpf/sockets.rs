// SPDX-License-Identifier: Apache-2.0
//! The program at sockets.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf::{BpfError, Link, Loaded};

/// The program, and whose sockets it looks at.
#[derive(Debug)]
pub(super) struct Sockets {
    program: OwnedFd,
    hosts: MapHandle,
    linked: RefCell<Weak<Link>>,
}

impl Sockets {
    /// The name of the program.
    pub(super) const NAME: &str = "readable";

    /// Links the program once, to see whether the kernel has its tracepoint.
    pub(super) fn of(loaded: &Loaded) -> Result<Self, BpfError> {
        let (program, hosts) = (loaded.program(Self::NAME)?, loaded.map("hosts")?);
        let sockets = Self { program, hosts, linked: RefCell::default() };
        sockets.link()?;
        Ok(sockets)
    }

    /// Links the program, or shares the link there is: linked twice, it would see everything twice.
    pub(super) fn link(&self) -> Result<Rc<Link>, BpfError> {
        if let Some(link) = self.linked.borrow().upgrade() {
            return Ok(link);
        }
        let link = Rc::new(Link::to_tracepoint(&self.program, c"sk_data_ready")?);
        *self.linked.borrow_mut() = Rc::downgrade(&link);
        Ok(link)
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
