// SPDX-License-Identifier: Apache-2.0
//! The netns lab over several kernels: each case goes to the lab on its own.

use record::{GuestKernel, Walk};

use super::guest::GuestBeds;
use super::netns::NetnsBeds;
use super::{Bed, Lab, LabError};
use crate::Cancel;
use crate::plan::{Case, HOST_KERNEL};

/// The netns lab on the machine's own kernel and in guests.
#[derive(Debug)]
pub struct KernelLabs {
    host: Option<NetnsBeds>,
    guests: Vec<GuestBeds>,
}

/// The lab on one kernel.
enum Either<'a> {
    Host(&'a NetnsBeds),
    Guest(&'a GuestBeds),
}

impl KernelLabs {
    /// Labs by kernel; `host` where a case is to run on the machine's own.
    pub fn new(host: Option<NetnsBeds>, guests: Vec<GuestBeds>) -> Self {
        Self { host, guests }
    }

    /// What is known of the guests' kernels so far.
    pub fn facts(&self) -> Vec<GuestKernel> {
        self.guests.iter().map(GuestBeds::facts).collect()
    }

    /// Builds a case's lab on its kernel and follows one request through it; with a capture file if
    /// there is to be one.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] where machine or guest lack something, anything else where it
    /// should have worked.
    pub fn trace(&self, case: &Case, cancel: &Cancel) -> Result<(Walk, Option<Vec<u8>>), LabError> {
        match self.of(case)? {
            Either::Host(host) => host.trace(case, cancel),
            Either::Guest(guest) => guest.trace(case, cancel),
        }
    }

    fn of(&self, case: &Case) -> Result<Either<'_>, LabError> {
        if case.kernel == HOST_KERNEL
            && let Some(host) = &self.host
        {
            return Ok(Either::Host(host));
        }
        let guest = self.guests.iter().find(|guest| guest.facts().label == case.kernel);
        guest
            .map(Either::Guest)
            .ok_or_else(|| LabError::Unsound(format!("there is no lab on kernel {}", case.kernel)))
    }

    /// Powers all guests off; one sentence for each that would not.
    pub fn down(self) -> Vec<String> {
        self.guests
            .iter()
            .filter_map(|guest| {
                let error = guest.down().err()?;
                Some(format!("failed to end the guest on {}: {error}", guest.facts().label))
            })
            .collect()
    }
}

impl Lab for KernelLabs {
    fn name(&self) -> &'static str {
        "netns"
    }

    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        match self.of(case)? {
            Either::Host(host) => host.up(case, cancel),
            Either::Guest(guest) => guest.up(case, cancel),
        }
    }
}
