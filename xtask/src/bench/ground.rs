// SPDX-License-Identifier: Apache-2.0
//! Where a run's cases live: the labs that were asked for, one after the other.

use std::process::Command;

use anyhow::Result;
use harness::lab::Lab;
use harness::lab::fake::FakeLab;
#[cfg(feature = "kind")]
use harness::lab::kind::KindBeds;
#[cfg(feature = "kind")]
use harness::lab::kubeconfig::KubeconfigLab;
use harness::plan::{HOST_KERNEL, Mode, Plan, Profile};
use record::{Fidelity, GuestKernel};

#[cfg(feature = "kind")]
use super::clusters;
use crate::cli::{BenchArgs, LabKind};
use crate::kernels::{self, Chosen, Purpose};
use crate::packages;

/// One lab of a run.
#[derive(Debug)]
pub(super) enum Ground {
    Fake(FakeLab),
    Netns(Box<Chosen>),
    #[cfg(feature = "kind")]
    Kind(Box<KindBeds>),
    #[cfg(feature = "kind")]
    Kubeconfig(Box<KubeconfigLab>),
}

/// The labs of a run, in the order asked for.
#[derive(Debug)]
pub(super) struct Grounds(Vec<Ground>);

impl Grounds {
    /// Installs what was asked for, chooses kernels and makes the labs. To be called before the
    /// process has a second thread.
    ///
    /// # Errors
    /// A lab cannot be had here.
    pub(super) fn new(args: &BenchArgs, profile: &Profile, run_id: &str) -> Result<Self> {
        #[cfg(feature = "kind")]
        let before = clusters::before(args, profile)?;
        // First the one that leaves the host's network, whatever the order.
        let netns = args.lab.contains(&LabKind::Netns).then(|| netns(args, profile)).transpose()?;
        #[cfg(feature = "kind")]
        let mut clusters = clusters::make(args, profile, run_id, before)?;
        #[cfg(not(feature = "kind"))]
        let _ = run_id;
        let mut netns = netns.map(|chosen| Ground::Netns(Box::new(chosen)));
        let grounds = args.lab.iter().filter_map(|lab| match lab {
            LabKind::Fake => Some(Ground::Fake(FakeLab::new(profile))),
            LabKind::Netns => netns.take(),
            #[cfg(feature = "kind")]
            LabKind::Kind => clusters.kind.take().map(|lab| Ground::Kind(Box::new(lab))),
            #[cfg(not(feature = "kind"))]
            LabKind::Kind => None,
            #[cfg(not(feature = "kind"))]
            LabKind::Kubeconfig => None,
            #[cfg(feature = "kind")]
            LabKind::Kubeconfig => {
                clusters.kubeconfig.take().map(|lab| Ground::Kubeconfig(Box::new(lab)))
            }
        });
        Ok(Self(grounds.collect()))
    }

    pub(super) fn labs(&self) -> impl Iterator<Item = &Ground> {
        self.0.iter()
    }

    fn chosen(&self) -> impl Iterator<Item = &Chosen> {
        self.0.iter().filter_map(|ground| match ground {
            Ground::Netns(chosen) => Some(&**chosen),
            _ => None,
        })
    }

    /// With what right the machine's own namespaces are used.
    pub(super) fn privilege(&self) -> &str {
        if let Some(chosen) = self.chosen().next() {
            return chosen.privilege.as_str();
        }
        #[cfg(feature = "kind")]
        if self.0.iter().any(|ground| matches!(ground, Ground::Kind(_))) {
            return "root";
        }
        "none"
    }

    /// Kernels that are not the host's, as far as they are known.
    pub(super) fn kernels(&self) -> Vec<GuestKernel> {
        self.chosen().flat_map(|chosen| chosen.lab.facts()).collect()
    }

    /// What the run's times may be used for, where that is not the host's to say.
    pub(super) fn fidelity(&self) -> Option<Fidelity> {
        match self.0.as_slice() {
            [Ground::Netns(chosen)] => chosen.fidelity(),
            _ => None,
        }
    }

    /// What the user has to know before the first case.
    pub(super) fn reason(&self) -> Option<&str> {
        self.chosen().find_map(|chosen| chosen.reason.as_deref())
    }

    /// Whether a kernel that was named could not be booted.
    pub(super) fn missed_a_kernel(&self) -> bool {
        self.chosen().any(|chosen| {
            chosen.asked_for && chosen.lab.facts().iter().any(|facts| facts.host.is_none())
        })
    }

    /// Ends what outlives a case: guests, clusters. One sentence for each that would not go.
    pub(super) fn down(self) -> Vec<String> {
        let down = |ground| match ground {
            Ground::Fake(_) => Vec::new(),
            Ground::Netns(chosen) => chosen.lab.down(),
            #[cfg(feature = "kind")]
            Ground::Kind(lab) => lab.down(),
            #[cfg(feature = "kind")]
            Ground::Kubeconfig(lab) => lab.down(),
        };
        self.0.into_iter().flat_map(down).collect()
    }
}

impl Ground {
    pub(super) fn lab(&self) -> &dyn Lab {
        match self {
            Self::Fake(lab) => lab,
            Self::Netns(chosen) => &chosen.lab,
            #[cfg(feature = "kind")]
            Self::Kind(lab) => &**lab,
            #[cfg(feature = "kind")]
            Self::Kubeconfig(lab) => &**lab,
        }
    }

    /// The plan in the order that suits the lab.
    pub(super) fn order(&self, plan: Plan) -> Plan {
        match self {
            #[cfg(feature = "kind")]
            Self::Kind(_) | Self::Kubeconfig(_) => plan.by_services(),
            _ => plan,
        }
    }

    /// Kernels of the plan's cases.
    pub(super) fn labels(&self) -> Vec<&str> {
        match self {
            Self::Netns(chosen) => chosen.labels.iter().map(String::as_str).collect(),
            _ => vec![HOST_KERNEL],
        }
    }
}

/// The lab of namespaces, on one kernel or several.
fn netns(args: &BenchArgs, profile: &Profile) -> Result<Chosen> {
    // Before the process leaves the host's network: building and installing need it.
    if args.mode.contains(&Mode::Ipvs) && kernels::none_has_ip_vs(profile) {
        build_kernel(args.yes);
    }
    packages::supply(&packages::for_bench(profile), args.yes)?;
    let program = kernels::program()?;
    kernels::choose(Purpose { profile, program: &program, pcap: args.pcap, thorough: false })
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
