// SPDX-License-Identifier: Apache-2.0
//! The netns lab inside a guest, as a run outside sees it: every step of a bed is a question to the
//! guest. The guest boots at the first one, and again should it have ended.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use record::{GuestKernel, Walk};

use super::{Bed, Down, Iteration, Lab, LabError, Ready};
use crate::kernel::protocol::{Ask, LabSettings, Say};
use crate::kernel::{Guest, Init, Kernel, KernelError};
use crate::plan::{Case, Mode, Profile, Proxy};
use crate::{Cancel, Unavailable};

/// Boots of one kernel in one run: a kernel that ends its guests again and again is given up.
const BOOTS_MAX: u32 = 4;

/// The lab in guests of one kernel.
#[derive(Debug)]
pub struct GuestBeds(Rc<Ward>);

/// What every bed of the guest shares.
#[derive(Debug)]
struct Ward {
    kernel: Box<dyn Kernel>,
    init: Init,
    lab: LabSettings,
    facts: RefCell<GuestKernel>,
    guest: RefCell<Option<Guest>>,
    boots: Cell<u32>,
    beds: Cell<u32>,
    /// Why the last guest ended before its time, and the last lines of its console.
    lost: RefCell<Option<(String, String)>>,
}

impl GuestBeds {
    /// A lab for the cases of `profile` in a guest of `kernel`; `program agent guest` is its first
    /// process. Nothing is booted yet.
    pub fn new(kernel: Box<dyn Kernel>, profile: &Profile, program: &Path, pcap: bool) -> Self {
        Self::with(kernel, profile, program, pcap, false)
    }

    /// The same, to follow single requests.
    pub fn thorough(
        kernel: Box<dyn Kernel>,
        profile: &Profile,
        program: &Path,
        pcap: bool,
    ) -> Self {
        Self::with(kernel, profile, program, pcap, true)
    }

    fn with(
        kernel: Box<dyn Kernel>,
        profile: &Profile,
        program: &Path,
        pcap: bool,
        thorough: bool,
    ) -> Self {
        let memory_mib = profile.lab.guest_memory_mib;
        let cpus = match profile.lab.guest_cpus {
            0 => kernel.processors(),
            cpus => cpus,
        };
        let facts = GuestKernel {
            memory_bytes: u64::from(memory_mib) << 20,
            cpus,
            ..kernel.facts().clone()
        };
        let stands_in = profile.matrix.proxy.contains(&Proxy::KubeProxy);
        let others = profile.service.kube_proxy.iter().filter(|_| stands_in).cloned().collect();
        Self(Rc::new(Ward {
            kernel,
            init: Init { program: program.to_owned(), others, memory_mib, cpus },
            lab: LabSettings {
                profile: profile.clone(),
                program: program.to_owned(),
                pcap,
                thorough,
            },
            facts: RefCell::new(facts),
            guest: RefCell::default(),
            boots: Cell::default(),
            beds: Cell::default(),
            lost: RefCell::default(),
        }))
    }

    /// What the record says about the kernel.
    pub fn facts(&self) -> GuestKernel {
        self.0.facts.borrow().clone()
    }

    /// Which modes the guest's kernel and tools have, in the order asked.
    ///
    /// # Errors
    /// The guest cannot be booted, or ends.
    pub fn have(&self, modes: &[Mode]) -> Result<Vec<Result<(), Unavailable>>, LabError> {
        let ask = Ask::Have { modes: modes.to_vec(), cnis: Vec::new() };
        match self.0.boot_and_ask(&ask, &Cancel::default())? {
            Say::Has { modes, .. } => Ok(modes),
            other => Err(self.0.unexpected(&other)),
        }
    }

    /// Builds a case's lab in the guest and follows one request through it.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] where guest or machine lack something, anything else where it
    /// should have worked.
    pub fn trace(&self, case: &Case, cancel: &Cancel) -> Result<(Walk, Option<Vec<u8>>), LabError> {
        match self.0.boot_and_ask(&Ask::Trace { case: Box::new(case.clone()) }, cancel)? {
            Say::Traced { walk, pcap } => Ok((*walk, pcap)),
            other => Err(self.0.unexpected(&other)),
        }
    }

    /// Powers the guest off.
    ///
    /// # Errors
    /// It would not end.
    pub fn down(&self) -> std::io::Result<()> {
        self.0.guest.take().map_or(Ok(()), Guest::down)
    }
}

impl Lab for GuestBeds {
    fn name(&self) -> &'static str {
        "netns"
    }

    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        let bed = self.0.beds.get();
        self.0.beds.set(bed + 1);
        match self.0.boot_and_ask(&Ask::Up { bed, case: Box::new(case.clone()) }, cancel)? {
            Say::Ready(ready) => {
                let fidelity = Some(self.0.facts.borrow().fidelity);
                let ready = Ready { fidelity, ..*ready };
                let boot = self.0.boots.get();
                Ok(Box::new(GuestBed { ward: self.0.clone(), boot, bed, ready }))
            }
            other => Err(self.0.unexpected(&other)),
        }
    }
}

