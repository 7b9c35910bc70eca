// SPDX-License-Identifier: Apache-2.0
//! The kind lab: a cluster per datapath, made when a case asks for it and kept for the next.

use std::cell::RefCell;
use std::path::{Path as FilePath, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::bed::KindBed;
use super::client::{Client, NETWORK};
use super::cluster::{Cluster, Path};
use super::control::Control;
use super::error::ClusterError;
use super::kept::Kept;
use super::machine::Machine;
use super::node::{self, NIC, Node};
use super::pods::{self, Wanted};
use super::progress::Progress;
use super::site::Lent;
use crate::docker::kind::{
    self, ClusterConfig, Creation, Kind, KindError, KubeProxy as Asked, cluster_name,
};
use crate::docker::{AgentsImage, Container, Engine, HostSpec};
use crate::kube::{self, Namespace};
use crate::lab::netns::{Datapath, Ground, Hosts, Measured, NetnsBed, Stand, cluster_node};
use crate::lab::{Bed, Lab, LabError};
use crate::net::{Cidr, Netns};
use crate::plan::{Case, CniKind, HOST_KERNEL, Mode, Profile};
use crate::proxy::KubeProxy;
use crate::{Cancel, Unavailable, cni};

/// How long a cluster may take to come up.
const UP_MAX: Duration = Duration::from_secs(600);

/// How long the client may take to listen.
const CLIENT_MAX: Duration = Duration::from_secs(30);
/// How often an API server is asked.
const GLANCE: Duration = Duration::from_millis(200);

/// What a kind lab is made with.
#[derive(Clone, Debug)]
pub struct KindOptions {
    /// kind's program; found in the environment where none is named.
    pub kind: Option<PathBuf>,
    /// Image of the nodes; kind's own where none is named.
    pub node_image: Option<String>,
    /// Whether clusters stay up behind the run.
    pub keep: bool,
    /// Name of the run: what is made carries it.
    pub run: String,
    /// Image of the agents.
    pub agents: AgentsImage,
    /// Who is told while a cluster comes up.
    pub progress: Progress,
}

/// The kind lab.
#[derive(Debug)]
pub struct KindBeds {
    ground: Rc<Ground>,
    question: Netns,
    engine: Engine,
    kind: Kind,
    options: KindOptions,
    clusters: RefCell<Vec<Rc<RefCell<Cluster>>>>,
    made: RefCell<u32>,
    /// Datapaths whose cluster could not be made, and why: a second try takes a minute and ends alike.
    failed: RefCell<Vec<(Path, String)>>,
    /// What went wrong with clusters that were taken down on the way.
    errors: RefCell<Vec<String>>,
}

impl KindBeds {
    /// A lab for the cases of `profile`; `program agent ...` has to start agents.
    ///
    /// # Errors
    /// Docker or kind is not there, or a scratch folder cannot be had.
    pub fn new(
        profile: &Profile,
        program: &FilePath,
        pcap: bool,
        options: KindOptions,
    ) -> Result<Self, LabError> {
        let engine = Engine::connect()?;
        let kind = Kind::find(options.kind.as_deref())?;
        options.agents.load_into_engine(&engine).map_err(ClusterError::from)?;
        Ok(Self {
            ground: Rc::new(Ground::new("kind", profile, program, pcap)?),
            question: Netns::create("question")?,
            engine,
            kind,
            options,
            clusters: RefCell::default(),
            made: RefCell::default(),
            failed: RefCell::default(),
            errors: RefCell::default(),
        })
    }

    /// Brings a cluster up before any case asks for it. Returns its name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self, mode: Mode, cni: CniKind, cancel: &Cancel) -> Result<String, LabError> {
        let cluster = self.cluster(Path { mode, cni }, cancel)?;
        let name = cluster.borrow().machine.name().to_owned();
        Ok(name)
    }

    /// Takes all clusters down that are not to be kept; a sentence for each that would not go.
    pub fn down(self) -> Vec<String> {
        let mut errors = self.errors.into_inner();
        for cluster in self.clusters.into_inner() {
            match Rc::try_unwrap(cluster) {
                Ok(cluster) if self.options.keep || cluster.borrow().found => {
                    errors.extend(cluster.into_inner().keep())
                }
                Ok(cluster) => errors.extend(cluster.into_inner().down()),
                Err(_) => errors.push("a cluster is still in use".to_owned()),
            }
        }
        errors
    }

    /// Whether the lab has what a case needs, as far as that is known before there is a cluster.
    fn check(&self, case: &Case) -> Result<(), Unavailable> {
        if case.kernel != HOST_KERNEL {
            return Err(Unavailable::new(
                "the machine's own kernel, which containers share",
                format!("kernel {}", case.kernel),
                "--kernel host",
            ));
        }
        if case.cni == CniKind::Ipvlan {
            return Err(Unavailable::new(
                "a CNI that the lab kind makes (ptp, bridge, vxlan)",
                format!("cni {}", case.cni),
                "--lab netns",
            ));
        }
        let external = self.ground.profile.service.external_policy;
        cni::of(case.cni).carries(case.mode, case.route, external)?;
        if !self.ground.profile.lab.wire.is_plain() {
            return Err(Unavailable::new(
                "a wire that is the lab's own, for [lab.wire]",
                "Docker's network",
                "--lab netns",
            ));
        }
        match case.mode {
            Mode::Userspace => Err(Unavailable::new(
                "a mode that kind's clusters have (none, iptables, ipvs, nftables, ebpf)",
                "mode userspace, which kube-proxy had up to Kubernetes 1.25",
                "--lab netns",
            )),
            // Without ip_vs some kube-proxies run iptables instead, and do not say so.
            mode => self.ground.mode(mode).check(&self.question),
        }?;
        self.ground.engine(&self.question).map(drop)
    }

    /// A cluster with this datapath: the one that is there, or a new one.
    fn cluster(&self, path: Path, cancel: &Cancel) -> Result<Rc<RefCell<Cluster>>, LabError> {
        let mut clusters = self.clusters.borrow_mut();
        // One whose node has ended is of no use any more, and one whose CNI the plan has left behind
        // takes memory and time from those that are measured.
        let (mut left, mut errors) = (Vec::new(), Vec::new());
        for cluster in std::mem::take(&mut *clusters) {
            let idle = Rc::strong_count(&cluster) == 1;
            let (other, ended) = {
                let cluster = cluster.borrow();
                (cluster.path.cni != path.cni, cluster.ended(&self.engine).is_some())
            };
            match Rc::try_unwrap(cluster) {
                Ok(cluster) if idle && ended => errors.extend(cluster.into_inner().down()),
                Ok(cluster) if idle && other && !self.options.keep && !cluster.borrow().found => {
                    errors.extend(cluster.into_inner().down());
                }
                Ok(cluster) => left.push(Rc::new(cluster)),
                Err(cluster) => left.push(cluster),
            }
        }
        *clusters = left;
        self.errors.borrow_mut().append(&mut errors);
        if let Some(cluster) = clusters.iter().find(|cluster| cluster.borrow().path == path) {
            return Ok(cluster.clone());
        }
        if let Some((_, why)) = self.failed.borrow().iter().find(|(failed, _)| *failed == path) {
            return Err(LabError::Unsound(format!("as the case before: {why}")));
        }
        let made = match self.find(path, cancel)? {
            Some(found) => Ok(found),
            None => self.make(path, cancel),
        };
        let made = made.inspect_err(|error| match error {
            LabError::Cancelled | LabError::Unavailable(_) => {}
            error => self.failed.borrow_mut().push((path, error.to_string())),
        });
        let cluster = Rc::new(RefCell::new(made?));
        clusters.push(cluster.clone());
        Ok(cluster)
    }

    fn make(&self, path: Path, cancel: &Cancel) -> Result<Cluster, LabError> {
        let image = self.options.node_image.as_deref().ok_or_else(|| {
            Unavailable::new(
                "an image for the nodes of kind's clusters",
                "none named",
                "--node-image kindest/node:VERSION, or NIC2POD_KIND_IMAGE=...",
            )
        })?;
        known_to(image, path.mode)?;
        let number = self.made.replace_with(|made| *made + 1);
        let config = ClusterConfig {
            name: cluster_name(&self.options.run, number),
            nodes: self.ground.profile.lab.nodes,
            kube_proxy: match path.mode {
                Mode::Iptables => Asked::Iptables,
                Mode::Ipvs => Asked::Ipvs,
                Mode::Nftables => Asked::Nftables,
                Mode::None | Mode::Userspace | Mode::Ebpf => Asked::None,
            },
            default_cni: false,
        };
        let mut say = |line: &str| self.options.progress.say(&format!("{}: {line}", config.name));
        let creation = Creation { image, progress: &mut say, deadline: UP_MAX, cancel };
        let made = self.kind.create(&self.engine, &config, creation).map_err(refused)?;
        let machine = Machine::of(&self.engine, made);
        let deadline = Instant::now() + UP_MAX;
        self.furnish(path, machine, None, deadline, cancel)
    }

    /// A cluster with this datapath that a run before left up, if there is one.
    fn find(&self, path: Path, cancel: &Cancel) -> Result<Option<Cluster>, LabError> {
        for name in kind::list(&self.engine).map_err(ClusterError::from)? {
            let found = kind::find(&self.engine, &name).map_err(refused)?;
            let Some(pid) = found.control_plane().pid else { continue };
            let Some(kept) = Kept::read(pid)? else { continue };
            let nodes = self.ground.profile.lab.nodes as usize;
            let runs = found.nodes.iter().filter(|node| node.running).count();
            let image = self.options.node_image.as_ref();
            let same = (kept.mode, kept.cni) == (path.mode, path.cni) && runs == nodes;
            if same && image.is_none_or(|image| found.control_plane().image == *image) {
                self.options.progress.say(&format!("{name}: used again"));
                let machine = Machine::of(&self.engine, found);
                let deadline = Instant::now() + UP_MAX;
                return self.furnish(path, machine, Some(kept), deadline, cancel).map(Some);
            }
        }
        Ok(None)
    }

    /// Wires the nodes of a cluster, unless a run before did, has its pods made, and puts a client beside it.
    fn furnish(
        &self,
        path: Path,
        machine: Machine,
        kept: Option<Kept>,
        deadline: Instant,
        cancel: &Cancel,
    ) -> Result<Cluster, LabError> {
        let settings = &self.ground.profile.lab;
        let say = |what: &str| self.options.progress.say(&format!("{}: {what}", machine.name()));
        say("connecting to the API server");
        let kubeconfig = machine.kubeconfig().map_err(ClusterError::from)?;
        let containers = machine.nodes();
        let control_plane = node_of(&containers[0], &[])?;
        let control = Control::connect(&control_plane, &kubeconfig)?;
        let known = pod_ranges(&control, containers.len(), deadline, cancel)?;
        let mut nodes = containers
            .iter()
            .map(|container| node_of(container, &known))
            .collect::<Result<Vec<_>, _>>()?;
        // Requests enter a worker where there is one: the control plane has enough to do.
        nodes.sort_by_key(|node| (node.pid == control_plane.pid, node.name.clone()));
        let wire_mtu = nodes[0].enter()?.state()?.link(NIC).map_or(1500, |link| link.mtu);
        let mtu = kept.map_or(settings.mtu.min(wire_mtu), |kept| kept.mtu);
        let wiring = node::wiring(path.cni, &nodes, mtu);
        for (node, plan) in nodes.iter().zip(&wiring.nodes) {
            let netns = node.enter()?;
            netns.write_sysctls(cluster_node())?;
            if kept.is_none() {
                netns.apply(plan.changes.clone())?;
                node.configure(path.cni, mtu)?;
            }
        }
        say("loading the agents' image");
        for node in &nodes {
            self.options
                .agents
                .load_into_node(&self.engine, &node.name)
                .map_err(ClusterError::from)?;
        }
        say("starting pods");
        let (run, count) = (self.options.run.clone(), nodes.len());
        let namespace = control.run(move |api| async move {
            api.await_nodes_ready(count, deadline).await?;
            Namespace::create(&api, "nic2pod", &run).await
        })?;
        if cancel.requested() {
            return Err(LabError::Cancelled);
        }
        let image = self.options.agents.reference();
        let wanted =
            Wanted { namespace: &namespace, nodes: &nodes, settings, cni: path.cni, image: &image };
        let pods = pods::up(&control, wanted)?;
        let spec = HostSpec {
            name: format!("{}-client", machine.name()),
            network: NETWORK.to_owned(),
            run_id: self.options.run.clone(),
            patience: CLIENT_MAX,
        };
        let addresses = settings.client_addresses;
        let client = Client::up(
            &self.engine,
            &self.options.agents,
            spec,
            &nodes[0],
            addresses,
            kept.is_none(),
        )?;
        let mut notes = wiring.notes.clone();
        if matches!(path.mode, Mode::Iptables | Mode::Ipvs | Mode::Nftables) {
            notes.push(
                "kube-proxy programs Services in an order of its own: `position` says nothing"
                    .to_owned(),
            );
        }
        notes.push(format!("Kubernetes {} in kind", control.api().version().name));
        Ok(Cluster {
            path,
            control,
            namespace,
            nodes,
            pods,
            client: Some(client),
            wiring,
            notes,
            mtu,
            found: kept.is_some(),
            cases: 0,
            services: Vec::new(),
            machine,
        })
    }
}

