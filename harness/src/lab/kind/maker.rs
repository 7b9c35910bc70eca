// SPDX-License-Identifier: Apache-2.0
//! How a cluster comes to be: made with kind or found, wired, its pods started, a client beside it.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::balancer::Balancer;
use super::client::{Client, NETWORK, Ways};
use super::cluster::{Cluster, Path};
use super::control::Control;
use super::error::ClusterError;
use super::kept::Kept;
use super::machine::Machine;
use super::node::{self, NIC, Node};
use super::others::Recipe;
use super::pods::{self, Wanted};
use super::{KindOptions, others};
use crate::docker::kind::{
    self, ClusterConfig, Creation, Kind, KindError, KubeProxy as Asked, cluster_name, version_of,
};
use crate::docker::{Container, Engine, HostSpec};
use crate::kube::{self, Namespace};
use crate::lab::LabError;
use crate::lab::netns::{Ground, Pod, Role, cluster_node, of_interfaces};
use crate::net::{Cidr, Netns};
use crate::plan::IpFamily;
use crate::plan::{CniKind, Mode};
use crate::{Cancel, Unavailable};

/// How long a cluster may take to come up.
const UP_MAX: Duration = Duration::from_secs(600);

/// How long the client may take to listen.
const CLIENT_MAX: Duration = Duration::from_secs(30);
/// How often an API server is asked.
const GLANCE: Duration = Duration::from_millis(200);

/// Makes clusters.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) ground: Rc<Ground>,
    pub(super) engine: Engine,
    pub(super) kind: Kind,
    pub(super) options: KindOptions,
    /// Clusters made so far: their names are not used twice.
    pub(super) made: RefCell<u32>,
}

