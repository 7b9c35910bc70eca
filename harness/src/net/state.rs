// SPDX-License-Identifier: Apache-2.0
//! A host's network read back from the kernel, in the same words as the changes that made it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use futures_util::{Stream, StreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoIpVlan, InfoMacVlan, InfoPortData, InfoVxlan, IpVlanMode,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::apply::with_netlink;
use super::{
    Address, Cidr, Forward, Mac, Neighbour, NetError, Netns, Qdisc, Route, Scope, Vxlan, qdisc,
};
use crate::plan::IpFamily;

/// What a host's kernel holds: addresses, but for IPv6's link-local ones, which it gives itself; the main table's
/// routes; permanent neighbours.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Interfaces by index.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes, those the kernel adds for an address included.
    pub routes: Vec<Route>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Forwarding tables of VXLAN devices.
    pub forwards: Vec<Forward>,
    /// Queues of the kinds this crate makes, at the root of an interface.
    pub qdiscs: Vec<Qdisc>,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Link {
    /// Index, unique in the namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind by its kernel name: `veth`, `bridge`, `vxlan`, `ipvlan`, `macvlan`; absent for the loopback.
    pub kind: Option<String>,
    /// Link-layer address.
    pub mac: Option<Mac>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Bridge it is a port of.
    pub bridge: Option<String>,
    /// As a bridge port: whether a frame may leave by the way it came.
    pub hairpin: bool,
    /// As a VXLAN device: its settings.
    pub vxlan: Option<Vxlan>,
    /// As an ipvlan slave: whether in L2 mode.
    pub ipvlan_l2: bool,
    /// As a macvlan slave: whether in bridge mode.
    pub macvlan_bridge: bool,
    /// Index of the interface it is made upon, in that one's namespace.
    pub parent: Option<u32>,
    /// What went through it so far.
    pub counters: Counters,
}

/// What went through an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped, either way.
    pub dropped: u64,
}

impl State {
    /// The interface of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

impl Netns {
    /// Reads the host's network back from the kernel.
    ///
    /// # Errors
    /// The kernel refuses a dump.
    pub fn state(&self) -> Result<State, NetError> {
        let host = self.name().to_owned();
        self.block_on(move || async move {
            with_netlink(&host, async |handle| read(&handle, &host).await).await
        })
    }
}

pub(super) async fn read(netlink: &Handle, host: &str) -> Result<State, NetError> {
    dump(netlink).await.map_err(|source| NetError::Netlink {
        op: "read",
        subject: format!("network of {host}"),
        source,
    })
}

async fn dump(netlink: &Handle) -> Result<State, rtnetlink::Error> {
    let messages = all(netlink.link().get().execute()).await?;
    let names = Names(messages.iter().map(|m| (m.header.index, name(m))).collect());
    let links: Vec<_> = messages.iter().map(|message| link(message, &names)).collect();
    let addresses = all(netlink.address().get().execute()).await?;
    let route_filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = all(netlink.route().get(route_filter).execute()).await?;
    let route_filter = RouteMessageBuilder::<Ipv6Addr>::new().build();
    routes.extend(all(netlink.route().get(route_filter).execute()).await?);
    let mut neighbours = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let of_family = netlink.neighbours().get().set_address_family(family);
        neighbours.extend(all(of_family.execute()).await?);
    }
    let forwards = netlink.neighbours().get().set_address_family(AddressFamily::Bridge);
    let forwards = all(forwards.execute()).await?;
    let qdiscs = qdisc::read(netlink).await?;
    Ok(State {
        links,
        addresses: addresses.iter().filter_map(|message| address(message, &names)).collect(),
        routes: routes.iter().filter_map(|message| route(message, &names)).collect(),
        neighbours: neighbours.iter().filter_map(|message| neighbour(message, &names)).collect(),
        forwards: forwards.iter().filter_map(|message| forward(message, &names)).collect(),
        qdiscs: qdiscs
            .into_iter()
            .filter_map(|(index, kind)| Some(Qdisc { device: names.of(index)?, kind }))
            .collect(),
    })
}

pub(super) async fn all<T>(
    dump: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, rtnetlink::Error> {
    let mut dump = pin!(dump);
    let mut messages = Vec::new();
    while let Some(message) = dump.next().await {
        messages.push(message?);
    }
    Ok(messages)
}

/// Interfaces' names by index.
struct Names(std::collections::HashMap<u32, String>);

impl Names {
    fn of(&self, index: u32) -> Option<String> {
        self.0.get(&index).cloned()
    }
}

fn name(message: &LinkMessage) -> String {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

fn link(message: &LinkMessage, names: &Names) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: name(message),
        kind: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        bridge: None,
        hairpin: false,
        vxlan: None,
        ipvlan_l2: false,
        macvlan_bridge: false,
        parent: None,
        counters: Counters::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => link.parent = Some(*index),
            LinkAttribute::Controller(index) => link.bridge = names.of(*index),
            LinkAttribute::Stats64(stats) => {
                link.counters = Counters {
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    dropped: stats.rx_dropped + stats.tx_dropped,
                };
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    kind(info, &mut link, names);
                }
            }
            _ => {}
        }
    }
    link
}

