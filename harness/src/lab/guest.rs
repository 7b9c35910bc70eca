// SPDX-License-Identifier: Apache-2.0
//! The netns lab inside a guest, as a run outside sees it: every step of a bed is a question to the
//! guest. The guest boots at the first one, and again should it have ended.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use record::{GuestKernel, Host, Walk};

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
    /// Why a guest that said nothing at all was booted once more.
    silent: RefCell<Option<String>>,
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
            silent: RefCell::default(),
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
                let ready = *ready;
                let notes = self.0.noted(ready.notes);
                let ready = Ready { fidelity, notes, ..ready };
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
        let booted = self.boot_or_again();
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

    /// Boots a guest, and once in a run another one where that says nothing at all: Linux 6.1 under TCG was seen
    /// to hang before its first word. Nothing was measured yet that a second boot could hide.
    fn boot_or_again(&self) -> Result<(Guest, Host, Duration), KernelError> {
        let boot = || Guest::boot(self.kernel.as_ref(), &self.init);
        match boot() {
            Err(KernelError::Guest { label, found, console })
                if console.is_empty() && self.silent.borrow().is_none() =>
            {
                let note = format!("{label} was booted once more, because at first {found}");
                *self.silent.borrow_mut() = Some(note);
                boot()
            }
            booted => booted,
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

    /// A bed's notes, and what its kernel did before.
    fn noted(&self, mut notes: Vec<String>) -> Vec<String> {
        notes.extend(self.silent.borrow().clone());
        notes
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
                self.ready.notes = self.ward.noted(notes);
                Ok(())
            }
            other => Err(self.ward.unexpected(&other)),
        }
    }

    fn iterate(&mut self, cancel: &Cancel) -> Result<Iteration, LabError> {
        match self.ask(&Ask::Iterate { bed: self.bed }, cancel)? {
            Say::Iterated { iteration, notes } => {
                self.ready.notes = self.ward.noted(notes);
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::kernel::Boot;

    /// A guest that is a shell: silent at its first boot, or at each.
    #[derive(Debug)]
    struct Shell {
        facts: GuestKernel,
        folder: PathBuf,
        script: &'static str,
    }

    /// Is silent at its first boot, and says its first word at the second.
    const BOOTED: &str = r#"mkdir again 2>/dev/null && exec sleep 60
        echo '{"booted":{"kernel_release":"","kernel_version":"","machine":"","cpu_model":"","cpus":1,"governor":null,"memory_bytes":0,"load_average":0.0,"sysctls":{},"kernel_config":{},"privilege":""}}'
        exec sleep 60"#;

    impl Kernel for Shell {
        fn facts(&self) -> &GuestKernel {
            &self.facts
        }

        fn relabel(&mut self, label: String) {
            self.facts.label = label;
        }

        fn processors(&self) -> u32 {
            1
        }

        fn boot(&self, _: &Init) -> Result<Boot, KernelError> {
            let mut command = Command::new("sh");
            command.args(["-c", self.script]).current_dir(&self.folder);
            let piped = std::process::Stdio::piped;
            command.stdin(piped()).stdout(piped()).stderr(piped());
            let patience = Duration::from_secs(3);
            Ok(Boot {
                one_processor: false,
                command,
                silence_max: patience,
                boot_max: patience,
                files: None,
            })
        }
    }

    fn ward(folder: &Path, script: &'static str) -> Rc<Ward> {
        let facts = serde_json::from_str(
            r#"{"label":"shell","kind":"qemu","release":"","path":"","sha256":"","config_sha256":null,"accelerator":"tcg",
            "accelerator_reason":null,"fidelity":"functional","memory_bytes":0,"cpus":1,"boot_ms":null,"host":null}"#,
        );
        let folder = folder.to_owned();
        let kernel = Box::new(Shell { facts: facts.unwrap(), folder, script });
        let profile = Profile::parse(Path::new("p"), "name = \"p\"").unwrap();
        GuestBeds::new(kernel, &profile, Path::new("/bin/true"), false).0
    }

    #[test]
    fn a_guest_that_says_nothing_is_booted_once_more_and_cases_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let ward = ward(folder.path(), BOOTED);
        let (guest, ..) = ward.boot_or_again().unwrap();
        drop(guest);
        assert_eq!(
            ward.noted(vec!["first".to_owned()]),
            [
                "first",
                "shell was booted once more, because at first the guest gave no sign of life for 3 s and was ended"
            ]
        );
    }

    #[test]
    fn one_that_never_says_a_word_is_booted_twice_and_not_more() {
        let folder = tempfile::tempdir().unwrap();
        let ward = ward(folder.path(), "echo x >>boots; exec sleep 60");
        assert!(ward.boot_or_again().unwrap_err().to_string().contains("no sign of life for 3 s"));
        assert!(ward.boot_or_again().is_err());
        let boots = std::fs::read_to_string(folder.path().join("boots"));
        assert_eq!(boots.unwrap().lines().count(), 3, "two at first, one at the second try");
    }

    #[test]
    fn one_that_says_why_it_ends_is_not_booted_again() {
        let folder = tempfile::tempdir().unwrap();
        let ward = ward(folder.path(), "echo why >&2; exit 3");
        assert!(ward.boot_or_again().unwrap_err().to_string().contains("ended before its time"));
        assert_eq!(ward.noted(Vec::new()), Vec::<String>::new());
    }
}