impl Ward {
    /// Asks the guest, which is booted first if there is none.
    fn boot_and_ask(&self, ask: &Ask, cancel: &Cancel) -> Result<Say, LabError> {
        if self.guest.borrow().is_none() {
            let guest = self.boot()?;
            *self.guest.borrow_mut() = Some(guest);
        }
        self.ask(ask, cancel)
    }

    fn boot(&self) -> Result<Guest, LabError> {
        let label = &self.kernel.facts().label;
        if self.boots.get() == BOOTS_MAX {
            let lost = self.lost.borrow().clone();
            let (found, console) = lost.unwrap_or_default();
            let found = format!("given up behind {BOOTS_MAX} boots; the last time: {found}");
            return Err(KernelError::Guest { label: label.clone(), found, console }.into());
        }
        self.boots.set(self.boots.get() + 1);
        let booted = Guest::boot(self.kernel.as_ref(), &self.init);
        let (mut guest, host, took) = booted.inspect_err(|error| self.remember(error))?;
        {
            let mut facts = self.facts.borrow_mut();
            facts.boot_ms.get_or_insert(took.as_secs_f64() * 1e3);
            facts.host = Some(host);
        }
        let lab = Ask::Lab(Box::new(self.lab.clone()));
        match guest.ask(&lab, &Cancel::default()).inspect_err(|error| self.remember(error))? {
            Say::Done => Ok(guest),
            Say::Failed(failed) => Err(failed.into()),
            other => Err(guest.unexpected(&other).into()),
        }
    }

    /// Asks the guest there is.
    fn ask(&self, ask: &Ask, cancel: &Cancel) -> Result<Say, LabError> {
        let mut guest = self.guest.borrow_mut();
        let Some(there) = guest.as_mut() else { return Err(self.gone()) };
        match there.ask(ask, cancel) {
            Ok(Say::Failed(failed)) => Err(failed.into()),
            Ok(say) => Ok(say),
            Err(error) => {
                self.remember(&error);
                *guest = None;
                Err(error.into())
            }
        }
    }

    fn remember(&self, error: &KernelError) {
        if let KernelError::Guest { found, console, .. } = error {
            *self.lost.borrow_mut() = Some((found.clone(), console.clone()));
        }
    }

    /// What a bed's question comes to once its guest has ended.
    fn gone(&self) -> LabError {
        let (found, console) = self.lost.borrow().clone().unwrap_or_default();
        let label = self.kernel.facts().label.clone();
        KernelError::Guest { label, found, console }.into()
    }

    /// An answer that does not fit: the guest is not to be trusted any further.
    fn unexpected(&self, answer: &Say) -> LabError {
        match self.guest.take() {
            Some(mut guest) => guest.unexpected(answer).into(),
            None => self.gone(),
        }
    }
}

/// One case, up in a guest.
struct GuestBed {
    ward: Rc<Ward>,
    /// Which of the kernel's boots it is in.
    boot: u32,
    bed: u32,
    ready: Ready,
}

impl GuestBed {
    fn ask(&self, ask: &Ask, cancel: &Cancel) -> Result<Say, LabError> {
        // A guest that was booted since knows nothing of this bed.
        if self.ward.boots.get() != self.boot {
            return Err(self.ward.gone());
        }
        self.ward.ask(ask, cancel)
    }
}

impl Bed for GuestBed {
    fn ready(&self) -> &Ready {
        &self.ready
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), LabError> {
        match self.ask(&Ask::WarmUp { bed: self.bed }, cancel)? {
            Say::Warm { notes } => {
                self.ready.notes = notes;
                Ok(())
            }
            other => Err(self.ward.unexpected(&other)),
        }
    }

    fn iterate(&mut self, cancel: &Cancel) -> Result<Iteration, LabError> {
        match self.ask(&Ask::Iterate { bed: self.bed }, cancel)? {
            Say::Iterated { iteration, notes } => {
                self.ready.notes = notes;
                Ok(*iteration)
            }
            other => Err(self.ward.unexpected(&other)),
        }
    }

    fn down(self: Box<Self>) -> Down {
        // A stop must not keep a bed up: what is under way here is the taking down.
        let cancel = Cancel::default();
        let mut add_one_ms = None;
        let (ms, errors) = match self.ask(&Ask::Down { bed: self.bed }, &cancel) {
            Ok(Say::Down { ms, add_one_ms: took_ms, errors }) => {
                add_one_ms = took_ms;
                (ms, errors)
            }
            Ok(other) => (0.0, vec![self.ward.unexpected(&other).to_string()]),
            // The bed ended with its guest, which the case's own failure says.
            Err(LabError::Kernel(_)) => (0.0, Vec::new()),
            Err(error) => (0.0, vec![error.to_string()]),
        };
        let settle = move || match self.ask(&Ask::Settle { bed: self.bed }, &Cancel::default()) {
            Ok(Say::Settled { errors }) => errors,
            Ok(other) => vec![self.ward.unexpected(&other).to_string()],
            Err(LabError::Kernel(_)) => Vec::new(),
            Err(error) => vec![error.to_string()],
        };
        Down { ms, add_one_ms, errors, settle: Box::new(settle) }
    }
}