/// What the API server knows of its nodes, once all have a range for their pods.
fn pod_ranges(
    control: &Control,
    count: usize,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<Vec<kube::Node>, LabError> {
    let begun = Instant::now();
    loop {
        let nodes = control.run(|api| async move { api.nodes().await })?;
        let ranged = nodes.iter().filter(|node| node.pod_cidr.is_some()).count();
        if ranged == count {
            return Ok(nodes);
        }
        if cancel.requested() {
            return Err(LabError::Cancelled);
        }
        if Instant::now() > deadline {
            return Err(ClusterError::NotInTime {
                what: "the nodes' pod ranges".to_owned(),
                waited: begun.elapsed(),
                found: format!("{ranged} of {count} nodes have one"),
            }
            .into());
        }
        // The controller gives them out within a second of a node's registration.
        sleep(GLANCE);
    }
}

/// Whether an image whose tag tells its Kubernetes has a kube-proxy that knows the mode.
fn known_to(image: &str, mode: Mode) -> Result<(), Unavailable> {
    const NFTABLES: (u32, u32) = (1, 29);
    let tag = image.rsplit_once(":v").map(|(_, tag)| tag);
    let mut numbers = tag.into_iter().flat_map(|tag| tag.split(['.', '-', '@'])).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Ok(());
    };
    if mode == Mode::Nftables && (major, minor) < NFTABLES {
        return Err(Unavailable::new(
            "a kube-proxy with mode nftables (Kubernetes 1.29 with its gate, 1.31 without)",
            format!("image {image}"),
            "--node-image of a newer Kubernetes",
        ));
    }
    Ok(())
}

