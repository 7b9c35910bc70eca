// SPDX-License-Identifier: Apache-2.0
//! KVM where a guest has been seen to boot under it, otherwise QEMU's own translation (TCG).
//!
//! That /dev/kvm opens says little: within virtual machines and sandboxes it is often there and
//! guests hang or QEMU ends. So a small one is booted first, once for each kernel.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use record::Fidelity;

use super::listen::listen;
use super::machine::Machine;

const DEVICE: &str = "/dev/kvm";
/// How long the guest that shows that KVM works may take to boot: under KVM it takes one second.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// The end of a kernel that has nothing to start (init/do_mounts.c): all before it has worked.
const PROBE_END: &str = "Unable to mount root fs";
/// Longest part of what a guest said that becomes part of a reason, characters.
const SAID_CHARS_MAX: usize = 300;

/// What has been found out, by kernel.
static FOUND: Mutex<BTreeMap<PathBuf, Accelerator>> = Mutex::new(BTreeMap::new());

/// How a guest's processor is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The host's processor.
    Kvm,
    /// An emulated one, about fifteen times slower, and why.
    Tcg {
        /// What KVM lacks here.
        reason: String,
    },
}

impl Accelerator {
    /// What this machine has for a kernel. The first call for one takes up to 10 s.
    pub(super) fn find(machine: &Machine) -> Self {
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = found.entry(machine.kernel.clone());
        entry.or_insert_with(|| Self::probe(machine, Path::new(DEVICE), PROBE_MAX)).clone()
    }

    fn probe(machine: &Machine, device: &Path, patience: Duration) -> Self {
        match boots_under_kvm(machine, device, patience) {
            Ok(()) => Self::Kvm,
            Err(reason) => Self::Tcg { reason },
        }
    }

    /// Its name in records.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg { .. } => "tcg",
        }
    }

    /// Why it is not a faster one.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Kvm => None,
            Self::Tcg { reason } => Some(reason),
        }
    }

    /// What times measured under it may be used for.
    pub(super) fn fidelity(&self) -> Fidelity {
        match self {
            Self::Kvm => Fidelity::Relative,
            Self::Tcg { .. } => Fidelity::Functional,
        }
    }

    /// Its part of QEMU's command line.
    pub(super) fn arguments(&self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg { .. } => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// The kernel's parameters: it says little, and a panic ends it at once.
    pub(super) fn options(&self) -> &'static str {
        match self {
            Self::Kvm => "console=ttyS0 quiet panic=-1",
            // On a busy host an emulated processor may not run for as long as the kernel's check of
            // the timer and its watch over the time stamp counter wait: it would panic about the
            // one and leave the other for a clock that costs an exit (arch/x86/kernel/apic/
            // io_apic.c, kernel/time/clocksource.c).
            Self::Tcg { .. } => "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable",
        }
    }
}

/// Boots a guest that has nothing to start. The error says what kept it from booting.
fn boots_under_kvm(machine: &Machine, device: &Path, patience: Duration) -> Result<(), String> {
    let opened = OpenOptions::new().read(true).write(true).open(device);
    opened.map_err(|error| format!("{}: {error}", device.display()))?;
    let probe = machine.probe(&Accelerator::Kvm);
    let heard = listen(probe, patience, |line| line.contains(PROBE_END))
        .map_err(|error| format!("{}: {error}", machine.program.display()))?;
    if heard.text.contains(PROBE_END) {
        return Ok(());
    }
    // Two lines, because QEMU says what failed before it says that it gives up.
    let mut said: Vec<_> = heard.text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = said.split_off(said.len().saturating_sub(2)).join("; ");
    let said = if last.is_empty() { "nothing" } else { &last };
    let said: String = said.chars().take(SAID_CHARS_MAX).collect();
    let end = if heard.late {
        format!("had not booted after {} s and was ended", patience.as_secs())
    } else {
        format!("ended before it had booted ({})", heard.status)
    };
    Err(format!("{} opens, but a guest {end}; it said: {said}", device.display()))
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::executable;
    use super::*;

    /// A QEMU that does what a script says.
    fn probe(script: &str, device: &str, patience: Duration) -> Accelerator {
        let dir = tempfile::tempdir().unwrap();
        let program = executable(dir.path(), format!("#!/bin/sh\n{script}\n").as_bytes());
        let machine = Machine { program, kernel: "vmlinuz".into() };
        Accelerator::probe(&machine, Path::new(device), patience)
    }

    const LONG: Duration = Duration::from_secs(300);

    #[test]
    fn a_guest_that_comes_to_its_end_shows_that_kvm_works() {
        let panics =
            "echo 'Kernel panic - not syncing: VFS: Unable to mount root fs on'; sleep 600";
        assert_eq!(probe(panics, "/dev/null", LONG), Accelerator::Kvm);
    }

    #[test]
    fn a_guest_that_hangs_or_ends_early_leaves_emulation_with_the_reason() {
        let hung = probe("echo Decompressing; exec sleep 600", "/dev/null", Duration::from_secs(1));
        let reason = hung.reason().unwrap();
        assert!(reason.contains("had not booted after 1 s"), "{reason}");
        assert!(reason.ends_with("Decompressing"), "{reason}");
        assert_eq!(hung.fidelity(), Fidelity::Functional);

        let ended = probe("echo failed to set MSR >&2; exit 1", "/dev/null", LONG);
        let reason = ended.reason().unwrap();
        assert!(reason.contains("exit status: 1") && reason.ends_with("set MSR"), "{reason}");
    }

    #[test]
    fn a_device_that_does_not_open_is_the_reason() {
        let none = probe("exit 0", "/dev/no-kvm", LONG);
        assert_eq!(none.reason().unwrap(), "/dev/no-kvm: No such file or directory (os error 2)");
    }
}
