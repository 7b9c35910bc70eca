// SPDX-License-Identifier: Apache-2.0
//! Where a trace comes from: one request through a lab of network namespaces, a kind cluster, or the fake
//! lab.

use anyhow::Result;
use harness::Cancel;
use harness::lab::fake::FakeLab;
#[cfg(feature = "kind")]
use harness::lab::kind::{KindBeds, Supplies};
use harness::plan::{ArrivalKind, Case, HOST_KERNEL, Profile};
use record::Walk;
use workloads::protocol::Connection;

#[cfg(feature = "kind")]
use crate::bench::clusters;
use crate::cli::{LabKind, TraceArgs};
use crate::kernels::{self, Chosen, Purpose};
use crate::packages;

/// A lab that follows single requests.
#[derive(Debug)]
pub(super) enum TraceLab {
    Fake(FakeLab),
    Netns(Box<Chosen>),
    #[cfg(feature = "kind")]
    Kind(Box<KindBeds>),
}

impl TraceLab {
    /// Installs what was asked for, chooses the kernel and makes the lab. To be called before the
    /// process has a second thread.
    ///
    /// # Errors
    /// The lab cannot be had here.
    pub(super) fn new(args: &TraceArgs, profile: &Profile) -> Result<Self> {
        match args.lab {
            LabKind::Fake => return Ok(Self::Fake(FakeLab::new(profile))),
            #[cfg(feature = "kind")]
            LabKind::Kind => return Ok(Self::Kind(Box::new(kind(args, &one_request(profile))?))),
            LabKind::Netns => {}
            _ => anyhow::bail!(harness::plan::PlanError {
                key: "lab".to_owned(),
                message: "single requests are followed in labs netns and kind".to_owned(),
            }),
        }
        // Before the process leaves the host's network: installing needs it.
        packages::supply(&packages::for_bench(profile), args.yes)?;
        let program = kernels::program()?;
        let profile = one_request(profile);
        let pcap = args.pcap.is_some() || args.out.is_some();
        let purpose = Purpose { profile: &profile, program: &program, pcap, thorough: true };
        let chosen = kernels::choose(purpose)?;
        if let Some(reason) = &chosen.reason {
            eprintln!("{reason}");
        }
        Ok(Self::Netns(Box::new(chosen)))
    }

    /// Kernels of the cases.
    pub(super) fn labels(&self) -> Vec<&str> {
        match self {
            Self::Fake(_) => vec![HOST_KERNEL],
            #[cfg(feature = "kind")]
            Self::Kind(_) => vec![HOST_KERNEL],
            Self::Netns(chosen) => chosen.labels.iter().map(String::as_str).collect(),
        }
    }

    /// Builds the case's lab, makes one request through it and says every place it passed; beside
    /// each walk a pcapng of its packets, where one was asked for.
    ///
    /// # Errors
    /// [`harness::Unavailable`] where the machine lacks something, anything else where it should
    /// have worked.
    pub(super) fn walks(
        &self,
        case: &Case,
        cancel: &Cancel,
    ) -> Result<Vec<(Walk, Option<Vec<u8>>)>> {
        Ok(match self {
            Self::Fake(lab) => vec![(lab.trace(case)?, None)],
            Self::Netns(chosen) => vec![chosen.lab.trace(case, cancel)?],
            #[cfg(feature = "kind")]
            Self::Kind(lab) => vec![lab.trace(case, cancel)?],
        })
    }

    /// Ends what outlives a walk, a guest or clusters; one sentence for each that would not.
    pub(super) fn down(self) -> Vec<String> {
        match self {
            Self::Fake(_) => Vec::new(),
            Self::Netns(chosen) => chosen.lab.down(),
            #[cfg(feature = "kind")]
            Self::Kind(lab) => lab.down(),
        }
    }
}

/// One connection, one request: whatever the workload does besides is not what is looked at.
fn one_request(profile: &Profile) -> Profile {
    let mut profile = profile.clone();
    for workload in profile.workload.values_mut() {
        workload.arrival = ArrivalKind::Closed;
        workload.connection = Connection::Newconn;
        workload.connections = 1;
    }
    profile
}

/// The lab of kind clusters.
#[cfg(feature = "kind")]
fn kind(args: &TraceArgs, profile: &Profile) -> Result<KindBeds> {
    let supplies = Supplies::gather(profile)?;
    let agents = crate::agents::image(true, false)?;
    clusters::as_root(false)?;
    let run = format!("trace-{:x}", std::process::id());
    let options = clusters::options(&args.kind, &run, agents, supplies);
    let pcap = args.pcap.is_some() || args.out.is_some();
    Ok(KindBeds::new(profile, &kernels::program()?, pcap, options)?.thorough())
}