impl Maker {
    /// A cluster with this datapath: one that a run before left up, or a new one.
    pub(super) fn cluster(&self, path: Path, cancel: &Cancel) -> Result<Cluster, LabError> {
        match self.find(path, cancel)? {
            Some(found) => Ok(found),
            None => self.make(path, cancel),
        }
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
        if let Recipe::OfImage = Recipe::of(path.cni, &self.options.supplies)? {
            others::image_has_cni(&self.engine, image, &self.options.run)?;
        }
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
            default_cni: path.cni == CniKind::Kindnet,
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
            let found = kind::look(&self.engine, &name).map_err(ClusterError::from)?;
            let Some(found) = found else { continue };
            let Some(pid) = found.control_plane().pid else { continue };
            let Some(kept) = Kept::read(pid)? else { continue };
            let nodes = self.ground.profile.lab.nodes as usize;
            let runs = found.nodes.iter().filter(|node| node.running).count();
            let image = self.options.node_image.as_ref();
            let recipe = Recipe::of(path.cni, &self.options.supplies)?;
            let same = (kept.mode, kept.cni) == (path.mode, path.cni)
                && kept.manifest.as_deref() == recipe.sha256()
                && runs == nodes;
            if same && image.is_none_or(|image| found.control_plane().image == *image) {
                self.options.progress.say(&format!("{name}: used again"));
                let machine = Machine::of(&self.engine, found);
                let deadline = Instant::now() + UP_MAX;
                return self.furnish(path, machine, Some(kept), deadline, cancel).map(Some);
            }
        }
        Ok(None)
    }

    /// What a host beside a cluster is to be.
    fn beside(&self, machine: &Machine, name: &str) -> HostSpec {
        HostSpec {
            name: format!("{}-{name}", machine.name()),
            network: NETWORK.to_owned(),
            run_id: self.options.run.clone(),
            patience: CLIENT_MAX,
        }
    }

    /// A handle on the host of a cluster's load balancer, which is started if it is not there.
    pub(super) fn balancer(&self, cluster: &mut Cluster) -> Result<Netns, LabError> {
        if cluster.balancer.is_none() {
            let client = cluster.client.as_ref().ok_or(ClusterError::NotThere {
                what: "client",
                host: cluster.machine.name().to_owned(),
            })?;
            let spec = self.beside(&cluster.machine, "balancer");
            let (engine, image) = (&self.engine, &self.options.agents);
            let routes = self.ground.profile.lab.balancer.routes();
            let role = if routes { Role::Router } else { Role::Balancer };
            // Without Services it asks pods, by the entry node: the others answer it as they answer clients.
            let connected = if cluster.path.mode == Mode::None { 1 } else { cluster.nodes.len() };
            let (connected, others) = cluster.nodes.split_at(connected);
            let inside = (connected, others, &*cluster.pods);
            let made = Balancer::up(engine, image, spec, role, inside, client)?;
            cluster.balancer = Some(made);
        }
        cluster.balancer.as_ref().expect("it is there now").enter()
    }

    /// A handle on the pod of a node in which names are served, which is made if it is not there.
    pub(super) fn dns(&self, cluster: &mut Cluster, node: usize) -> Result<Pod, LabError> {
        if let Some(pod) = cluster.dns.iter().find(|pod| pod.node == node) {
            return pod.host();
        }
        let image = self.options.agents.reference();
        let wanted = Wanted {
            namespace: &cluster.namespace,
            nodes: &cluster.nodes,
            settings: &self.ground.profile.lab,
            cni: cluster.path.cni,
            image: &image,
        };
        let pod = pods::dns(&cluster.control, wanted, node)?;
        if let Some(client) = &cluster.client {
            client.reach(pod.address, &cluster.nodes[0])?;
        }
        let host = pod.host();
        cluster.dns.push(pod);
        host
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
        let mtu = kept.as_ref().map_or(settings.mtu.min(wire_mtu), |kept| kept.mtu);
        let wiring = node::wiring(path.cni, &nodes, mtu);
        for (node, plan) in nodes.iter().zip(&wiring.nodes) {
            let netns = node.enter()?;
            netns.write_sysctls(cluster_node(settings.rp_filter))?;
            // Plugins of others set their interfaces' themselves.
            if kept.is_none() || path.cni.is_own() {
                netns.write_sysctls(of_interfaces(&netns, settings.rp_filter)?)?;
            }
            if kept.is_none() {
                netns.apply(plan.changes.clone())?;
                node.configure(path.cni, mtu)?;
            }
        }
        let recipe = Recipe::of(path.cni, &self.options.supplies)?;
        if kept.is_none() && !path.cni.is_own() {
            say(&format!("waiting for {}", path.cni));
            others::install(&self.engine, &control, &nodes, recipe, cancel)?;
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
        // Not by the name of one that a run before has just deleted: for half a minute an API server would ask etcd
        // for it before each write (`forceLiveLookupTTL`, namespace/lifecycle/admission.go).
        let name = match &kept {
            None => "nic2pod".to_owned(),
            Some(_) => cluster_name(&run, *self.made.borrow()),
        };
        let namespace = control.run(move |api| async move {
            api.await_nodes_ready(count, deadline).await?;
            Namespace::create(&api, &name, &run).await
        })?;
        if cancel.requested() {
            return Err(LabError::Cancelled);
        }
        let image = self.options.agents.reference();
        let wanted =
            Wanted { namespace: &namespace, nodes: &nodes, settings, cni: path.cni, image: &image };
        let pods = pods::up(&control, wanted)?;
        let spec = self.beside(&machine, "client");
        let addresses = settings.client_addresses;
        let client = Client::up(
            &self.engine,
            &self.options.agents,
            spec,
            &nodes[0],
            Ways {
                addresses,
                pods: pods.iter().map(|pod| pod.address).collect(),
                first: kept.is_none(),
            },
        )?;
        let mut notes = wiring.notes.clone();
        notes.extend(recipe.notes(path.cni, &containers[0].image));
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
            dns: Vec::new(),
            client: Some(client),
            balancer: None,
            wiring,
            notes,
            mtu,
            manifest: recipe.sha256().map(str::to_owned),
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
    let too_old = version_of(image).is_some_and(|version| version < NFTABLES);
    if mode == Mode::Nftables && too_old {
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
        pod_cidr: pod_cidr.unwrap_or(Cidr::any(IpFamily::Ipv4)),
    })
}
