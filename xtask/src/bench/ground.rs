// SPDX-License-Identifier: Apache-2.0
//! Where a run's cases live: the fake lab, or the netns lab on one kernel or several.

use std::process::Command;

use anyhow::Result;
use harness::lab::Lab;
use harness::lab::fake::FakeLab;
use harness::plan::{HOST_KERNEL, Mode, Profile};
use record::{Fidelity, GuestKernel};

use crate::cli::{BenchArgs, LabKind};
use crate::kernels::{self, Chosen, Purpose};
use crate::packages;

/// The lab of a run.
#[derive(Debug)]
pub(super) enum Ground {
    Fake(FakeLab),
    Netns(Box<Chosen>),
}

impl Ground {
    /// Installs what was asked for, chooses kernels and makes the lab. To be called before the
    /// process has a second thread.
    ///
    /// # Errors
    /// The lab cannot be had here.
    pub(super) fn new(args: &BenchArgs, profile: &Profile) -> Result<Self> {
        if args.lab == LabKind::Fake {
            return Ok(Self::Fake(FakeLab::new(profile)));
        }
        // Before the process leaves the host's network: building and installing need it.
        if args.mode.contains(&Mode::Ipvs) && kernels::none_has_ip_vs(profile) {
            build_kernel(args.yes);
        }
        packages::supply(&packages::for_bench(profile), args.yes)?;
        let program = kernels::program()?;
        let purpose = Purpose { profile, program: &program, pcap: args.pcap, thorough: false };
        Ok(Self::Netns(Box::new(kernels::choose(purpose)?)))
    }

    pub(super) fn lab(&self) -> &dyn Lab {
        match self {
            Self::Fake(lab) => lab,
            Self::Netns(chosen) => &chosen.lab,
        }
    }

    /// Kernels of the plan's cases.
    pub(super) fn labels(&self) -> Vec<&str> {
        match self {
            Self::Fake(_) => vec![HOST_KERNEL],
            Self::Netns(chosen) => chosen.labels.iter().map(String::as_str).collect(),
        }
    }

    pub(super) fn privilege(&self) -> &str {
        match self {
            Self::Fake(_) => "none",
            Self::Netns(chosen) => &chosen.privilege,
        }
    }

    /// Kernels that are not the host's, as far as they are known.
    pub(super) fn kernels(&self) -> Vec<GuestKernel> {
        match self {
            Self::Fake(_) => Vec::new(),
            Self::Netns(chosen) => chosen.lab.facts(),
        }
    }

    /// What the run's times may be used for, where that is not the host's to say.
    pub(super) fn fidelity(&self) -> Option<Fidelity> {
        match self {
            Self::Fake(_) => None,
            Self::Netns(chosen) => chosen.fidelity(),
        }
    }

    /// What the user has to know before the first case.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Fake(_) => None,
            Self::Netns(chosen) => chosen.reason.as_deref(),
        }
    }

    /// Whether a kernel that was named could not be booted.
    pub(super) fn missed_a_kernel(&self) -> bool {
        match self {
            Self::Fake(_) => false,
            Self::Netns(chosen) => {
                chosen.asked_for && chosen.lab.facts().iter().any(|facts| facts.host.is_none())
            }
        }
    }

    /// Ends the guests; one sentence for each that would not.
    pub(super) fn down(self) -> Vec<String> {
        match self {
            Self::Fake(_) => Vec::new(),
            Self::Netns(chosen) => chosen.lab.down(),
        }
    }
}

/// Builds a kernel with ip_vs, or says how. A mode that was asked for by name is worth the minutes;
/// where the build fails, it says why, and the mode is skipped with its reason.
///
/// In a process of its own: this one has to have a single thread when it leaves the host's network.
fn build_kernel(yes: bool) {
    if !yes {
        eprintln!(
            "mode ipvs: no kernel here has ip_vs; --yes builds one, or cargo xtask lab kernel build"
        );
        return;
    }
    let built = kernels::program().and_then(|program| {
        Ok(Command::new(program).args(["lab", "kernel", "build", "--yes"]).status()?)
    });
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("warning: no kernel was built ({status})"),
        Err(error) => eprintln!("warning: no kernel was built: {error:#}"),
    }
}
