// SPDX-License-Identifier: Apache-2.0
//! The kind lab: a cluster per datapath, made when a case asks for it and lent to one case after the other.

use std::cell::RefCell;
use std::path::{Path as FilePath, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use record::Walk;

use super::bed::KindBed;
use super::cluster::{Cluster, Path};
use super::dns;
use super::error::ClusterError;
use super::maker::Maker;
use super::others::Recipe;
use super::progress::Progress;
use super::reflection::Reflection;
use super::site::Lent;
use super::supplies::Supplies;
use crate::docker::kind::Kind;
use crate::docker::{AgentsImage, Engine};
use crate::lab::netns::{
    Balancer, Datapath, Ground, Hosts, Ingress, Measured, NetnsBed, Stand, names,
};
use crate::lab::{Bed, Lab, LabError, has_its_own_addresses, runs_no_kube_proxy};
use crate::net::Netns;
use crate::net::addresses::family;
use crate::plan::{
    Case, CniKind, HOST_KERNEL, Mode, Place, PolicyKind, Profile, Proxy, Road, Route,
};
use crate::proxy::{KubeProxy, kube_proxy};
use crate::{Cancel, Unavailable, cni};

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
    /// Manifests of the CNIs that come as such.
    pub supplies: Supplies,
    /// Who is told while a cluster comes up.
    pub progress: Progress,
}

/// Why there is no cluster.
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

/// The kind lab.
#[derive(Debug)]
pub struct KindBeds {
    maker: Maker,
    question: Netns,
    clusters: RefCell<Vec<Rc<RefCell<Cluster>>>>,
    /// Datapaths whose cluster could not be made, and why: a second try takes a minute and ends alike.
    failed: RefCell<Vec<(Path, Refusal)>>,
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
        let ground = Rc::new(Ground::new("kind", profile, program, pcap)?);
        Ok(Self {
            maker: Maker { ground, engine, kind, options, made: RefCell::default() },
            question: Netns::create("question")?,
            clusters: RefCell::default(),
            failed: RefCell::default(),
            errors: RefCell::default(),
        })
    }

    /// Brings a cluster up before any case asks for it. Returns its name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self, mode: Mode, cni: CniKind, cancel: &Cancel) -> Result<String, LabError> {
        self.carried(mode, cni)?;
        let cluster = self.cluster(Path { mode, cni }, cancel)?;
        let name = cluster.borrow().machine.name().to_owned();
        Ok(name)
    }

    /// The same lab, to follow single requests: every site of their path is probed.
    #[must_use]
    pub fn thorough(mut self) -> Self {
        Rc::get_mut(&mut self.maker.ground).expect("no bed has it yet").thorough = true;
        self
    }

    /// Follows one request through a case's cluster; with a capture file if there is to be one.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] where the machine lacks something, anything else where it should
    /// have worked.
    pub fn trace(&self, case: &Case, cancel: &Cancel) -> Result<(Walk, Option<Vec<u8>>), LabError> {
        let mut bed = Box::new(self.bed(case, cancel)?);
        let traced = bed.trace(cancel);
        let down = bed.down();
        self.errors.borrow_mut().extend(down.errors.into_iter().chain((down.settle)()));
        traced
    }

    /// Takes all clusters down that are not to be kept; a sentence for each that would not go.
    pub fn down(self) -> Vec<String> {
        let mut errors = self.errors.into_inner();
        for cluster in self.clusters.into_inner() {
            match Rc::try_unwrap(cluster) {
                Ok(cluster) if self.maker.options.keep || cluster.borrow().found => {
                    errors.extend(cluster.into_inner().keep())
                }
                Ok(cluster) => errors.extend(cluster.into_inner().down()),
                Err(_) => errors.push("a cluster is still in use".to_owned()),
            }
        }
        errors
    }

    /// Whether there is a way to a cluster with such a CNI, under this mode.
    fn carried(&self, mode: Mode, kind: CniKind) -> Result<(), Unavailable> {
        Recipe::of(kind, &self.maker.options.supplies)?;
        let route = Route { road: Road::Direct, place: Place::Local };
        cni::of(kind).carries(mode, route, PolicyKind::Cluster)
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
        runs_no_kube_proxy(self.name(), case)?;
        has_its_own_addresses(self.name(), case)?;
        self.carried(case.mode, case.cni)?;
        let external = self.maker.ground.profile.service.external_policy;
        cni::of(case.cni).carries(case.mode, case.route, external)?;
        if let Some(route) = names::asked(&self.maker.ground.profile, case)? {
            cni::of(case.cni).carries(case.mode, route, PolicyKind::Cluster)?;
        }
        if !self.maker.ground.profile.lab.wire.is_plain() {
            return Err(Unavailable::new(
                "a wire that is the lab's own, for [lab.wire]",
                "Docker's network",
                "--lab netns",
            ));
        }
        if case.route.road.is_ingress() {
            Ingress::can_carry(&self.maker.ground.profile, case, &self.question)?;
        }
        if case.route.road == Road::Loadbalancer {
            let profile = &self.maker.ground.profile;
            if profile.lab.balancer.routes() && case.mode == Mode::None && !case.cni.is_own() {
                return Err(Unavailable::new(
                    "pods that a client has one way to, for a router to be put into it",
                    format!("cni {}, whose pods may have ranges of their own", case.cni),
                    "--cni ptp, bridge or vxlan, or --balancer embedded",
                ));
            }
            Balancer::can_carry(profile, case, &self.question)?;
        }
        match case.mode {
            Mode::Userspace => Err(Unavailable::new(
                "a mode that kind's clusters have (none, iptables, ipvs, nftables, ebpf)",
                "mode userspace, which kube-proxy had up to Kubernetes 1.25",
                "--lab netns",
            )),
            // Without ip_vs some kube-proxies run iptables instead, and do not say so.
            mode => self.maker.ground.mode(mode).check(&self.question),
        }?;
        self.maker.ground.engine(&self.question).map(drop)
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
                (cluster.path.cni != path.cni, cluster.ended(&self.maker.engine).is_some())
            };
            match Rc::try_unwrap(cluster) {
                Ok(cluster) if idle && ended => errors.extend(cluster.into_inner().down()),
                Ok(cluster)
                    if idle && other && !self.maker.options.keep && !cluster.borrow().found =>
                {
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
            return Err(why.clone().into());
        }
        let made = self.maker.cluster(path, cancel).inspect_err(|error| {
            let refusal = match error {
                LabError::Cancelled => return,
                LabError::Unavailable(unavailable) => Refusal::Unavailable(unavailable.clone()),
                error => Refusal::Failed(error.to_string()),
            };
            self.failed.borrow_mut().push((path, refusal));
        });
        let cluster = Rc::new(RefCell::new(made?));
        clusters.push(cluster.clone());
        Ok(cluster)
    }
}

