// SPDX-License-Identifier: Apache-2.0
//! Changes to a host's network, as values: planned without a kernel, applied over netlink, looked
//! for again when the kernel is read back. Each shows as the `ip` or `bridge` command that would
//! make it.

use std::fmt;
use std::net::IpAddr;

use super::{Cidr, Mac, NetnsRef, Qdisc};
use crate::plan::IpFamily;

/// One change to a host's network.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new interface.
    AddLink(NewLink),
    /// Settings of an interface that exists.
    SetLink(LinkSettings),
    /// Lets frames leave this bridge port by the way they came: a pod that reaches itself through
    /// its Service.
    Hairpin(String),
    /// Removes an interface; of a veth pair, both ends.
    DeleteLink(String),
    /// An address of an interface.
    Address(Address),
    /// A route in the main table.
    Route(Route),
    /// Removes a route from the main table.
    DeleteRoute(Route),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A permanent entry in a VXLAN device's forwarding table.
    Forward(Forward),
    /// The queue that packets leave an interface through.
    Qdisc(Qdisc),
    /// Gives an interface its own queue back.
    DeleteQdisc(String),
}

/// An interface to be made.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// Name, at most 15 bytes.
    pub name: String,
    /// Kind and what only it has.
    pub kind: LinkKind,
    /// Link-layer address; the kernel invents one if absent.
    pub mac: Option<Mac>,
    /// Largest IP packet, bytes; of both ends of a veth pair.
    pub mtu: u32,
    /// Bridge it becomes a port of.
    pub bridge: Option<String>,
}

/// What an interface is. It is made up, except for a veth's peer: an end of a veth pair cannot go
/// up before the other exists.
#[derive(Clone, Debug)]
pub enum LinkKind {
    /// A bridge without spanning tree.
    Bridge,
    /// One end of a pair.
    Veth(Peer),
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// A slave of an interface in ipvlan's L2 mode.
    Ipvlan(Ipvlan),
    /// A slave of an interface in macvlan's bridge mode.
    Macvlan(Macvlan),
}

/// The other end of a veth pair, made directly in its namespace.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Name, at most 15 bytes.
    pub name: String,
    /// Namespace it is in.
    pub netns: NetnsRef,
    /// Link-layer address.
    pub mac: Mac,
}

/// An ipvlan slave. It has the link-layer address of its parent, whatever is asked for
/// (`drivers/net/ipvlan/ipvlan_main.c`, `ipvlan_link_new()`).
#[derive(Clone, Debug)]
pub struct Ipvlan {
    /// Interface it is a slave of.
    pub parent: String,
    /// Namespace it is made in; that of its parent if absent.
    pub netns: Option<NetnsRef>,
}

/// A macvlan slave, with a link-layer address of its own.
#[derive(Clone, Debug)]
pub struct Macvlan {
    /// Interface it is a slave of.
    pub parent: String,
    /// Namespace it is made in; that of its parent if absent.
    pub netns: Option<NetnsRef>,
}

/// A VXLAN device that learns nothing: its tables are written by the CNI, as flannel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Source address of the outer packets.
    pub local: IpAddr,
    /// Interface they leave by.
    pub device: String,
}

impl Change {
    /// Where the change is found when the kernel is read back, if it is another host than the one
    /// that makes it.
    pub fn elsewhere(&self) -> Option<&NetnsRef> {
        match self {
            Self::AddLink(NewLink { kind: LinkKind::Ipvlan(ipvlan), .. }) => ipvlan.netns.as_ref(),
            Self::AddLink(NewLink { kind: LinkKind::Macvlan(macvlan), .. }) => {
                macvlan.netns.as_ref()
            }
            _ => None,
        }
    }
}

/// New settings of an interface; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct LinkSettings {
    /// Its name.
    pub name: String,
    /// New name, at most 15 bytes. The interface has to be down on kernels before 6.2.
    pub rename: Option<String>,
    /// Namespace to move to. The interface arrives down and without addresses.
    pub netns: Option<NetnsRef>,
    /// Largest IP packet, bytes.
    pub mtu: Option<u32>,
    /// Link-layer address.
    pub mac: Option<Mac>,
    /// Bridge it becomes a port of.
    pub bridge: Option<String>,
    /// Up or down.
    pub up: Option<bool>,
}

impl LinkSettings {
    /// Brings an interface up.
    pub fn up(name: impl Into<String>) -> Self {
        Self { name: name.into(), up: Some(true), ..Self::default() }
    }
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Address and the prefix that is on its link.
    pub cidr: Cidr,
    /// Interface.
    pub device: String,
}

/// A route in the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub to: Cidr,
    /// Next hop; on the link itself if absent.
    pub via: Option<IpAddr>,
    /// Interface.
    pub device: String,
    /// How far away the destination is.
    pub scope: Scope,
    /// The next hop is on the link although no address of ours says so.
    pub onlink: bool,
}

