// SPDX-License-Identifier: Apache-2.0
//! The labs that are clusters: kind's, and one that exists.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Read};

use anyhow::{Context, Result};
use harness::Unavailable;
use harness::docker::{AgentsImage, Engine, kind};
use harness::kube::PullPolicy;
use harness::lab::kind::{KindBeds, KindOptions, Progress, Supplies};
use harness::lab::kubeconfig::{KubeconfigLab, KubeconfigOptions};
use harness::net::Netns;
use harness::net::privilege::{self, Privilege};
use harness::plan::{self, Profile};

use crate::agents;
use crate::cli::{BenchArgs, ClusterArgs, KindArgs, LabKind};
use crate::kernels;

/// What has to be had before the process leaves the host's network.
#[derive(Default)]
pub(super) struct Before {
    supplies: Supplies,
    agents: Option<AgentsImage>,
    /// The host's network, where a cluster's API server is reached from.
    host: Option<File>,
}

/// The labs, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    pub(super) kind: Option<KindBeds>,
    pub(super) kubeconfig: Option<KubeconfigLab>,
}

/// Builds the agents that run in containers, and has the manifests of CNIs: both may have to ask the
/// network.
pub(super) fn before(args: &BenchArgs, profile: &Profile) -> Result<Before> {
    let supplies = if args.lab.contains(&LabKind::Kind) {
        Supplies::gather(profile)?
    } else {
        Supplies::default()
    };
    let own_image = args.lab.contains(&LabKind::Kind)
        || args.lab.contains(&LabKind::Kubeconfig) && args.cluster.image.is_none();
    let agents = if own_image { Some(agents::image(true, args.cluster.probes)?) } else { None };
    let host = if args.lab.contains(&LabKind::Kubeconfig) {
        Some(File::open("/proc/self/ns/net").context("failed to open the host's network")?)
    } else {
        None
    };
    Ok(Before { supplies, agents, host })
}

/// Makes the labs.
pub(super) fn make(
    args: &BenchArgs,
    profile: &Profile,
    run_id: &str,
    before: Before,
) -> Result<Clusters> {
    let mut clusters = Clusters::default();
    if let Some(host) = before.host {
        clusters.kubeconfig =
            Some(kubeconfig(args, profile, run_id, host, before.agents.as_ref())?);
    }
    if let Some(agents) = before.agents
        && args.lab.contains(&LabKind::Kind)
    {
        as_root(args.lab.contains(&LabKind::Netns))?;
        let options = options(&args.cluster.kind, run_id, agents, before.supplies);
        clusters.kind = Some(KindBeds::new(profile, &kernels::program()?, args.pcap, options)?);
    }
    Ok(clusters)
}

/// The lab on a cluster that exists, once the user has agreed to what it writes there.
fn kubeconfig(
    args: &BenchArgs,
    profile: &Profile,
    run_id: &str,
    host: File,
    agents: Option<&AgentsImage>,
) -> Result<KubeconfigLab> {
    let alone = args.lab == [LabKind::Kubeconfig];
    // A process that is still in the host's network needs no right to enter it.
    let host = if alone { Netns::here("host")? } else { Netns::enter("host", host.into())? };
    let cluster = &args.cluster;
    let (image, pull) = match (&cluster.image, agents) {
        (Some(image), _) => (image.clone(), PullPolicy::IfNotPresent),
        (None, Some(agents)) => (loaded(cluster, agents)?, PullPolicy::Never),
        (None, None) => unreachable!("agents are built where no image is named"),
    };
    let mut profile = profile.clone();
    if args.engine.is_none() {
        let engine = if cluster.probes { plan::Engine::Bpf } else { plan::Engine::Client };
        profile.run.engine = engine;
    }
    let options = KubeconfigOptions {
        context: cluster.context.clone(),
        load_workers: cluster.load_workers.unwrap_or(1),
        image,
        pull,
        engine: args.engine,
        probes: cluster.probes,
        run: run_id.to_owned(),
        host,
    };
    let lab = KubeconfigLab::new(&profile, options)?;
    eprintln!("{}", lab.intent());
    if !args.yes && !agreed()? {
        anyhow::bail!(harness::plan::PlanError {
            key: "lab".to_owned(),
            message: "kubeconfig writes to a cluster: say --yes, or answer yes".to_owned(),
        });
    }
    Ok(lab)
}

/// Loads the agents into the nodes of a kind cluster on this machine, as contexts of kind's name it.
fn loaded(cluster: &ClusterArgs, agents: &AgentsImage) -> Result<String> {
    let name = cluster.context.as_deref().and_then(|context| context.strip_prefix("kind-"));
    let name = name.ok_or_else(|| {
        Unavailable::new(
            "an image with nic2pod's agents that the cluster's nodes have or can fetch",
            "no --image, and a context that is not kind's",
            "cargo xtask lab image FILE, push it to a registry, and --image REF",
        )
    })?;
    let engine = Engine::connect()?;
    for node in kind::find(&engine, name)?.nodes {
        agents.load_into_node(&engine, &node.id)?;
    }
    Ok(agents.reference())
}

/// Asks the user, if there is one.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("go on? [y/N] ");
    let mut answer = String::new();
    std::io::BufReader::new(std::io::stdin().take(16))
        .read_line(&mut answer)
        .context("failed to read the answer")?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}

/// A kind lab's options.
pub(crate) fn options(
    args: &KindArgs,
    run_id: &str,
    agents: AgentsImage,
    supplies: Supplies,
) -> KindOptions {
    let variable = std::env::var("NIC2POD_KIND_IMAGE").ok().filter(|image| !image.is_empty());
    KindOptions {
        kind: args.kind_bin.clone(),
        node_image: args.node_image.clone().or(variable),
        keep: args.keep,
        run: run_id.to_owned(),
        agents,
        supplies,
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
