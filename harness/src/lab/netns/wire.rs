// SPDX-License-Identifier: Apache-2.0
//! What joins the client and the nodes: a switch, each host's `eth0` on it, addresses and routes.

use std::net::IpAddr;

use super::{Emulation, Topology};
use crate::net::addresses::{
    CLIENTS, LOAD_BALANCERS, NODES, PODS, load_balancer, load_balancer_followed,
};
use crate::net::{
    Address, Change, Cidr, LinkKind, LinkSettings, Mac, NetnsRef, NewLink, Peer, Qdisc, QdiscKind,
    Route,
};
use crate::plan::IpFamily;

/// Every host's interface.
pub(super) const ETH: &str = "eth0";
/// The client's port: ports are named after their hosts.
const CLIENT_PORT: &str = "client";
/// The switch's bridge.
const SWITCH: &str = "br0";

/// The switch of the client alone, where the wire to the other one does more than carry packets.
const CLIENT_SWITCH: &str = "br1";
/// Ends of that wire, both in the fabric, named after where what leaves by them goes.
const TO_NODES: &str = "to-nodes";
const TO_CLIENT: &str = "to-client";

/// Addresses of the load balancer.
fn of_balancer(family: IpFamily) -> [IpAddr; 2] {
    [load_balancer(family), load_balancer_followed(family)]
}

/// Whether a port of a switch leads to the other switch, and not to a host.
pub(super) fn is_between_switches(port: &str) -> bool {
    [TO_NODES, TO_CLIENT].contains(&port)
}

/// A wire between the client's switch and the nodes', with a queue at each end. Neither end is an
/// interface that a probe looks at: what happens here lies between the client's and the node's.
pub(super) fn emulated(mtu: u32, fabric: NetnsRef, emulation: &Emulation) -> Vec<Change> {
    let bridge = NewLink {
        name: CLIENT_SWITCH.to_owned(),
        kind: LinkKind::Bridge,
        mac: None,
        mtu,
        bridge: None,
    };
    // The network's own address is no host's.
    let peer = Peer {
        name: TO_CLIENT.to_owned(),
        netns: fabric,
        mac: Mac::of(CLIENTS.of(IpFamily::Ipv4).address),
    };
    let pair = NewLink {
        name: TO_NODES.to_owned(),
        kind: LinkKind::Veth(peer),
        mac: None,
        mtu,
        bridge: Some(CLIENT_SWITCH.to_owned()),
    };
    let port = LinkSettings { bridge: Some(SWITCH.to_owned()), ..LinkSettings::up(TO_CLIENT) };
    let queue = |device: &str, kind: &QdiscKind| {
        Change::Qdisc(Qdisc { device: device.to_owned(), kind: kind.clone() })
    };
    vec![
        Change::AddLink(bridge),
        Change::AddLink(pair),
        Change::SetLink(port),
        Change::SetLink(LinkSettings {
            bridge: Some(CLIENT_SWITCH.to_owned()),
            ..LinkSettings::up(CLIENT_PORT)
        }),
        queue(TO_NODES, &emulation.to_nodes),
        queue(TO_CLIENT, &emulation.to_client),
    ]
}

/// The switch with a port per host, named as the host; the hosts' ends appear in their namespaces.
pub(super) fn switch(mtu: u32, hosts: &[(NetnsRef, IpAddr)]) -> Vec<Change> {
    let bridge =
        NewLink { name: SWITCH.to_owned(), kind: LinkKind::Bridge, mac: None, mtu, bridge: None };
    let port = |(netns, address): &(NetnsRef, IpAddr)| {
        let peer = Peer { name: ETH.to_owned(), netns: netns.clone(), mac: Mac::of(*address) };
        NewLink {
            name: netns.name().to_owned(),
            kind: LinkKind::Veth(peer),
            mac: None,
            mtu,
            bridge: Some(SWITCH.to_owned()),
        }
    };
    std::iter::once(bridge).chain(hosts.iter().map(port)).map(Change::AddLink).collect()
}

/// The client: its addresses, the nodes on its link, everything else of the cluster through the
/// entry node, or the router before it.
pub(super) fn client(topology: &Topology) -> Vec<Change> {
    let family = topology.family;
    let entry = if topology.routed { load_balancer(family) } else { topology.node_address(0) };
    let addresses = topology.client_addresses().enumerate().map(|(n, address)| {
        // The first with the network's prefix, so that it is the one the kernel chooses itself.
        let own = Cidr::host(address);
        let cidr = if n == 0 { Cidr { prefix: CLIENTS.of(family).prefix, ..own } } else { own };
        Change::Address(Address { cidr, device: ETH.to_owned() })
    });
    let routes = [
        Route::on_link(NODES.of(family), ETH),
        Route::via(PODS.of(family), entry, ETH),
        Route::via(LOAD_BALANCERS.of(family), entry, ETH),
    ];
    up().chain(addresses).chain(routes.map(Change::Route)).collect()
}

/// The load balancer: clients through the first, as the entry node reaches them, nodes on its link,
/// pods, which it asks where there are no Services, through the entry node, and addresses of Services, which
/// it leads to where it is a router.
pub(super) fn balancer(topology: &Topology) -> Vec<Change> {
    let family = topology.family;
    let own = of_balancer(family)
        .map(|address| Address { cidr: Cidr::host(address), device: ETH.to_owned() });
    let clients = CLIENTS.of(family);
    let routes = [
        Route::via_on_link(clients, clients.nth(1), ETH),
        Route::on_link(NODES.of(family), ETH),
        Route::via(PODS.of(family), topology.node_address(0), ETH),
    ];
    let led_to = topology.balanced.first().filter(|_| topology.routed);
    let services = led_to.map(|&node| {
        let through = topology.node_address(node);
        Change::Route(Route::via(LOAD_BALANCERS.of(family), through, ETH))
    });
    up().chain(own.map(Change::Address)).chain(routes.map(Change::Route)).chain(services).collect()
}

/// A node before its CNI. The entry node reaches all client addresses through the first, as it
/// would clients behind their own router: one neighbour to resolve, and not one per address. A node
/// that the load balancer connects to has it on its link; the others answer it as they answer clients.
pub(super) fn node(topology: &Topology, index: u32) -> Vec<Change> {
    let (family, balanced) = (topology.family, topology.balanced.contains(&index));
    let prefix = NODES.of(family).prefix;
    let cidr = Cidr { address: topology.node_address(index), prefix };
    let clients = CLIENTS.of(family);
    let to_clients = Route::via_on_link(clients, clients.nth(1), ETH);
    // Every node has a way out. Without one a packet for a Service that is not translated (no
    // endpoints, none of them local) has no route, and never reaches the FORWARD hook where
    // kube-proxy rejects or drops it.
    let way_out = match index {
        0 => Route::via_on_link(Cidr::any(family), clients.nth(1), ETH),
        _ => Route::via(Cidr::any(family), topology.node_address(0), ETH),
    };
    let to_balancer = of_balancer(family).into_iter().filter(|_| balanced);
    let to_balancer = to_balancer.map(|address| Route::on_link(Cidr::host(address), ETH));
    up().chain([Change::Address(Address { cidr, device: ETH.to_owned() })])
        .chain((index == 0).then_some(Change::Route(to_clients)))
        .chain(to_balancer.map(Change::Route))
        .chain([Change::Route(way_out)])
        .collect()
}

fn up() -> impl Iterator<Item = Change> {
    std::iter::once(Change::SetLink(LinkSettings::up(ETH)))
}
