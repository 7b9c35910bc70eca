// SPDX-License-Identifier: Apache-2.0
//! A kind cluster with nic2pod's pods in it and a client beside it: one datapath, for one case after
//! the other.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::balancer::Balancer;
use super::client::Client;
use super::control::Control;
use super::detour::Detour;
use super::error::ClusterError;
use super::kept::Kept;
use super::machine::Machine;
use super::node::{NIC, Node};
use super::pods::Pod;
use super::progress::Progress;
use crate::Cancel;
use crate::cni::Wiring;
use crate::docker::Engine;
use crate::kube::{Addresses, Namespace, Services};
use crate::lab::LabError;
use crate::lab::netns::{Client as ClientHost, Hosts, Node as NodeHost};
use crate::net::addresses::family;
use crate::plan::{CniKind, Mode};
use crate::proxy::{ServiceTable, kube_proxy};

/// How long kube-proxy may take to program what its API server tells: 30,000 Services take minutes.
const PROGRAMMED_MAX: Duration = Duration::from_secs(600);
/// How long the API server may take to forget a namespace.
const EMPTIED_MAX: Duration = Duration::from_secs(300);
/// How often a node's kernel is asked.
const GLANCE: Duration = Duration::from_millis(100);

/// How Services are implemented in a cluster, and pods wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) mode: Mode,
    pub(super) cni: CniKind,
}

/// A cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) path: Path,
    pub(super) control: Control,
    pub(super) namespace: Namespace,
    pub(super) nodes: Vec<Node>,
    pub(super) pods: Vec<Pod>,
    /// Those that serve names, one on a node, made for the first case that has it there.
    pub(super) dns: Vec<Pod>,
    pub(super) client: Option<Client>,
    /// Made for the first case that has a road by it.
    pub(super) balancer: Option<Balancer>,
    pub(super) wiring: Wiring,
    pub(super) notes: Vec<String>,
    /// Largest packet between nodes, bytes.
    pub(super) mtu: u32,
    /// SHA-256 of the manifest that its CNI came as, if it did.
    pub(super) manifest: Option<String>,
    /// Whether it was there before the run, and is to stay.
    pub(super) found: bool,
    /// Cases measured in it.
    pub(super) cases: u32,
    /// Cluster addresses of the Services it was told last.
    pub(super) services: Vec<IpAddr>,
    // Last: it goes when all else has.
    pub(super) machine: Machine,
}

impl Cluster {
    /// Handles on all its hosts, for one case.
    pub(super) fn hosts(&mut self) -> Result<Hosts, LabError> {
        let turn = self.cases;
        self.cases += 1;
        let client = self.client.as_ref().ok_or(ClusterError::NotThere {
            what: "client",
            host: self.machine.name().to_owned(),
        })?;
        let mut nodes = Vec::new();
        for (node, wiring) in self.nodes.iter().zip(&self.wiring.nodes) {
            nodes.push(NodeHost {
                name: node.name.clone(),
                netns: node.enter()?,
                address: node.address,
                nic: NIC.to_owned(),
                bridge: wiring.bridge.map(str::to_owned),
                vxlan: wiring.vxlan,
                ipvlan: wiring.ipvlan,
                macvlan: wiring.macvlan,
            });
        }
        let pods = self.pods.iter().map(Pod::host).collect::<Result<_, _>>()?;
        Ok(Hosts {
            cni: self.path.cni,
            walked: self.path.cni,
            pods,
            dns: None,
            dns_is_the_clusters: false,
            second: None,
            namespace: Some(self.namespace.name.clone()),
            nodes,
            client: ClientHost {
                netns: client.enter()?,
                nic: NIC.to_owned(),
                addresses: client.addresses.clone(),
                load: Some(client.socket()),
            },
            balancer: None,
            proxied: false,
            ingress: None,
            wiring: self.wiring.clone(),
            notes: self.notes.clone(),
            turn: Some(turn),
        })
    }

