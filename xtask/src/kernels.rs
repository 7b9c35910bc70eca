// SPDX-License-Identifier: Apache-2.0
//! Which kernels a command's cases run on: what was asked for, and what `auto` comes down to here.

use std::path::Path;

use anyhow::{Context, Result, bail};
use harness::Unavailable;
use harness::kernel::{Kernel, KernelError, Qemu, Uml};
use harness::lab::guest::GuestBeds;
use harness::lab::netns::NetnsBeds;
use harness::lab::{KernelLabs, LabError};
use harness::net::privilege;
use harness::plan::{HOST_KERNEL, KernelChoice, Mode, Profile};
use record::Fidelity;

use crate::packages;

/// What a lab is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose<'a> {
    pub(crate) profile: &'a Profile,
    /// This program's file: agents, and a guest's first process.
    pub(crate) program: &'a Path,
    pub(crate) pcap: bool,
    /// Whether single requests are followed, every place of their path probed.
    pub(crate) thorough: bool,
}

/// Kernels chosen, and the lab on them.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// `host` and labels of guests, in the order asked for.
    pub(crate) labels: Vec<String>,
    pub(crate) lab: KernelLabs,
    /// How the host's namespaces were had: `root`, `user namespace`, `none` where no case needs any.
    pub(crate) privilege: String,
    /// Whether the user named them; `auto` did otherwise.
    pub(crate) asked_for: bool,
    /// Why `auto` left the host's kernel, in one sentence.
    pub(crate) reason: Option<String>,
}

impl Chosen {
    /// Lowest fidelity of the guests; `None` where a case runs on the host's kernel.
    pub(crate) fn fidelity(&self) -> Option<Fidelity> {
        if self.labels.iter().any(|label| label == HOST_KERNEL) {
            return None;
        }
        let rank = |fidelity: &Fidelity| match fidelity {
            Fidelity::Functional => 0,
            Fidelity::Relative => 1,
            Fidelity::Absolute => 2,
        };
        self.lab.facts().into_iter().map(|facts| facts.fidelity).min_by_key(rank)
    }
}

/// Chooses kernels and makes the lab. Leaves the host's network where a case runs on its kernel: to
/// be called before the process has a second thread.
///
/// # Errors
/// [`Unavailable`] where a kernel that was asked for, or the host's namespaces, cannot be had.
pub(crate) fn choose(purpose: Purpose<'_>) -> Result<Chosen> {
    let choices = &purpose.profile.matrix.kernel;
    match choices.as_slice() {
        [] => bail!(harness::plan::PlanError {
            key: "matrix.kernel".to_owned(),
            message: "names nothing; give at least one value".to_owned(),
        }),
        [KernelChoice::Auto] => auto(purpose),
        choices => named(purpose, choices),
    }
}

fn named(purpose: Purpose<'_>, choices: &[KernelChoice]) -> Result<Chosen> {
    let mut labels = Vec::new();
    let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
    let on_host = choices.contains(&KernelChoice::Host);
    // First: looking at kernels takes threads.
    let privilege =
        if on_host { privilege::enter_private_namespaces()?.to_string() } else { none() };
    for choice in choices {
        match choice {
            KernelChoice::Auto => bail!(harness::plan::PlanError {
                key: "matrix.kernel".to_owned(),
                message: "`auto` stands alone; name the kernels to be compared".to_owned(),
            }),
            KernelChoice::Host => labels.push(HOST_KERNEL.to_owned()),
            KernelChoice::Uml(which) => {
                kernels.push(Box::new(Uml::find(which.as_deref())?));
                labels.push(tell_apart(&mut kernels));
            }
            KernelChoice::Qemu(which) => {
                kernels.push(Box::new(Qemu::find(which.as_deref())?));
                labels.push(tell_apart(&mut kernels));
            }
        }
    }
    let host = if on_host { Some(host_beds(purpose)?) } else { None };
    let guests = kernels.into_iter().map(|kernel| guest_beds(purpose, kernel)).collect();
    let lab = KernelLabs::new(host, guests);
    Ok(Chosen { labels, lab, privilege, asked_for: true, reason: None })
}

/// Label of the last kernel, told apart from those before it.
fn tell_apart(kernels: &mut [Box<dyn Kernel>]) -> String {
    let (last, before) = kernels.split_last_mut().expect("one was just pushed");
    let label = last.facts().label.clone();
    if before.iter().any(|kernel| kernel.facts().label == label) {
        let digest: String = last.facts().sha256.chars().take(6).collect();
        last.relabel(format!("{label}-{digest}"));
    }
    last.facts().label.clone()
}

