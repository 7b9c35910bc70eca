// SPDX-License-Identifier: Apache-2.0
//! The load balancer beside a cluster: a container on the wire of its nodes, for the program that the netns
//! lab has, too, or a router.

use std::net::IpAddr;

use super::client::{Client, strays};
use super::node::{self, NIC, Node};
use super::pods::Pod;
use crate::docker::{AgentsImage, Engine, Host, HostSpec};
use crate::lab::LabError;
use crate::lab::netns::{Role, settings};
use crate::net::addresses::{
    CLIENTS, LOAD_BALANCERS, PODS, family, load_balancer, load_balancer_followed,
};
use crate::net::{Address, Change, Cidr, NetError, Netns, Route};
use crate::plan::{IpStack, ReversePath};

/// A host for a load balancer.
#[derive(Debug)]
pub(super) struct Balancer {
    host: Host,
    /// Address that only this one has.
    pub(super) here: IpAddr,
}

impl Balancer {
    /// Starts one, and makes the ways between it, the client, the nodes that it connects to, the entry node first, the
    /// others, and the pods.
    pub(super) fn up(
        engine: &Engine,
        image: &AgentsImage,
        spec: HostSpec,
        role: Role,
        (nodes, others, pods): (&[Node], &[Node], &[Pod]),
        client: &Client,
    ) -> Result<Self, LabError> {
        // Clusters of a run share the wire, and each has a load balancer of the same addresses: who is meant is
        // told by one that only this has, behind those of its client.
        let here = neighbour(client.addresses[0]);
        let host = Host::up(engine, image, spec).map_err(super::ClusterError::from)?;
        let balancer = Self { host, here };
        let netns = balancer.enter()?;
        netns.write_sysctls(settings(role, IpStack::Ipv4, ReversePath::Off))?;
        let family = family(here);
        let [front, followed] = [load_balancer(family), load_balancer_followed(family)];
        let own = [here, front, followed].map(|address| {
            Change::Address(Address { cidr: Cidr::host(address), device: NIC.to_owned() })
        });
        let to_client =
            Change::Route(Route::via_on_link(CLIENTS.of(family), client.addresses[0], NIC));
        // Pods are asked where there are no Services, and Services' addresses are led to where it is a router.
        let entry = &nodes[0];
        let inward = [PODS.of(family), LOAD_BALANCERS.of(family)]
            .map(|to| Change::Route(Route::via(to, entry.address, NIC)));
        let strays = strays(pods.iter().map(|pod| pod.address), entry);
        netns.apply(own.into_iter().chain([to_client]).chain(inward).chain(strays).collect())?;
        lead(&client.enter()?, &[front], here)?;
        for node in nodes {
            lead(&node.enter()?, &[front, followed], here)?;
        }
        // It asks from the address that Docker gave it, which they would have on their link.
        for node in others {
            lead(&node.enter()?, &[balancer.host.ip()], entry.address)?;
        }
        Ok(balancer)
    }

    /// Takes a handle on its network.
    pub(super) fn enter(&self) -> Result<Netns, LabError> {
        node::enter("balancer", self.host.pid())
    }

    /// Ends it.
    pub(super) fn down(self) -> Result<(), crate::docker::DockerError> {
        self.host.down()
    }
}

/// Leads a load balancer's addresses to one that is its own; not where a cluster that was kept has the routes of
/// a run before.
fn lead(host: &Netns, addresses: &[IpAddr], to: IpAddr) -> Result<(), NetError> {
    let there = host.state()?.routes;
    let missing = addresses
        .iter()
        .map(|&address| Cidr::host(address))
        .filter(|cidr| there.iter().all(|route| route.to != *cidr));
    host.apply(missing.map(|cidr| Change::Route(Route::via_on_link(cidr, to, NIC))).collect())
}

/// The last address of the client's block of 256: it has 200 at most.
fn neighbour(client: IpAddr) -> IpAddr {
    Cidr { address: client, prefix: Cidr::host(client).prefix - 8 }.within(254)
}
