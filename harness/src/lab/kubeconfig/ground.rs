// SPDX-License-Identifier: Apache-2.0
//! What all cases of a run share on the cluster: the namespace, the pods that answer, the workers.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use workloads::protocol::{Mark, TargetReply};

use super::lab::KubeconfigOptions;
use super::mode::ClusterMode;
use super::placement::Placement;
use super::road::NAME;
use super::watchers::{self, Watcher};
use super::workers::{self, Worker};
use crate::certificates::{CertificateError, Certificates};
use crate::kube::{
    Addresses, Api, Jobs, KubeError, Namespace, Node, Placed, PodSpec, Pods, RunningPod,
    SecretVariable, Services, create_secret,
};
use crate::lab::LabError;
use crate::net::addresses::{POD_PORT, POD_TLS_PORT};
use crate::plan::{Case, Profile};
use crate::probe::TOKEN;
use crate::proxy::{Fill, Service, ServiceTable};
use crate::{Cancel, Unavailable};

/// How long pods may take to be ready: an image may have to be fetched.
const PODS: Duration = Duration::from_secs(180);
/// How long the API server may take for a table of Services.
const SERVICES: Duration = Duration::from_secs(300);
/// How long a namespace may take to go.
const DOWN: Duration = Duration::from_secs(180);
/// How long a namespace may take to begin to go, when the lab is dropped.
const DROP: Duration = Duration::from_secs(10);
/// Secret with what pods that answer are told of TLS, and its key.
const TLS_SECRET: (&str, &str) = ("tls", "target");
/// Environment variable that they are told it by.
const TLS_VARIABLE: &str = "NIC2POD_TLS";

/// Why there are no programs with probes.
#[derive(Clone, Debug)]
enum Refusal {
    Unavailable(Unavailable),
    Failed(String),
}

impl From<Refusal> for LabError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(unavailable) => unavailable.into(),
            Refusal::Failed(why) => Self::Unsound(format!("as the case before: {why}")),
        }
    }
}

/// The cluster under a run's cases.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) profile: Profile,
    pub(super) options: KubeconfigOptions,
    pub(super) api: Api,
    pub(super) nodes: Vec<Node>,
    pub(super) mode: ClusterMode,
    namespace: RefCell<Option<Namespace>>,
    targets: RefCell<BTreeMap<String, Vec<RunningPod>>>,
    certificates: OnceCell<Certificates>,
    workers: RefCell<Vec<Worker>>,
    /// Workers started so far: their names are not used twice.
    started: Cell<usize>,
    /// Measured Services so far ([`Ground::measured`]).
    installed: Cell<u32>,
    /// Programs with probes, once they were asked for; or why there are none: a second try would end
    /// alike.
    watchers: RefCell<Option<Result<Vec<Watcher>, Refusal>>>,
    /// Placements of probes so far; the last one is on the nodes.
    placements: Cell<u64>,
    /// Word that those know who ask the programs with probes and the servers.
    token: String,
}

impl Ground {
    pub(super) fn new(
        profile: Profile,
        options: KubeconfigOptions,
        api: Api,
        nodes: Vec<Node>,
        mode: ClusterMode,
    ) -> Result<Self, KubeError> {
        Ok(Self {
            profile,
            options,
            api,
            nodes,
            mode,
            namespace: RefCell::default(),
            targets: RefCell::default(),
            certificates: OnceCell::new(),
            workers: RefCell::default(),
            started: Cell::default(),
            installed: Cell::default(),
            watchers: RefCell::default(),
            placements: Cell::default(),
            token: workers::token()?,
        })
    }

    /// The run's namespace, made by the first case that can be had.
    fn namespace(&self) -> Result<Namespace, KubeError> {
        if let Some(namespace) = &*self.namespace.borrow() {
            return Ok(namespace.clone());
        }
        let (api, run) = (self.api.clone(), self.options.run.clone());
        let name = format!("nic2pod-{run}").to_ascii_lowercase();
        let privileged = self.options.probes;
        let made = self.options.host.block_on(move || async move {
            Namespace::create_for(&api, &name, &run, privileged).await
        })?;
        *self.namespace.borrow_mut() = Some(made.clone());
        Ok(made)
    }

