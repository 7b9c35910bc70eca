// SPDX-License-Identifier: Apache-2.0
//! Applies changes over one rtnetlink connection of the host.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, IpVlanMode, MacVlanMode};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec,
    LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use super::{
    Change, Forward, Ipvlan, LinkKind, LinkSettings, Macvlan, NetError, Netns, NewLink, Peer,
    Pending, Route, Scope,
};

/// Why a change was not made, before it is known on which host.
enum Refusal {
    Netlink(rtnetlink::Error),
    Other(NetError),
}

impl From<rtnetlink::Error> for Refusal {
    fn from(error: rtnetlink::Error) -> Self {
        Self::Netlink(error)
    }
}

impl From<NetError> for Refusal {
    fn from(error: NetError) -> Self {
        Self::Other(error)
    }
}

impl Netns {
    /// Makes `changes` in order.
    ///
    /// # Errors
    /// The kernel refuses one; those before it stay.
    pub fn apply(&self, changes: Vec<Change>) -> Result<(), NetError> {
        self.begin_apply(changes).wait()
    }

    /// Starts to make `changes` in order, so that several hosts can be changed at once.
    pub fn begin_apply(&self, changes: Vec<Change>) -> Pending<Result<(), NetError>> {
        let host = self.name().to_owned();
        self.begin(move || async move {
            with_netlink(&host, async |handle| {
                for change in &changes {
                    apply(&handle, change).await.map_err(|refusal| match refusal {
                        Refusal::Other(error) => error,
                        Refusal::Netlink(source) => NetError::Netlink {
                            op: "apply",
                            subject: format!("`{change}` on {host}"),
                            source,
                        },
                    })?;
                }
                Ok(())
            })
            .await
        })
    }
}

/// Runs `work` with a netlink connection of the calling thread's namespace and closes it after.
pub(super) async fn with_netlink<T>(
    host: &str,
    work: impl AsyncFnOnce(Handle) -> Result<T, NetError>,
) -> Result<T, NetError> {
    let (connection, handle, _unsolicited) =
        rtnetlink::new_connection().map_err(NetError::os("open netlink socket on", host))?;
    let driver = tokio::spawn(connection);
    let result = work(handle).await;
    driver.abort();
    // Awaited so that the socket is closed now and not when the thread next has work.
    let _ = driver.await;
    result
}

/// Index of an interface of the calling thread's namespace.
fn index(device: &str) -> Result<u32, NetError> {
    nix::net::if_::if_nametoindex(device)
        .map_err(|errno| NetError::os("find interface", device)(errno.into()))
}

async fn apply(netlink: &Handle, change: &Change) -> Result<(), Refusal> {
    match change {
        Change::AddLink(link) => add_link(netlink, link).await,
        Change::SetLink(settings) => set_link(netlink, settings).await,
        Change::Hairpin(port) => {
            let message = LinkBridgePort::new(index(port)?).hairpin(true).build();
            Ok(netlink.link().set_port(message).execute().await?)
        }
        Change::DeleteLink(name) => Ok(netlink.link().del(index(name)?).execute().await?),
        Change::Address(address) => {
            let (ip, prefix) = (address.cidr.address, address.cidr.prefix);
            let mut request = netlink.address().add(index(&address.device)?, ip, prefix);
            if ip.is_ipv6() {
                // Whether somebody else has it is not asked: that takes a second.
                request.message_mut().header.flags.insert(AddressHeaderFlags::Nodad);
            }
            Ok(request.execute().await?)
        }
        Change::Route(wanted) => Ok(netlink.route().add(route(wanted)?).execute().await?),
        Change::DeleteRoute(there) => Ok(netlink.route().del(route(there)?).execute().await?),
        Change::Neighbour(neighbour) => {
            let request = netlink
                .neighbours()
                .add(index(&neighbour.device)?, neighbour.address)
                .link_layer_address(&neighbour.mac.0);
            Ok(request.execute().await?)
        }
        Change::Forward(Forward { mac, to, device }) => {
            let request = netlink
                .neighbours()
                .add_bridge(index(device)?, &mac.0)
                .destination(*to)
                .flags(NeighbourFlags::Own)
                .state(NeighbourState::Permanent);
            Ok(request.execute().await?)
        }
        Change::Qdisc(qdisc) => {
            Ok(super::qdisc::add(netlink, index(&qdisc.device)?, &qdisc.kind).await?)
        }
        Change::DeleteQdisc(device) => {
            let mut request = netlink.qdisc().del(index(device)? as i32);
            request.message_mut().header.parent = TcHandle::ROOT;
            Ok(request.execute().await?)
        }
    }
}

