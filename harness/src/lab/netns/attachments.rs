// SPDX-License-Identifier: Apache-2.0
//! Pods that plugins of others attach to their nodes, and the devices they are found to have made.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Hosts, NetnsError, Node, Pod, Topology};
use crate::cni::POD_ETH;
use crate::cni::exec::{Attached, Attaching, Exec, ExecError, NodeValues, Plugins};
use crate::net::addresses::{family, pods_prefix};
use crate::net::{Cidr, Link, State};
use crate::plan::{CniKind, Conflist};

/// What the lab has its pods attached by.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The list.
    pub list: Conflist,
    /// Its programs.
    pub plugins: Plugins,
    /// Where a folder for their state is made.
    pub scratch: PathBuf,
}

/// The attached pods of a lab, in the order in which they were attached: that of [`Hosts::pods`].
#[derive(Debug)]
pub(super) struct Attachments {
    list: Conflist,
    plugins: Plugins,
    /// A folder for each node in it.
    state: TempDir,
    pods: Vec<Attached>,
}

impl Attachments {
    /// Attaches every pod. What was attached before one fails is detached again.
    pub(super) fn make(
        attachment: Attachment,
        topology: &Topology,
        hosts: &Hosts,
    ) -> Result<Self, NetnsError> {
        let Attachment { list, plugins, scratch } = attachment;
        let state = tempfile::Builder::new().prefix("cni-").tempdir_in(scratch);
        let state = state.map_err(ExecError::State)?;
        let mut made = Self { list, plugins, state, pods: Vec::new() };
        for pod in hosts.pods() {
            let outcome = made.attach(pod, &hosts.nodes()[pod.node], topology);
            if let Err(error) = outcome {
                // What else goes wrong now says less than this error; the namespaces go anyway.
                drop(made.detach(hosts));
                return Err(error.into());
            }
        }
        Ok(made)
    }

    fn attach(&mut self, pod: &Pod, node: &Node, topology: &Topology) -> Result<(), ExecError> {
        let state = self.state.path().join(&node.name);
        std::fs::create_dir_all(&state).map_err(ExecError::State)?;
        let pod_cidr = topology.pod_cidr(pod.node as u32);
        let values = NodeValues {
            pod_cidr,
            gateway: pod_cidr.nth(1),
            address: node.address,
            default_route: Cidr::any(family(node.address)),
            nic: node.nic.clone(),
            mtu: topology.mtu,
        };
        let at = attaching(pod, node);
        let (attached, outcome) = Attached::add(&self.list, &self.plugins, at, &values, &state);
        self.pods.push(attached);
        outcome
    }

    /// Detaches every pod, the last one first. Returns what went wrong.
    pub(super) fn detach(&mut self, hosts: &Hosts) -> Vec<String> {
        let mut errors = Vec::new();
        let all: Vec<_> = self.pods.drain(..).zip(hosts.pods()).collect();
        for (attached, pod) in all.into_iter().rev() {
            let at = attaching(pod, &hosts.nodes()[pod.node]);
            let failed = attached.del(&self.plugins, at);
            errors.extend(failed.iter().map(ToString::to_string));
        }
        errors
    }

    /// Shows that the pods' kernels hold what the results say, and that the plugins find it, too.
    pub(super) fn prove(&self, hosts: &Hosts) -> Result<Vec<String>, NetnsError> {
        let label = self.list.label();
        let mut evidence = vec![format!(
            "cni {label} is a list of {} with sha256 {}",
            self.list.plugins().iter().map(|one| &*one.program).collect::<Vec<_>>().join(", "),
            self.list.sha256(),
        )];
        evidence.extend(self.plugins.evidence());
        for (attached, pod) in self.pods.iter().zip(hosts.pods()) {
            let state = pod.netns.state()?;
            let held = attached.holds(&state).map_err(|(expected, found)| {
                let found = found.chars().take(2000).collect();
                NetnsError::NotProved {
                    cni: CniKind::Exec,
                    host: pod.name.clone(),
                    expected,
                    found,
                }
            })?;
            evidence.extend(held);
            if self.list.has_check() {
                let at = attaching(pod, &hosts.nodes()[pod.node]);
                attached.check(&self.plugins, at)?;
            }
        }
        evidence.push(match self.list.has_check() {
            true => format!("CHECK of {} pods found all as ADD had made it", self.pods.len()),
            false => "CHECK was left out, as the list says".to_owned(),
        });
        Ok(evidence)
    }

    /// Finds the devices by which nodes reach their pods, and says whose path that is.
    pub(super) fn find_devices(&self, hosts: &mut Hosts) -> Result<CniKind, NetnsError> {
        let Hosts { pods, nodes, .. } = hosts;
        let mut bridges = Vec::new();
        let mut slaves = true;
        for (index, node) in nodes.iter_mut().enumerate() {
            let state = node.netns.state()?;
            let mut of_pods = Vec::new();
            for pod in pods.iter_mut().filter(|pod| pod.node == index) {
                let inner = pod.netns.state()?;
                slaves &= inner.link(POD_ETH).is_some_and(is_macvlan);
                let found = veth(&state, &inner);
                pod.veth = found.as_ref().map(|(name, _)| name.clone());
                of_pods.push(found.map(|(_, bridge)| bridge));
            }
            let first = of_pods.first().cloned().flatten();
            // One that is not that of all pods is nobody's.
            let same =
                first.filter(|first| of_pods.iter().all(|other| other.as_ref() == Some(first)));
            node.bridge = same.clone().flatten();
            bridges.push(same);
        }
        let walked = match &bridges[..] {
            _ if slaves => CniKind::Macvlan,
            all if all.iter().all(|one| matches!(one, Some(None))) => CniKind::Ptp,
            all if all.iter().all(|one| matches!(one, Some(Some(_)))) => CniKind::Bridge,
            _ => CniKind::Exec,
        };
        // The name of the first plugin is a promise, of which a mode may have made use.
        if walked != Exec::expected(&self.list) {
            return Err(NetnsError::NotProved {
                cni: CniKind::Exec,
                host: "the nodes".to_owned(),
                expected: format!("devices as plugin {} makes them", self.list.first()),
                found: format!("pods behind {bridges:?}"),
            });
        }
        Ok(walked)
    }

    /// For the record: file name and content.
    pub(super) fn file(&self) -> (String, Vec<u8>) {
        ("cni.conflist".to_owned(), self.list.text().as_bytes().to_vec())
    }
}

fn attaching<'a>(pod: &'a Pod, node: &'a Node) -> Attaching<'a> {
    let prefix = pods_prefix(family(pod.address));
    let address = Cidr { address: pod.address, prefix };
    Attaching { node: &node.netns, pod: &pod.netns, address }
}

/// The node's end of a pod's veth pair, each end of which names the other's index, and the bridge it
/// is a port of. `None` where the pod has no such pair.
fn veth(node: &State, pod: &State) -> Option<(String, Option<String>)> {
    let is_veth = |kind: &Option<String>| kind.as_deref() == Some("veth");
    let inner = pod.link(POD_ETH).filter(|link| is_veth(&link.kind))?;
    let outer = node.links.iter().find(|link| {
        is_veth(&link.kind) && Some(link.index) == inner.parent && link.parent == Some(inner.index)
    });
    outer.map(|link| (link.name.clone(), link.bridge.clone()))
}

fn is_macvlan(link: &Link) -> bool {
    link.kind.as_deref() == Some("macvlan") && link.macvlan_bridge
}