fn kind(info: &LinkInfo, link: &mut Link, names: &Names) {
    match info {
        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
        LinkInfo::Data(InfoData::IpVlan(infos)) => {
            link.ipvlan_l2 =
                infos.iter().any(|info| matches!(info, InfoIpVlan::Mode(IpVlanMode::L2)));
        }
        LinkInfo::Data(InfoData::MacVlan(infos)) => {
            link.macvlan_bridge =
                infos.iter().any(|info| matches!(info, InfoMacVlan::Mode(MacVlanMode::Bridge)));
        }
        LinkInfo::Data(InfoData::Vxlan(infos)) => link.vxlan = vxlan(infos, names),
        LinkInfo::PortData(InfoPortData::BridgePort(infos)) => {
            link.hairpin =
                infos.iter().any(|info| matches!(info, InfoBridgePort::HairpinMode(true)));
        }
        _ => {}
    }
}

fn vxlan(infos: &[InfoVxlan], names: &Names) -> Option<Vxlan> {
    let (mut vni, mut port, mut local, mut device) = (None, None, None, None);
    for info in infos {
        match info {
            InfoVxlan::Id(id) => vni = Some(*id),
            InfoVxlan::Port(number) => port = Some(*number),
            InfoVxlan::Local(address) => local = Some(IpAddr::from(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::from(*address)),
            InfoVxlan::Link(index) => device = names.of(*index),
            // Not the device this crate makes: its table would not be the one that was written.
            InfoVxlan::Learning(true) => return None,
            _ => {}
        }
    }
    Some(Vxlan { vni: vni?, port: port?, local: local?, device: device? })
}

/// Whether it is one that a host gives each of its interfaces (RFC 4291, section 2.5.6).
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn address(message: &AddressMessage, names: &Names) -> Option<Address> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None::<IpAddr>,
    });
    // IPv6 has no other end whose address would be told apart (net/ipv6/addrconf.c, inet6_fill_ifaddr()).
    let local = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
            _ => None,
        })
    });
    let local = local.filter(|&address| !is_link_local(address))?;
    let cidr = Cidr { address: local, prefix: message.header.prefix_len };
    Some(Address { cidr, device: names.of(message.header.index)? })
}

fn route(message: &RouteMessage, names: &Names) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let scope = match message.header.scope {
        RouteScope::Universe => Scope::Universe,
        RouteScope::Link => Scope::Link,
        RouteScope::Host => Scope::Host,
        _ => return None,
    };
    let family = match message.header.address_family {
        AddressFamily::Inet => IpFamily::Ipv4,
        AddressFamily::Inet6 => IpFamily::Ipv6,
        _ => return None,
    };
    let (mut to, mut via, mut device) = (Cidr::any(family), None, None);
    to.prefix = message.header.destination_prefix_length;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                to.address = (*address).into()
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                to.address = (*address).into();
            }
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some((*address).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => via = Some((*address).into()),
            RouteAttribute::Oif(index) => device = names.of(*index),
            _ => {}
        }
    }
    if is_link_local(to.address) {
        return None;
    }
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    Some(Route { to, via, device: device?, scope, onlink })
}

fn neighbour(message: &NeighbourMessage, names: &Names) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (address, mac) = neighbour_attributes(message);
    Some(Neighbour { address: address?, mac: mac?, device: names.of(message.header.ifindex)? })
}

fn forward(message: &NeighbourMessage, names: &Names) -> Option<Forward> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    // Entries of bridges have no destination address, so only VXLAN devices' are left.
    let (to, mac) = neighbour_attributes(message);
    Some(Forward { mac: mac?, to: to?, device: names.of(message.header.ifindex)? })
}

fn neighbour_attributes(message: &NeighbourMessage) -> (Option<IpAddr>, Option<Mac>) {
    let (mut address, mut link_layer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some((*v4).into());
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some((*v6).into());
            }
            // In the bridge family the address' family is not said and it comes as bytes.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                let four = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
                address = four.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from)).ok();
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => link_layer = mac(bytes),
            _ => {}
        }
    }
    (address, link_layer)
}
