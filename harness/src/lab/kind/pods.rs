// SPDX-License-Identifier: Apache-2.0
//! nic2pod's pods in a cluster: wired by the node's plugins, run by its kubelet.

use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::control::Control;
use super::error::ClusterError;
use super::node::{self, Node};
use super::processes;
use crate::cni::POD_ETH;
use crate::docker::{AGENT_SOCKET, host};
use crate::kube::{Namespace, PodSpec, Pods, PullPolicy, RunningPod};
use crate::lab::LabError;
use crate::lab::netns::{Pod as PodHost, Role, of_interfaces, settings as of_host};
use crate::net::{Address, Change, Cidr, Netns, Route, Scope};
use crate::plan::IpStack;
use crate::plan::{CniKind, LabSettings};

/// How long pods may take to run: a node's first look at a new CNI, and a container.
const READY_MAX: Duration = Duration::from_secs(120);
/// First of the addresses that pods have besides their own: behind those that plugins give out.
const EXTRA_FIRST: u32 = 32;

/// A pod.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    /// Index of its node.
    pub(super) node: usize,
    pub(super) address: IpAddr,
    /// Addresses besides.
    pub(super) extra_addresses: Vec<IpAddr>,
    /// Process its container began with.
    pub(super) pid: u32,
    /// The node's end of its veth pair, where it has one.
    pub(super) veth: Option<String>,
}

impl Pod {
    /// A handle on it, for one case.
    pub(super) fn host(&self) -> Result<PodHost, LabError> {
        Ok(PodHost {
            name: self.name.clone(),
            node: self.node,
            address: self.address,
            extra_addresses: self.extra_addresses.clone(),
            veth: self.veth.clone(),
            socket: Some(host::socket_of(self.pid)),
            target: None,
            netns: node::enter(&self.name, self.pid)?,
        })
    }
}

/// What pods are made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) nodes: &'a [Node],
    pub(super) settings: &'a LabSettings,
    pub(super) cni: CniKind,
    /// Image with the agents, on the nodes already.
    pub(super) image: &'a str,
}

/// A pod that is to be.
#[derive(Debug)]
struct Place {
    name: String,
    /// Index of its node.
    node: usize,
    program: &'static str,
    /// Further addresses, by their places in the range of the node.
    extra: Range<u32>,
}

/// Has them made, waits until all run, and gives them their further addresses and settings. The
/// first of the first node is the client of the clusterip road and runs the load generator; the
/// others run servers.
pub(super) fn up(control: &Control, wanted: Wanted<'_>) -> Result<Vec<Pod>, LabError> {
    // Another CNI would not know whose further addresses are.
    let count = if wanted.cni.is_own() { wanted.settings.pod_extra_addresses } else { 0 };
    let place = |node: usize, nth: u32| {
        let first = EXTRA_FIRST + nth * count;
        Place {
            name: format!("pod{}-{}", node + 1, nth + 1),
            node,
            program: if (node, nth) == (0, 0) { "/load" } else { "/target" },
            extra: first..first + count,
        }
    };
    let places = (0..wanted.nodes.len())
        .flat_map(|node| (0..wanted.settings.pods_per_node).map(move |nth| place(node, nth)));
    make(control, wanted, places.collect())
}

/// The same for the pod of a node in which names are served.
pub(super) fn dns(control: &Control, wanted: Wanted<'_>, node: usize) -> Result<Pod, LabError> {
    let name = format!("dns{}", node + 1);
    let place = Place { name, node, program: "/target", extra: 0..0 };
    Ok(make(control, wanted, vec![place])?.remove(0))
}

/// The pods of a node in which the cluster serves its names, those that are ready.
pub(super) fn of_dns(control: &Control, nodes: &[Node], node: usize) -> Result<Vec<Pod>, LabError> {
    let name = nodes[node].name.clone();
    let running = control.run(move |api| async move { api.dns_pods(&name).await })?;
    running.iter().map(|pod| entered(pod, nodes, node)).collect()
}