async fn add_link(netlink: &Handle, link: &NewLink) -> Result<(), Refusal> {
    // Held until the kernel has answered: the message names the descriptor by number.
    let mut other_netns = None;
    let message = match &link.kind {
        LinkKind::Bridge => common(LinkBridge::new(&link.name), link)?.build(),
        LinkKind::Veth(Peer { name, netns, mac }) => {
            let fd = other_netns.insert(netns.fd()?).as_raw_fd();
            let peer = LinkUnspec::new_with_name(name)
                .mtu(link.mtu)
                .address(mac.0.to_vec())
                .setns_by_fd(fd)
                .build();
            common(LinkVeth::new(&link.name, name), link)?
                .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                .build()
        }
        LinkKind::Vxlan(vxlan) => {
            let builder = LinkVxlan::new(&link.name, vxlan.vni)
                .dev(index(&vxlan.device)?)
                .port(vxlan.port)
                .learning(false);
            let builder = match vxlan.local {
                IpAddr::V4(local) => builder.local(local),
                IpAddr::V6(local) => builder.local6(local),
            };
            common(builder, link)?.build()
        }
        LinkKind::Ipvlan(Ipvlan { parent, netns }) => {
            // The parent is looked for in the namespace that asks (rtnl_newlink_create()).
            let mut builder = LinkIpVlan::new(&link.name, index(parent)?, IpVlanMode::L2);
            if let Some(netns) = netns {
                builder = builder.setns_by_fd(other_netns.insert(netns.fd()?).as_raw_fd());
            }
            common(builder, link)?.build()
        }
        LinkKind::Macvlan(Macvlan { parent, netns }) => {
            let mut builder = LinkMacVlan::new(&link.name, index(parent)?, MacVlanMode::Bridge);
            if let Some(netns) = netns {
                builder = builder.setns_by_fd(other_netns.insert(netns.fd()?).as_raw_fd());
            }
            common(builder, link)?.build()
        }
    };
    netlink.link().add(message).execute().await?;
    drop(other_netns);
    Ok(())
}

fn common<T>(
    builder: LinkMessageBuilder<T>,
    link: &NewLink,
) -> Result<LinkMessageBuilder<T>, NetError> {
    let mut builder = builder.mtu(link.mtu).up();
    if let Some(mac) = link.mac {
        builder = builder.address(mac.0.to_vec());
    }
    if let Some(bridge) = &link.bridge {
        builder = builder.controller(index(bridge)?);
    }
    Ok(builder)
}

async fn set_link(netlink: &Handle, settings: &LinkSettings) -> Result<(), Refusal> {
    let index = index(&settings.name)?;
    let netns = settings.netns.as_ref().map(|netns| netns.fd()).transpose()?;
    let mut builder = LinkUnspec::new_with_index(index);
    if let Some(name) = &settings.rename {
        builder = builder.name(name);
    }
    if let Some(netns) = &netns {
        builder = builder.setns_by_fd(netns.as_raw_fd());
    }
    if let Some(bridge) = &settings.bridge {
        builder = builder.controller(self::index(bridge)?);
    }
    if let Some(mtu) = settings.mtu {
        builder = builder.mtu(mtu);
    }
    if let Some(mac) = settings.mac {
        builder = builder.address(mac.0.to_vec());
    }
    builder = match settings.up {
        Some(true) => builder.up(),
        Some(false) => builder.down(),
        None => builder,
    };
    Ok(netlink.link().set(builder.build()).execute().await?)
}

/// A route as the kernel is told of it.
fn route(route: &Route) -> Result<RouteMessage, Refusal> {
    let no_route =
        |what: String| NetError::os("write", format!("route {route}"))(std::io::Error::other(what));
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.address, route.to.prefix)
        .map_err(|error| no_route(error.to_string()))?
        .output_interface(index(&route.device)?)
        .scope(match route.scope {
            Scope::Universe => RouteScope::Universe,
            Scope::Link => RouteScope::Link,
            Scope::Host => RouteScope::Host,
        });
    if let Some(via) = route.via {
        builder = builder.gateway(via).map_err(|error| no_route(error.to_string()))?;
    }
    if route.onlink {
        builder = builder.onlink();
    }
    Ok(builder.build())
}