impl Route {
    /// To neighbours on the link.
    pub fn on_link(to: Cidr, device: impl Into<String>) -> Self {
        Self { to, via: None, device: device.into(), scope: Scope::Link, onlink: false }
    }

    /// Through a next hop whose link an address or another route names.
    pub fn via(to: Cidr, next_hop: IpAddr, device: impl Into<String>) -> Self {
        let (via, device) = (Some(next_hop), device.into());
        Self { to, via, device, scope: Scope::Universe, onlink: false }
    }

    /// As the kernel keeps it: of IPv6 it keeps no scope (net/ipv6/route.c, rt6_fill_node()).
    pub(super) fn as_kept(&self) -> Self {
        match self.to.family() {
            IpFamily::Ipv4 => self.clone(),
            IpFamily::Ipv6 => Self { scope: Scope::Universe, ..self.clone() },
        }
    }

    /// Through a next hop that is to be taken for a neighbour.
    pub fn via_on_link(to: Cidr, next_hop: IpAddr, device: impl Into<String>) -> Self {
        Self { onlink: true, ..Self::via(to, next_hop, device) }
    }
}

/// How far away a route's destination is (`rtnetlink(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere.
    Universe,
    /// On the link.
    Link,
    /// On this host; what CNI plugins give a pod's route.
    Host,
}

/// A permanent neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: Mac,
    /// Interface it is on.
    pub device: String,
}

/// A permanent entry in a VXLAN device's forwarding table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Inner destination.
    pub mac: Mac,
    /// Host its frames are sent to.
    pub to: IpAddr,
    /// VXLAN device.
    pub device: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLink(link) => link.fmt(f),
            Self::SetLink(settings) => settings.fmt(f),
            Self::Hairpin(port) => write!(f, "bridge link set dev {port} hairpin on"),
            Self::DeleteLink(name) => write!(f, "ip link delete {name}"),
            Self::Address(Address { cidr, device }) => {
                write!(f, "ip address add {cidr} dev {device}")
            }
            Self::Route(route) => write!(f, "ip route add {route}"),
            Self::DeleteRoute(route) => write!(f, "ip route del {route}"),
            Self::Neighbour(Neighbour { address, mac, device }) => {
                write!(f, "ip neighbour add {address} lladdr {mac} dev {device} nud permanent")
            }
            Self::Forward(Forward { mac, to, device }) => {
                write!(f, "bridge fdb add {mac} dev {device} dst {to} self permanent")
            }
            Self::Qdisc(qdisc) => write!(f, "tc qdisc add {qdisc}"),
            Self::DeleteQdisc(device) => write!(f, "tc qdisc del dev {device} root"),
        }
    }
}

impl fmt::Display for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip link add {} mtu {}", self.name, self.mtu)?;
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(bridge) = &self.bridge {
            write!(f, " master {bridge}")?;
        }
        match &self.kind {
            LinkKind::Bridge => write!(f, " up type bridge"),
            LinkKind::Veth(Peer { name, netns, mac }) => {
                let (netns, mtu) = (netns.name(), self.mtu);
                write!(f, " up type veth peer {name} netns {netns} mtu {mtu} address {mac}")
            }
            LinkKind::Vxlan(Vxlan { vni, port, local, device }) => write!(
                f,
                " up type vxlan id {vni} dstport {port} local {local} dev {device} nolearning"
            ),
            LinkKind::Ipvlan(Ipvlan { parent, netns }) => {
                write!(f, " link {parent}")?;
                if let Some(netns) = netns {
                    write!(f, " netns {}", netns.name())?;
                }
                write!(f, " up type ipvlan mode l2")
            }
            LinkKind::Macvlan(Macvlan { parent, netns }) => {
                write!(f, " link {parent}")?;
                if let Some(netns) = netns {
                    write!(f, " netns {}", netns.name())?;
                }
                write!(f, " up type macvlan mode bridge")
            }
        }
    }
}

impl fmt::Display for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip link set {}", self.name)?;
        if let Some(name) = &self.rename {
            write!(f, " name {name}")?;
        }
        if let Some(netns) = &self.netns {
            write!(f, " netns {}", netns.name())?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(bridge) = &self.bridge {
            write!(f, " master {bridge}")?;
        }
        if let Some(up) = self.up {
            write!(f, " {}", if up { "up" } else { "down" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Cidr { prefix: 0, .. } => write!(f, "default")?,
            to => write!(f, "{to}")?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", self.device)?;
        match self.scope {
            Scope::Universe => {}
            Scope::Link => write!(f, " scope link")?,
            Scope::Host => write!(f, " scope host")?,
        }
        if self.onlink { write!(f, " onlink") } else { Ok(()) }
    }
}
