// SPDX-License-Identifier: Apache-2.0
//! The labs that are clusters: kind's, and one that exists.

use anyhow::Result;
use harness::docker::AgentsImage;
use harness::lab::kind::{KindBeds, KindOptions, Progress};
use harness::net::privilege::{self, Privilege};
use harness::plan::Profile;
use harness::Unavailable;

use crate::agents;
use crate::cli::{BenchArgs, ClusterArgs, LabKind};
use crate::kernels;

/// What has to be had before the process leaves the host's network.
#[derive(Default)]
pub(super) struct Before {
    agents: Option<AgentsImage>,
}

/// The labs, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    pub(super) kind: Option<KindBeds>,
}

/// Builds the agents that run in containers: cargo may have to ask a registry.
pub(super) fn before(args: &BenchArgs) -> Result<Before> {
    let wanted = args.lab.contains(&LabKind::Kind);
    Ok(Before { agents: if wanted { Some(agents::image(true)?) } else { None } })
}

/// Makes the labs.
pub(super) fn make(
    args: &BenchArgs,
    profile: &Profile,
    run_id: &str,
    before: Before,
) -> Result<Clusters> {
    let mut clusters = Clusters::default();
    if let Some(agents) = before.agents {
        as_root(args.lab.contains(&LabKind::Netns))?;
        let options = options(&args.cluster, run_id, agents);
        clusters.kind = Some(KindBeds::new(profile, &kernels::program()?, args.pcap, options)?);
    }
    Ok(clusters)
}

/// A kind lab's options.
pub(crate) fn options(args: &ClusterArgs, run_id: &str, agents: AgentsImage) -> KindOptions {
    let variable = std::env::var("NIC2POD_KIND_IMAGE").ok().filter(|image| !image.is_empty());
    KindOptions {
        kind: args.kind_bin.clone(),
        node_image: args.node_image.clone().or(variable),
        keep: args.keep,
        run: run_id.to_owned(),
        agents,
        progress: Progress::new(|line| eprintln!("{line}")),
    }
}

/// Leaves the host's network, unless another lab has done so. Containers' namespaces are the
/// machine's root's to enter.
pub(crate) fn as_root(left: bool) -> Result<()> {
    let privilege = if left { Privilege::Root } else { privilege::enter_private_namespaces()? };
    if privilege == Privilege::Root && nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let found = "a process without";
    Err(Unavailable::new("root, to enter the nodes' containers", found, "sudo").into())
}