impl Lab for KindBeds {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        Ok(Box::new(self.bed(case, cancel)?))
    }
}

impl KindBeds {
    fn bed(&self, case: &Case, cancel: &Cancel) -> Result<KindBed, LabError> {
        self.check(case)?;
        let begun = Instant::now();
        let path = Path { mode: case.mode, cni: case.cni };
        let shared = self.cluster(path, cancel)?;
        let mut cluster = shared.borrow_mut();
        let profile = &self.maker.ground.profile;
        let mut hosts = cluster.hosts()?;
        let mut reflection = None;
        if case.route.road == Road::Loadbalancer {
            hosts.put_balancer(self.maker.balancer(&mut cluster)?, case, profile);
        }
        if let Some(node) = names::node(profile, case) {
            let node = node as usize;
            // Services that are told to no API server have no names there.
            let told = matches!(case.mode, Mode::Iptables | Mode::Ipvs | Mode::Nftables);
            let own = match told {
                true => dns::own(&cluster.control, &cluster.nodes, node)?,
                false => None,
            };
            match own {
                Some(pod) => {
                    let on_its_host = pod.host()?.netns;
                    reflection = Some(Reflection::up(on_its_host, dns::PORT)?);
                    hosts.put_dns(pod.host()?, true);
                }
                None => hosts.put_dns(self.maker.dns(&mut cluster, node)?, false),
            }
        }
        let certificates = self.maker.ground.certificates_for(case)?;
        hosts.start_targets(&self.maker.ground.program, &["agent", "target"], certificates)?;
        let mut lab_up_ms = begun.elapsed().as_secs_f64() * 1e3;
        let measured = Measured::of(&hosts, case, &self.maker.ground.profile)?;
        let datapath = match case.mode {
            Mode::Iptables | Mode::Ipvs | Mode::Nftables => {
                self.told(&mut cluster, &hosts, case.mode, &measured, cancel)?
            }
            Mode::None | Mode::Userspace | Mode::Ebpf => Datapath::install(
                &self.maker.ground,
                &hosts,
                (case.mode, Proxy::Own),
                &measured.table,
            )?,
        };
        let begun = Instant::now();
        let detour = match hosts.routed_to(case, &measured) {
            Some(to) => Some(cluster.detour(to)?),
            None => None,
        };
        hosts.start_dns(&self.maker.ground.program, &["agent", "dns"], case, &measured, None)?;
        hosts.start_between(&self.maker.ground, case, &measured)?;
        lab_up_ms += begun.elapsed().as_secs_f64() * 1e3;
        let begun = Instant::now();
        let evidence = hosts.prove_wiring()?;
        let wiring = (evidence, begun.elapsed().as_secs_f64() * 1e3);
        let site = Box::new(Lent { hosts, detour, reflection });
        let stand =
            Stand { site, measured, datapath, second: None, wiring, files: Vec::new(), lab_up_ms };
        let engine = self.maker.ground.engine(&self.question)?;
        let bed = NetnsBed::on(self.maker.ground.clone(), engine, stand, case)?;
        drop(cluster);
        Ok(KindBed { bed, cluster: shared, engine: self.maker.engine.clone() })
    }

    /// Tells the API server of a case's Services, and takes what kube-proxy made of them.
    fn told(
        &self,
        cluster: &mut Cluster,
        hosts: &Hosts,
        mode: Mode,
        measured: &Measured,
        cancel: &Cancel,
    ) -> Result<Datapath, LabError> {
        let took = cluster.serve(&measured.table, hosts, &self.maker.options.progress, cancel)?;
        let mut datapath = Datapath {
            installed: Vec::new(),
            texts: Vec::new(),
            install_ms: took.as_secs_f64() * 1e3,
            note: None,
        };
        for node in hosts.nodes() {
            let word = self.word(cluster, node, mode)?;
            let proxy = KubeProxy::find(mode, family(node.address), word, &node.netns)?;
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
        let answer = node.netns.block_on(kube_proxy::proxy_mode);
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
