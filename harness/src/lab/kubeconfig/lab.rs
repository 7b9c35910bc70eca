// SPDX-License-Identifier: Apache-2.0
//! The lab as a run sees it.

use std::rc::Rc;

use super::bed::KubeconfigBed;
use super::ground::Ground;
use super::mode::ClusterMode;
use crate::kube::{Api, KubeError, PullPolicy};
use crate::lab::{
    Bed, Lab, LabError, has_its_own_addresses, resolves_no_names, runs_no_kube_proxy,
};
use crate::net::Netns;
use crate::plan::{Case, Engine, HOST_KERNEL, Profile};
use crate::{Cancel, Unavailable};

/// Most workers.
const WORKERS_MAX: u32 = 256;

/// What the lab is told beside the profile.
#[derive(Debug)]
pub struct KubeconfigOptions {
    /// Context of the user's kubeconfig; its current one if `None`.
    pub context: Option<String>,
    /// Pods that load comes from, 1 to 256.
    pub load_workers: u32,
    /// Image with `/load` and `/target`.
    pub image: String,
    /// When nodes fetch it.
    pub pull: PullPolicy,
    /// Engine, if one was asked for by name.
    pub engine: Option<Engine>,
    /// Whether to put probes on the nodes, in privileged pods.
    pub probes: bool,
    /// The run's id, for labels and the namespace's name.
    pub run: String,
    /// Network namespace from which the API server is reached.
    pub host: Netns,
}

/// A cluster that exists.
#[derive(Debug)]
pub struct KubeconfigLab {
    ground: Rc<Ground>,
}

impl KubeconfigLab {
    /// Connects, and asks the cluster what it is. Nothing is written before the first case.
    ///
    /// # Errors
    /// The kubeconfig names no cluster, or it cannot be reached; an engine was asked for that needs
    /// the nodes.
    pub fn new(profile: &Profile, options: KubeconfigOptions) -> Result<Self, LabError> {
        has_engine(options.engine, options.probes)?;
        if !(1..=WORKERS_MAX).contains(&options.load_workers) {
            return Err(KubeError::Value {
                subject: "the number of load workers".to_owned(),
                problem: format!("{} is not in 1 to {WORKERS_MAX}", options.load_workers),
            }
            .into());
        }
        let context = options.context.clone();
        let (api, nodes, mode) = options.host.block_on(move || async move {
            let api = Api::from_default(context.as_deref()).await?;
            let nodes = api.nodes().await?;
            let mode = ClusterMode::detect(&api, &nodes).await?;
            Ok::<_, KubeError>((api, nodes, mode))
        })?;
        let ground = Ground::new(profile.clone(), options, api, nodes, mode)?;
        Ok(Self { ground: Rc::new(ground) })
    }

    /// What it is about to do, in one sentence, for a question to the user.
    pub fn intent(&self) -> String {
        let KubeconfigOptions { context, run, probes, .. } = &self.ground.options;
        let probes = probes.then(|| {
            let nodes = self.ground.probed().len();
            format!(", and a privileged DaemonSet on {nodes} nodes")
        });
        format!(
            "makes namespace nic2pod-{} with pods and Services{} in context {} ({} nodes, Kubernetes {}), and \
             removes it at the end",
            run.to_ascii_lowercase(),
            probes.unwrap_or_default(),
            context.as_deref().unwrap_or("(the current one)"),
            self.ground.nodes.len(),
            self.ground.api.version(),
        )
    }

    /// Removes everything from the cluster and waits until it is gone; one sentence for each thing
    /// that would not go.
    pub fn down(self) -> Vec<String> {
        self.ground.down()
    }

    /// Whether the cluster has what a case needs.
    fn check(&self, case: &Case) -> Result<(), Unavailable> {
        if case.kernel != HOST_KERNEL {
            return Err(Unavailable::new(
                format!("kernel {}", case.kernel),
                "nodes that have theirs",
                "--kernel host, or --lab netns",
            ));
        }
        runs_no_kube_proxy(self.name(), case)?;
        has_its_own_addresses(self.name(), case)?;
        resolves_no_names(self.name(), &self.ground.profile, case)?;
        self.ground.mode.has(case.mode)
    }
}

/// Whether there is an engine of that name, with or without probes on the nodes.
fn has_engine(engine: Option<Engine>, probes: bool) -> Result<(), Unavailable> {
    let (Some(engine @ (Engine::Tap | Engine::Bpf)), false) = (engine, probes) else {
        return Ok(());
    };
    let engine = format!("{engine:?}").to_lowercase();
    Err(Unavailable::new(
        format!("engine {engine}, which watches the nodes' interfaces"),
        "a cluster of which only the API is reached",
        "--probes, --engine client, or --lab kind",
    ))
}

impl Lab for KubeconfigLab {
    fn name(&self) -> &'static str {
        "kubeconfig"
    }

    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        self.check(case)?;
        Ok(Box::new(KubeconfigBed::up(self.ground.clone(), case, cancel)?))
    }
}
