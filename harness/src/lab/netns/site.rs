// SPDX-License-Identifier: Apache-2.0
//! What a bed stands on: hosts, whoever made them, and how they are left.

use super::{Hosts, NetnsLab};

/// Hosts of a case. They go, or are left as they were found, when it ends.
pub(in crate::lab) trait Site: std::fmt::Debug {
    /// The hosts.
    fn hosts(&self) -> &Hosts;

    /// The hosts, for talking to their agents.
    fn hosts_mut(&mut self) -> &mut Hosts;

    /// Lets the hosts go.
    fn release(self: Box<Self>) -> Released;
}

/// Hosts that nobody holds any more.
pub(in crate::lab) struct Released {
    /// What went wrong so far.
    pub(in crate::lab) errors: Vec<String>,
    /// Waits until nothing of them is left to be done, and returns what went wrong.
    pub(in crate::lab) settle: Box<dyn FnOnce() -> Vec<String>>,
}

impl Site for NetnsLab {
    fn hosts(&self) -> &Hosts {
        self
    }

    fn hosts_mut(&mut self) -> &mut Hosts {
        self
    }

    fn release(self: Box<Self>) -> Released {
        let mut leaving = NetnsLab::release(*self);
        let errors = std::mem::take(&mut leaving.errors);
        Released { errors, settle: Box::new(|| leaving.settle().errors) }
    }
}