/// A running pod of a node, as the machine sees it.
fn entered(pod: &RunningPod, nodes: &[Node], node: usize) -> Result<Pod, LabError> {
    let name = pod.name.clone();
    let pid = processes::of_container(&pod.container_id)
        .map_err(|source| ClusterError::File { op: "look through", path: "/proc".into(), source })?
        .ok_or_else(|| ClusterError::NotThere { what: "process", host: name.clone() })?;
    let veth = veth(&node::enter(&name, pid)?, &nodes[node].enter()?)?;
    Ok(Pod { name, node, address: pod.address, extra_addresses: Vec::new(), pid, veth })
}

fn make(control: &Control, wanted: Wanted<'_>, places: Vec<Place>) -> Result<Vec<Pod>, LabError> {
    let Wanted { namespace, nodes, cni, image, settings } = wanted;
    let specs: Vec<PodSpec> =
        places.iter().map(|place| spec(place, &nodes[place.node].name, image)).collect();
    let (names, namespace) =
        (specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>(), namespace.clone());
    let running = control.run(move |api| async move {
        let pods = Pods::new(&api, &namespace);
        pods.create(&specs).await?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        pods.await_ready(&names, Instant::now() + READY_MAX).await
    })?;
    let mut pods = Vec::new();
    for Place { name, node, extra, .. } in places {
        let not_there = |what| ClusterError::NotThere { what, host: name.clone() };
        let pod =
            running.iter().find(|pod| pod.name == name).ok_or_else(|| not_there("address"))?;
        let mut pod = entered(pod, nodes, node)?;
        pod.extra_addresses = extra.map(|n| nodes[node].pod_cidr.nth(n.into())).collect();
        if cni.is_own() && pod.veth.is_none() {
            return Err(not_there("veth pair").into());
        }
        let (netns, on_node) = (node::enter(&name, pod.pid)?, nodes[node].enter()?);
        netns.write_sysctls(of_host(Role::Pod, IpStack::Ipv4, settings.rp_filter))?;
        netns.write_sysctls(of_interfaces(&netns, settings.rp_filter)?)?;
        equip(&netns, &on_node, pod.veth.as_deref(), &pod.extra_addresses, cni)?;
        pods.push(pod);
    }
    Ok(pods)
}

fn spec(place: &Place, node: &str, image: &str) -> PodSpec {
    PodSpec {
        name: place.name.clone(),
        node: node.to_owned(),
        image: image.to_owned(),
        pull: PullPolicy::Never,
        command: vec![place.program.to_owned()],
        args: vec!["--socket".to_owned(), AGENT_SOCKET.to_owned()],
        env: Vec::new(),
        secret_env: Vec::new(),
        ready_port: None,
    }
}

/// The node's end of a pod's veth pair: each end knows the other's index (`IFLA_LINK`).
fn veth(pod: &Netns, node: &Netns) -> Result<Option<String>, LabError> {
    let peer = pod.state()?.link(POD_ETH).and_then(|link| link.parent);
    let links = node.state()?.links;
    Ok(links.into_iter().find(|link| Some(link.index) == peer).map(|link| link.name))
}

/// Addresses besides the pod's own, so that it can open many connections.
fn equip(
    pod: &Netns,
    node: &Netns,
    veth: Option<&str>,
    extra: &[IpAddr],
    cni: CniKind,
) -> Result<(), LabError> {
    let address = |&address: &IpAddr| {
        Change::Address(Address { cidr: Cidr::host(address), device: POD_ETH.to_owned() })
    };
    pod.apply(extra.iter().map(address).collect())?;
    // On a bridge the pod answers for its addresses itself.
    if let (CniKind::Ptp, Some(veth)) = (cni, veth) {
        let route = |&address: &IpAddr| {
            let route = Route::on_link(Cidr::host(address), veth);
            Change::Route(Route { scope: Scope::Host, ..route })
        };
        node.apply(extra.iter().map(route).collect())?;
    }
    Ok(())
}
