// SPDX-License-Identifier: Apache-2.0
//! The node that the program runs on, and its pods: handles on their namespaces, and how they are wired.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use super::agent::Refusal;
use super::namespaces;
use super::protocol::{Look, PODS_MAX, PodWiring, Surroundings};
use crate::net::{Link, NetError, Netns, State};

/// Where processes are; the first is the node's.
const PROC: &str = "/proc";

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    netns: Option<Netns>,
    pods: BTreeMap<IpAddr, Netns>,
}

impl Node {
    /// A node of which only pods are looked at.
    pub(super) fn of_pods() -> Self {
        Self { netns: None, pods: BTreeMap::new() }
    }

    /// Takes a handle on the node that this program sees the processes of.
    pub(super) fn enter(name: &str) -> Result<Self, Refusal> {
        let path = Path::new(PROC).join("1/ns/net");
        let opened = File::open(&path).map_err(NetError::os("open", path.display().to_string()))?;
        Ok(Self { netns: Some(Netns::enter(name, opened.into())?), pods: BTreeMap::new() })
    }

    /// Its own namespace.
    pub(super) fn netns(&self) -> Result<&Netns, Refusal> {
        self.netns.as_ref().ok_or_else(|| {
            Refusal::Failed("failed to look at the node: only its pods are".to_owned())
        })
    }

    /// The pod with this address, looked for before.
    pub(super) fn pod(&self, address: IpAddr) -> Result<&Netns, Refusal> {
        self.pods.get(&address).ok_or_else(|| {
            Refusal::Failed(format!("failed to find pod {address}: it was not looked for"))
        })
    }

    /// Finds pods, gives them names, and forgets others.
    pub(super) fn find(&mut self, pods: &[(IpAddr, String)]) -> Result<(), Refusal> {
        if pods.len() > PODS_MAX {
            let found = format!("failed to find {} pods: more than {PODS_MAX}", pods.len());
            return Err(Refusal::Failed(found));
        }
        let wanted: BTreeSet<_> = pods.iter().map(|(address, _)| *address).collect();
        let mut found = namespaces::find(Path::new(PROC), &wanted)
            .map_err(NetError::os("look through", PROC))?;
        self.pods.clear();
        for (address, name) in pods {
            let namespace = found.remove(address).ok_or_else(|| {
                Refusal::Failed(format!(
                    "failed to find pod {address} on its node: no process's network has that address"
                ))
            })?;
            self.pods.insert(*address, Netns::enter(name.clone(), namespace)?);
        }
        Ok(())
    }

    /// How it is wired.
    pub(super) fn look(&mut self, look: &Look) -> Result<Surroundings, Refusal> {
        let named: Vec<_> = look.pods.iter().map(|pod| (*pod, pod.to_string())).collect();
        self.find(&named)?;
        let state = self.netns()?.state()?;
        let nic = device_of(&state, look.address).ok_or_else(|| {
            let address = look.address;
            Refusal::Failed(format!("failed to find the node's NIC: no device has {address}"))
        })?;
        let pods = look.pods.iter().map(|&pod| wiring(&state, self.pod(pod)?, pod));
        let pods = pods.collect::<Result<_, _>>()?;
        let ways = look.ways.iter().take(PODS_MAX).map(|&to| way(&state, to)).collect();
        Ok(Surroundings { nic, pods, ways })
    }
}

fn device_of(state: &State, address: IpAddr) -> Option<String> {
    let has = |found: &&crate::net::Address| found.cidr.address == address;
    state.addresses.iter().find(has).map(|found| found.device.clone())
}

/// How a pod is wired. Each end of a veth pair knows the other's index (`IFLA_LINK`).
fn wiring(node: &State, netns: &Netns, address: IpAddr) -> Result<PodWiring, Refusal> {
    let pod = netns.state()?;
    let device = device_of(&pod, address).ok_or_else(|| {
        Refusal::Failed(format!("failed to find the device of pod {address}: it is gone"))
    })?;
    let inner = pod.link(&device);
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    let end = inner.filter(|link| is_veth(link)).and_then(|inner| {
        node.links.iter().find(|outer| {
            is_veth(outer) && Some(outer.index) == inner.parent && Some(inner.index) == outer.parent
        })
    });
    let (veth, bridge) = end.map(|end| (end.name.clone(), end.bridge.clone())).unzip();
    Ok(PodWiring { device, veth, bridge: bridge.flatten() })
}

/// The device by which the main table sends what is for an address: the longest prefix decides.
fn way(state: &State, to: IpAddr) -> String {
    let matching = state.routes.iter().filter(|route| route.to.contains(to));
    let longest = matching.max_by_key(|route| route.to.prefix);
    longest.map(|route| route.device.clone()).unwrap_or_default()
}