/// What the machine lacks is a reason to skip, whoever found it out.
fn refused(error: KindError) -> LabError {
    match error {
        KindError::Unavailable(unavailable) => unavailable.into(),
        KindError::Stopped { .. } => LabError::Cancelled,
        error => ClusterError::Kind(error).into(),
    }
}

/// A node by its container, and what its API server knows of it.
fn node_of(container: &Container, known: &[kube::Node]) -> Result<Node, ClusterError> {
    let not_there = |what| ClusterError::NotThere { what, host: container.name.clone() };
    let known = known.iter().find(|node| node.name == container.name);
    let pod_cidr = known.and_then(|node| node.pod_cidr.as_deref()?.parse().ok());
    Ok(Node {
        name: container.name.clone(),
        pid: container.pid.ok_or_else(|| not_there("process"))?,
        address: container
            .networks
            .get(NETWORK)
            .map(|attached| attached.ip)
            .ok_or_else(|| not_there("address"))?,
        pod_cidr: pod_cidr.unwrap_or(Cidr::ANY),
    })
}

impl Lab for KindBeds {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        self.check(case)?;
        let begun = Instant::now();
        let path = Path { mode: case.mode, cni: case.cni };
        let shared = self.cluster(path, cancel)?;
        let mut cluster = shared.borrow_mut();
        let mut hosts = cluster.hosts()?;
        hosts.start_targets(&self.ground.program, &["agent", "target"])?;
        let lab_up_ms = begun.elapsed().as_secs_f64() * 1e3;
        let measured = Measured::of(&hosts, case, &self.ground.profile)?;
        let datapath = match case.mode {
            Mode::Iptables | Mode::Ipvs | Mode::Nftables => {
                self.told(&mut cluster, &hosts, case.mode, &measured, cancel)?
            }
            Mode::None | Mode::Userspace | Mode::Ebpf => {
                Datapath::install(&self.ground, &hosts, case.mode, &measured.table)?
            }
        };
        let begun = Instant::now();
        let evidence = hosts.prove_wiring()?;
        let wiring = (evidence, begun.elapsed().as_secs_f64() * 1e3);
        let site = Box::new(Lent(hosts));
        let stand = Stand { site, measured, datapath, wiring, lab_up_ms };
        let engine = self.ground.engine(&self.question)?;
        let bed = NetnsBed::on(self.ground.clone(), engine, stand, case)?;
        drop(cluster);
        Ok(Box::new(KindBed { bed, cluster: shared, engine: self.engine.clone() }))
    }
}