    /// The pods of the run.
    pub(super) fn pods(&self) -> Result<Pods, KubeError> {
        Ok(Pods::new(&self.api, &self.namespace()?))
    }

    /// The Jobs of the run.
    fn jobs(&self) -> Result<Jobs, KubeError> {
        Ok(Jobs::new(&self.api, &self.namespace()?))
    }

    /// The pods that answer on a node, as many as the measured Service has endpoints.
    ///
    /// They are shared by cases: where any of them speaks TLS, all listen for it too.
    pub(super) fn targets(&self, node: &Node) -> Result<Vec<RunningPod>, LabError> {
        if let Some(targets) = self.targets.borrow().get(&node.name) {
            return Ok(targets.clone());
        }
        let pods = self.pods()?;
        // Without probes nobody asks for marks.
        let token = self.options.probes.then(|| (TOKEN.to_owned(), self.token.clone()));
        let token: Vec<_> = token.into_iter().collect();
        let secret_env = self.secret_env()?;
        let first = self.targets.borrow().values().map(Vec::len).sum::<usize>();
        let spec = |index: usize| {
            let name = format!("target-{}", first + index);
            let listen = format!(r#"{{"listen": ["0.0.0.0:{POD_PORT}"], "pod": "{name}"}}"#);
            PodSpec {
                name,
                node: node.name.clone(),
                image: self.options.image.clone(),
                pull: self.options.pull,
                command: vec!["/target".to_owned()],
                args: vec!["--spec".to_owned(), listen],
                env: token.clone(),
                secret_env: secret_env.clone(),
                ready_port: Some(POD_PORT),
            }
        };
        let specs: Vec<_> = (0..self.profile.service.endpoints as usize).map(spec).collect();
        let targets = self.options.host.block_on(move || async move {
            pods.create(&specs).await?;
            let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
            pods.await_ready(&names, Instant::now() + PODS).await
        })?;
        self.targets.borrow_mut().insert(node.name.clone(), targets.clone());
        Ok(targets)
    }

    /// The run's certificates, made once.
    pub(super) fn certificates(&self) -> Result<&Certificates, CertificateError> {
        if self.certificates.get().is_none() {
            let made = Certificates::make()?;
            return Ok(self.certificates.get_or_init(|| made));
        }
        Ok(self.certificates.get().expect("it was there a moment ago"))
    }

    /// What pods that answer are told of TLS: nothing where no workload of the run speaks it.
    fn secret_env(&self) -> Result<Vec<SecretVariable>, LabError> {
        let Profile { matrix, workload, .. } = &self.profile;
        if matrix.workload.iter().all(|name| workload[name].tls.is_none()) {
            return Ok(Vec::new());
        }
        let (name, key) = TLS_SECRET;
        if self.certificates.get().is_none() {
            let listen = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), POD_TLS_PORT)];
            let tls = self.certificates()?.target(listen);
            let text = serde_json::to_string(&tls).expect("text and numbers");
            let (api, namespace) = (self.api.clone(), self.namespace()?);
            self.options.host.block_on(move || async move {
                create_secret(&api, &namespace, name, (key, text)).await
            })?;
        }
        let [variable, secret, key] = [TLS_VARIABLE, name, key].map(str::to_owned);
        Ok(vec![SecretVariable { name: variable, secret, key }])
    }

    /// A worker on each of these nodes, by their places among all workers. Those that stand there
    /// already are taken first.
    pub(super) fn workers_on(&self, nodes: &[Node]) -> Result<Vec<usize>, KubeError> {
        let mut free: Vec<(usize, String)> = self
            .workers
            .borrow()
            .iter()
            .enumerate()
            .map(|(index, worker)| (index, worker.pod.node.clone()))
            .collect();
        let (mut taken, mut missing) = (Vec::new(), Vec::new());
        for node in nodes {
            match free.iter().position(|(_, name)| *name == node.name) {
                Some(position) => taken.push(free.remove(position).0),
                None => missing.push(node.clone()),
            }
        }
        let started = self.start(missing)?;
        let mut workers = self.workers.borrow_mut();
        taken.extend(workers.len()..workers.len() + started.len());
        workers.extend(started);
        Ok(taken)
    }

    fn start(&self, nodes: Vec<Node>) -> Result<Vec<Worker>, KubeError> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let (jobs, pods, first) = (self.jobs()?, self.pods()?, self.started.get());
        self.started.set(first + nodes.len());
        let (image, pull) = (self.options.image.clone(), self.options.pull);
        self.options.host.block_on(move || async move {
            workers::start((&jobs, &pods), &nodes, first, &image, pull, Instant::now() + PODS).await
        })
    }

    /// The programs with probes on all nodes that the run's cases pass, started by the first case that
    /// asks for them.
    pub(super) fn watchers(&self, cancel: &Cancel) -> Result<Vec<Watcher>, LabError> {
        if let Some(watchers) = &*self.watchers.borrow() {
            return Ok(watchers.clone()?);
        }
        let (pods, nodes, token) = (self.pods()?, self.probed(), self.token.clone());
        let (image, pull) = (self.options.image.clone(), self.options.pull);
        let cancel = cancel.clone();
        let started = self.options.host.block_on(move || async move {
            let deadline = Instant::now() + PODS;
            watchers::start(&pods, nodes, (&image, pull), &token, deadline, &cancel).await
        });
        let kept = match &started {
            Ok(watchers) => Ok(watchers.clone()),
            Err(LabError::Cancelled) => return started,
            Err(LabError::Unavailable(unavailable)) => {
                Err(Refusal::Unavailable(unavailable.clone()))
            }
            Err(error) => Err(Refusal::Failed(error.to_string())),
        };
        *self.watchers.borrow_mut() = Some(kept);
        started
    }

    /// The placement of probes that is on the nodes.
    pub(super) fn placement(&self) -> u64 {
        self.placements.get()
    }

    /// Numbers another one.
    pub(super) fn next_placement(&self) -> u64 {
        self.placements.set(self.placements.get() + 1);
        self.placements.get()
    }

    /// Names of the nodes that the profile's cases pass, as far as the cluster has them.
    pub(super) fn probed(&self) -> Vec<String> {
        let matrix = &self.profile.matrix;
        let workers = self.options.load_workers as usize;
        let mut names = BTreeSet::new();
        for (&mode, &route) in
            matrix.mode.iter().flat_map(|m| matrix.route.iter().map(move |r| (m, r)))
        {
            let Ok(placed) = Placement::of(&self.nodes, mode, route, workers) else { continue };
            names.extend([placed.entry.name, placed.backend.name]);
            names.extend(placed.workers.into_iter().map(|node| node.name));
        }
        names.into_iter().collect()
    }

    /// What the servers in these pods noted since the last call.
    pub(super) fn marks(&self, targets: &[RunningPod]) -> Result<Vec<Mark>, LabError> {
        let (pods, token, targets) = (self.pods()?, self.token.clone(), targets.to_vec());
        let replies = self.options.host.block_on(move || async move {
            let path = format!("{token}/marks");
            let asked = targets
                .iter()
                .map(|target| pods.ask::<_, TargetReply>(&target.name, POD_PORT, &path, &()));
            try_join_all(asked).await
        })?;
        let mut all = Vec::new();
        for reply in replies {
            match reply {
                TargetReply::Marks { marks, .. } => all.extend(marks),
                other => return Err(LabError::Unsound(format!("a server answered {other:?}"))),
            }
        }
        Ok(all)
    }

    /// Copies of the workers at these places.
    pub(super) fn workers(&self, places: &[usize]) -> Vec<Worker> {
        let workers = self.workers.borrow();
        places.iter().map(|&place| workers[place].clone()).collect()
    }

    /// Takes note of the ports that the workers at these places have used.
    pub(super) fn spend(&self, places: &[usize], kept: &[workloads::protocol::Kept]) {
        let mut all = self.workers.borrow_mut();
        for (&place, kept) in places.iter().zip(kept) {
            workers::spend(std::slice::from_mut(&mut all[place]), std::slice::from_ref(kept));
        }
    }

    /// Puts a new pod, with a new address and all its ports, in the place of each worker that has
    /// fewer than `ports` left. Returns how many.
    pub(super) fn renew(&self, places: &[usize], ports: u32) -> Result<usize, KubeError> {
        let spent: Vec<usize> = {
            let workers = self.workers.borrow();
            places.iter().copied().filter(|&place| workers[place].ports_left() < ports).collect()
        };
        let old = self.workers(&spent);
        let node =
            |worker: &Worker| self.nodes.iter().find(|node| node.name == worker.pod.node).cloned();
        let new = self.start(old.iter().filter_map(node).collect())?;
        for (&place, worker) in spent.iter().zip(new) {
            self.workers.borrow_mut()[place] = worker;
        }
        if !old.is_empty() {
            let jobs = self.jobs()?;
            self.options.host.block_on(move || async move {
                let names = old.iter().map(|worker| (&*worker.job, &*worker.pod.name));
                let names: Vec<(&str, &str)> = names.collect();
                jobs.delete(&names, Instant::now() + PODS).await
            })?;
        }
        Ok(spent.len())
    }

    /// Makes the cluster hold a case's Services. The measured one is written last, so that proxies,
    /// which take changes in their order, have the others once they have it. It is made anew for every
    /// case, with another address and name: no answer can be owed to the rules of the case before, and no
    /// controller can take what it has to delete of that case for what is this one's.
    pub(super) fn install(&self, case: &Case, measured: Service) -> Result<Placed, LabError> {
        self.installed.set(self.installed.get() + 1);
        let name = self.measured();
        let measured = Service { name: name.clone(), ..measured };
        let service = &self.profile.service;
        let fill = Fill {
            services: case.services,
            endpoints: service.filler_endpoints,
            position: case.position,
            seed: self.profile.seed,
        };
        let whole =
            fill.table(vec![measured]).map_err(|error| LabError::Unsound(error.to_string()))?;
        let others = whole.services.iter().filter(|service| service.name != name).cloned();
        let others = ServiceTable { services: others.collect() };
        let services = Services::new(&self.api, &self.namespace()?, Addresses::Cluster);
        let mut synced = self.options.host.block_on(move || async move {
            let deadline = Instant::now() + SERVICES;
            services.sync(&others, deadline, |_, _| ()).await?;
            services.sync(&whole, deadline, |_, _| ()).await
        })?;
        let placed = synced.placed.remove(&name);
        Ok(placed.expect("the table holds what it was filled around"))
    }

    /// Has the cluster's controllers look at the measured Service's endpoints again.
    pub(super) fn touch(&self) -> Result<(), LabError> {
        let services = Services::new(&self.api, &self.namespace()?, Addresses::Cluster);
        let name = self.measured();
        Ok(self.options.host.block_on(move || async move { services.touch(&name).await })?)
    }

    /// Name of the measured Service that is installed.
    fn measured(&self) -> String {
        format!("{NAME}-{}", self.installed.get())
    }

    /// Takes the namespace down with all that is in it, and waits; one sentence for what would not.
    pub(super) fn down(&self) -> Vec<String> {
        let Some(namespace) = self.namespace.borrow_mut().take() else { return Vec::new() };
        let api = self.api.clone();
        let down = self
            .options
            .host
            .block_on(move || async move { namespace.down(&api, Instant::now() + DOWN).await });
        down.err().map(|error| error.to_string()).into_iter().collect()
    }
}

impl Drop for Ground {
    /// After a panic or an early return: the cluster is told to delete the namespace, and does so by
    /// itself.
    fn drop(&mut self) {
        let Some(namespace) = self.namespace.borrow_mut().take() else { return };
        let api = self.api.clone();
        // Nobody is left to be told; `lab gc` finds the namespace by its label.
        let _ = self.options.host.block_on(move || async move {
            tokio::time::timeout(DROP, namespace.delete(&api)).await
        });
    }
}