    /// Leads its client's packets to an address through the host of its load balancer.
    pub(super) fn detour(&self, to: IpAddr) -> Result<Detour, LabError> {
        let not_there = |what| {
            LabError::from(ClusterError::NotThere { what, host: self.machine.name().to_owned() })
        };
        let client = self.client.as_ref().ok_or_else(|| not_there("client"))?;
        let balancer = self.balancer.as_ref().ok_or_else(|| not_there("router"))?;
        Ok(Detour::up(client.enter()?, to, balancer.here)?)
    }

    /// Why it cannot be used any more, if a node of it has ended.
    pub(super) fn ended(&self, engine: &Engine) -> Option<String> {
        self.nodes.iter().find_map(|node| match engine.inspect(&node.name) {
            Ok(container) if container.pid == Some(node.pid) => None,
            Ok(_) => Some(format!("the container of node {} has ended", node.name)),
            Err(error) => Some(format!("the container of node {} is gone: {error}", node.name)),
        })
    }

    /// Tells its API server of a table, and waits until kube-proxy has it in the kernel of every
    /// node. Returns how long both took.
    pub(super) fn serve(
        &mut self,
        table: &ServiceTable,
        hosts: &Hosts,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Duration, LabError> {
        let begun = Instant::now();
        let deadline = begun + PROGRAMMED_MAX;
        let asked = table.clone();
        let namespace = self.namespace.clone();
        let told = progress.clone();
        let name = self.machine.name().to_owned();
        self.control.run(move |api| async move {
            let services = Services::new(&api, &namespace, Addresses::Table);
            let say = |done, total| told.services(&name, done, total);
            services.sync(&asked, deadline, say).await
        })?;
        let now: Vec<_> = table.services.iter().map(|service| service.cluster_ip).collect();
        let before = std::mem::replace(&mut self.services, now);
        let gone: Vec<_> =
            before.into_iter().filter(|address| !self.services.contains(address)).collect();
        for node in hosts.nodes() {
            loop {
                let family = family(node.address);
                let missing =
                    kube_proxy::missing(self.path.mode, family, &node.netns, table, &gone)?;
                if missing.is_nothing() {
                    break;
                }
                if cancel.requested() {
                    return Err(LabError::Cancelled);
                }
                if begun.elapsed() > PROGRAMMED_MAX {
                    return Err(ClusterError::NotInTime {
                        what: format!("kube-proxy on {}", node.name),
                        waited: begun.elapsed(),
                        found: missing.to_string(),
                    }
                    .into());
                }
                // The kernel does not say when it has got rules of somebody else's; it is asked again.
                sleep(GLANCE);
            }
        }
        Ok(begun.elapsed())
    }

    /// Leaves it up for a run to come, without what is this run's. Returns what went wrong.
    pub(super) fn keep(self) -> Vec<String> {
        let Self { path, mtu, manifest, client, balancer, machine, control, namespace, .. } = self;
        let mut errors = beside(client, balancer);
        let deadline = Instant::now() + EMPTIED_MAX;
        let emptied = control.run(move |api| async move { namespace.down(&api, deadline).await });
        errors.extend(emptied.err().map(|error| error.to_string()));
        let Path { mode, cni } = path;
        let noted = match machine.nodes()[0].pid {
            Some(pid) => Kept { mode, cni, mtu, manifest }.write(pid),
            None => {
                Err(ClusterError::NotThere { what: "process", host: machine.name().to_owned() })
            }
        };
        errors.extend(noted.err().map(|error| error.to_string()));
        machine.keep();
        errors
    }

    /// Takes it down, and returns what went wrong.
    pub(super) fn down(self) -> Vec<String> {
        let Self { client, balancer, machine, control, .. } = self;
        let mut errors = beside(client, balancer);
        drop(control);
        errors.extend(machine.down().err().map(|error| error.to_string()));
        errors
    }
}

/// Ends the hosts beside a cluster, and returns what went wrong.
fn beside(client: Option<Client>, balancer: Option<Balancer>) -> Vec<String> {
    let ended = [client.map(Client::down), balancer.map(Balancer::down)];
    ended.into_iter().flatten().filter_map(Result::err).map(|error| error.to_string()).collect()
}