impl KindBeds {
    /// Tells the API server of a case's Services, and takes what kube-proxy made of them.
    fn told(
        &self,
        cluster: &mut Cluster,
        hosts: &Hosts,
        mode: Mode,
        measured: &Measured,
        cancel: &Cancel,
    ) -> Result<Datapath, LabError> {
        let took = cluster.serve(&measured.table, hosts, &self.options.progress, cancel)?;
        let mut datapath = Datapath {
            installed: Vec::new(),
            texts: Vec::new(),
            install_ms: took.as_secs_f64() * 1e3,
        };
        for node in hosts.nodes() {
            let word = self.word(cluster, node, mode)?;
            let proxy = KubeProxy::find(mode, word, &node.netns)?;
            if datapath.installed.is_empty() {
                datapath.texts = proxy.texts(&node.netns)?;
            }
            datapath.installed.push(Box::new(proxy));
        }
        Ok(datapath)
    }

    /// What the kube-proxy of a node says of itself: by its own interface, or where that does not
    /// answer, in its log.
    ///
    /// # Errors
    /// [`Unavailable`] where it runs another mode than it was asked for.
    fn word(
        &self,
        cluster: &Cluster,
        node: &crate::lab::netns::Node,
        asked: Mode,
    ) -> Result<String, LabError> {
        let name = node.name.clone();
        let answer = node.netns.block_on(kube::proxy_mode);
        let (said, how) = match answer {
            Ok(said) => (said.to_string(), "answers /proxyMode with".to_owned()),
            Err(_) => {
                let log = cluster
                    .control
                    .run(move |api| async move { api.kube_proxy_log(&name).await })?
                    .ok_or_else(|| ClusterError::NotThere {
                        what: "kube-proxy",
                        host: node.name.clone(),
                    })?;
                let mode = log.mode.map_or("no mode", Mode::word);
                (mode.to_owned(), format!("writes `{}`, which is", log.lines.join("; ")))
            }
        };
        let word = format!("kube-proxy on {} {how} {said}", node.name);
        if said == asked.word() {
            return Ok(word);
        }
        Err(Unavailable::new(
            format!("a kube-proxy in mode {asked}, which it was told to be in"),
            word,
            "a kernel that has the mode, or a Kubernetes that knows it (nftables: 1.31)",
        )
        .into())
    }
}
