// SPDX-License-Identifier: Apache-2.0
//! The client outside of a cluster: a container on the wire of its nodes.

use std::net::IpAddr;
use std::path::PathBuf;

use super::node::{self, NIC, Node};
use crate::docker::{AgentsImage, Engine, Host, HostSpec};
use crate::lab::LabError;
use crate::lab::netns::{Role, settings};
use crate::net::addresses::{CLIENTS, LOAD_BALANCERS, PODS, family, number};
use crate::net::{Address, Change, Cidr, Netns, Route};
use crate::plan::{IpStack, ReversePath};

/// Docker's network of kind's nodes.
pub(super) const NETWORK: &str = "kind";

/// Ways between a client and its cluster.
#[derive(Debug)]
pub(super) struct Ways {
    /// How many addresses it has to open connections from.
    pub(super) addresses: u32,
    /// Pods that it is to reach.
    pub(super) pods: Vec<IpAddr>,
    /// Whether no client was there before.
    pub(super) first: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    host: Host,
    pub(super) addresses: Vec<IpAddr>,
}

impl Client {
    /// Starts one, and gives it addresses to open connections from and routes by the entry node.
    pub(super) fn up(
        engine: &Engine,
        image: &AgentsImage,
        spec: HostSpec,
        entry: &Node,
        ways: Ways,
    ) -> Result<Self, LabError> {
        let Ways { addresses, pods, first } = ways;
        let host = Host::up(engine, image, spec).map_err(super::ClusterError::from)?;
        // Clusters of a run share the wire: the entry node's number tells their clients apart.
        let family = family(entry.address);
        let first_of_ours = (number(entry.address) & 0xff) << 8 | 1;
        let addresses: Vec<_> = (first_of_ours..first_of_ours + u128::from(addresses))
            .map(|n| CLIENTS.of(family).nth(n))
            .collect();
        let client = Self { host, addresses };
        let netns = client.enter()?;
        netns.write_sysctls(settings(Role::Client, IpStack::Ipv4, ReversePath::Off))?;
        let own = client.addresses.iter().map(|&address| {
            Change::Address(Address { cidr: Cidr::host(address), device: NIC.to_owned() })
        });
        let routes = [PODS.of(family), LOAD_BALANCERS.of(family)]
            .map(|to| Change::Route(Route::via(to, entry.address, NIC)));
        netns.apply(own.chain(routes).chain(strays(pods, entry)).collect())?;
        // It answers for all its addresses; the entry node asks for the first only.
        // Where a client was before, the route is there.
        if first {
            let back = Route::via_on_link(CLIENTS.of(family), client.addresses[0], NIC);
            entry.enter()?.apply(vec![Change::Route(back)])?;
        }
        Ok(client)
    }

    /// Gives it a way to a pod that was not there when it came.
    pub(super) fn reach(&self, pod: IpAddr, entry: &Node) -> Result<(), LabError> {
        Ok(self.enter()?.apply(strays([pod], entry).collect())?)
    }

    /// Takes a handle on its network.
    pub(super) fn enter(&self) -> Result<Netns, LabError> {
        node::enter("client", self.host.pid())
    }

    /// Socket of its load generator.
    pub(super) fn socket(&self) -> PathBuf {
        self.host.socket()
    }

    /// Ends it.
    pub(super) fn down(self) -> Result<(), crate::docker::DockerError> {
        self.host.down()
    }
}

/// Routes to pods of CNIs that have ranges of their own.
pub(super) fn strays(
    pods: impl IntoIterator<Item = IpAddr>,
    entry: &Node,
) -> impl Iterator<Item = Change> {
    let others = pods.into_iter().filter(|&pod| !PODS.like(pod).contains(pod));
    others.map(|pod| Change::Route(Route::via(Cidr::host(pod), entry.address, NIC)))
}