/// The host's kernel; or where it lacks a mode, an installed kernel that has most of what it lacks.
fn auto(purpose: Purpose<'_>) -> Result<Chosen> {
    let modes = &purpose.profile.matrix.mode;
    // What the host lacks, mode by mode; where it has no namespaces, all of them lack those.
    let (host, lacking) = match privilege::enter_private_namespaces() {
        Ok(privilege) => {
            let host = host_beds(purpose)?;
            let lacks = |mode: &Mode| Some((*mode, host.has_mode(*mode).err()?));
            let lacking: Vec<_> = modes.iter().filter_map(lacks).collect();
            (Ok((host, privilege.to_string())), lacking)
        }
        Err(unavailable) => {
            let lacking = modes.iter().map(|mode| (*mode, unavailable.clone())).collect();
            (Err(unavailable), lacking)
        }
    };
    let names: Vec<_> = lacking.iter().map(|(mode, _)| *mode).collect();
    if !names.is_empty()
        && let Some((guest, found)) = best_guest(purpose, &names)
    {
        let label = guest.facts().label;
        let supplied = lacking.iter().filter(|(mode, _)| found.contains(mode));
        let what: Vec<_> =
            supplied.map(|(mode, why)| format!("mode {mode} needs {}", why.need)).collect();
        let reason = format!(
            "all cases run on kernel {label}, not the host's, which lacks this: {}",
            what.join("; ")
        );
        return Ok(Chosen {
            labels: vec![label],
            lab: KernelLabs::new(None, vec![guest]),
            privilege: none(),
            asked_for: false,
            reason: Some(reason),
        });
    }
    // Nothing else serves: the reason is the host's own.
    let (host, privilege) = host?;
    Ok(Chosen {
        labels: vec![HOST_KERNEL.to_owned()],
        lab: KernelLabs::new(Some(host), Vec::new()),
        privilege,
        asked_for: false,
        reason: None,
    })
}

/// The installed kernel that has most of the modes, the faster one of two that have as many; and
/// those modes.
fn best_guest(purpose: Purpose<'_>, modes: &[Mode]) -> Option<(GuestBeds, Vec<Mode>)> {
    let mut best: Option<(GuestBeds, Vec<Mode>)> = None;
    for kernel in installed() {
        let label = kernel.facts().label.clone();
        let guest = guest_beds(purpose, kernel);
        let has = match guest.have(modes) {
            Ok(answers) => {
                let has = modes.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
                has.map(|(mode, _)| *mode).collect::<Vec<_>>()
            }
            Err(error) => {
                eprintln!("kernel {label} is not used: {error}");
                continue;
            }
        };
        if has.len() > best.as_ref().map_or(0, |(_, modes)| modes.len()) {
            best = Some((guest, has));
        }
    }
    best
}

/// Kernels that `auto` may choose, the best first: those whose times can be used. A look at QEMU's
/// takes a guest to boot under KVM, and is not taken where another kernel is at hand.
fn installed() -> Vec<Box<dyn Kernel>> {
    let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
    match Uml::find(None) {
        Ok(uml) => kernels.push(Box::new(uml)),
        Err(KernelError::Unavailable(_)) => {}
        Err(error) => eprintln!("kernel uml is not used: {error}"),
    }
    if kernels.is_empty()
        && kvm_may_be_had()
        && let Ok(qemu) = Qemu::find(None)
        && qemu.facts().fidelity != Fidelity::Functional
    {
        kernels.push(Box::new(qemu));
    }
    kernels
}

/// Whether mode ipvs cannot be had as things are, and `auto` may change that.
pub(crate) fn none_has_ip_vs(profile: &Profile) -> bool {
    profile.matrix.kernel == [KernelChoice::Auto]
        && !harness::proxy::ipvs::kernel_may_have_ip_vs()
        && installed().is_empty()
}

/// Whether `auto` has a kernel to choose besides the host's.
pub(crate) fn any_installed() -> bool {
    Uml::find(None).is_ok() || kvm_may_be_had()
}

/// Whether it is worth asking for a guest under KVM.
fn kvm_may_be_had() -> bool {
    Path::new("/dev/kvm").exists() && packages::find("qemu-system-x86_64").is_some()
}

fn none() -> String {
    "none".to_owned()
}

fn host_beds(purpose: Purpose<'_>) -> Result<NetnsBeds> {
    let make = if purpose.thorough { NetnsBeds::thorough } else { NetnsBeds::new };
    Ok(make(purpose.profile, purpose.program, purpose.pcap)?)
}

fn guest_beds(purpose: Purpose<'_>, kernel: Box<dyn Kernel>) -> GuestBeds {
    let make = if purpose.thorough { GuestBeds::thorough } else { GuestBeds::new };
    make(kernel, purpose.profile, purpose.program, purpose.pcap)
}

/// This program's file.
pub(crate) fn program() -> Result<std::path::PathBuf> {
    std::env::current_exe().context("failed to find this program's file")
}

/// What the machine lacks, where that is what went wrong.
pub(crate) fn lacking(error: &anyhow::Error) -> Option<&Unavailable> {
    if let Some(LabError::Unavailable(unavailable)) = error.downcast_ref() {
        return Some(unavailable);
    }
    if let Some(KernelError::Unavailable(unavailable)) = error.downcast_ref() {
        return Some(unavailable);
    }
    error.downcast_ref()
}
