// SPDX-License-Identifier: Apache-2.0
//! Looks for changes in what the kernel holds: the proof that they are what carries the packets.

use super::{Change, Ipvlan, LinkKind, LinkSettings, Macvlan, NewLink, State};

impl State {
    /// Whether this kernel state holds what `change` asked for; of the host where the change is
    /// found, which [`Change::elsewhere`] may say.
    ///
    /// # Errors
    /// What is there instead.
    pub fn holds(&self, change: &Change) -> Result<(), String> {
        match change {
            Change::AddLink(link) => self.holds_link(link),
            Change::SetLink(settings) => self.holds_settings(settings),
            Change::Hairpin(port) => match self.link(port) {
                Some(link) if link.hairpin => Ok(()),
                other => Err(format!("{other:?}")),
            },
            Change::DeleteLink(name) => match self.link(name) {
                None => Ok(()),
                Some(link) => Err(format!("{link:?}")),
            },
            Change::Address(address) => among(address, &self.addresses),
            Change::Route(route) => among(&route.as_kept(), &self.routes),
            Change::DeleteRoute(route) => match self.routes.contains(&route.as_kept()) {
                false => Ok(()),
                true => Err(format!("`{route}`")),
            },
            Change::Neighbour(neighbour) => among(neighbour, &self.neighbours),
            Change::Forward(forward) => among(forward, &self.forwards),
            Change::Qdisc(wanted) => {
                let found = self.qdiscs.iter().find(|found| found.device == wanted.device);
                match found {
                    Some(found) if found.kind.does(&wanted.kind) => Ok(()),
                    Some(found) => Err(format!("`{found}`")),
                    None => Err("a queue of another kind, or none".to_owned()),
                }
            }
            Change::DeleteQdisc(device) => {
                match self.qdiscs.iter().find(|found| found.device == *device) {
                    None => Ok(()),
                    Some(found) => Err(format!("`{found}`")),
                }
            }
        }
    }

    fn holds_link(&self, wanted: &NewLink) -> Result<(), String> {
        let Some(link) = self.link(&wanted.name) else {
            return Err(format!("no interface {}", wanted.name));
        };
        let kind = match &wanted.kind {
            LinkKind::Bridge => link.kind.as_deref() == Some("bridge"),
            LinkKind::Veth(_) => link.kind.as_deref() == Some("veth"),
            LinkKind::Vxlan(vxlan) => link.vxlan.as_ref() == Some(vxlan),
            LinkKind::Ipvlan(Ipvlan { parent, netns }) => {
                // In another namespace the parent's index means nothing, and the slave's
                // link-layer address tells whose it is.
                let index = self.link(parent).map(|parent| parent.index);
                let kind = link.kind.as_deref() == Some("ipvlan") && link.ipvlan_l2;
                kind && link.parent.is_some() && (netns.is_some() || link.parent == index)
            }
            LinkKind::Macvlan(Macvlan { parent, netns }) => {
                let index = self.link(parent).map(|parent| parent.index);
                let kind = link.kind.as_deref() == Some("macvlan") && link.macvlan_bridge;
                kind && link.parent.is_some() && (netns.is_some() || link.parent == index)
            }
        };
        let same = kind
            && link.up
            && link.mtu == wanted.mtu
            && link.bridge == wanted.bridge
            && (wanted.mac.is_none() || link.mac == wanted.mac);
        if same { Ok(()) } else { Err(format!("{link:?}")) }
    }

    fn holds_settings(&self, wanted: &LinkSettings) -> Result<(), String> {
        let name = wanted.rename.as_ref().unwrap_or(&wanted.name);
        let link = match (self.link(name), &wanted.netns) {
            (Some(link), None) => link,
            // It moved away; its settings are read in its new namespace.
            (None, Some(_)) => return Ok(()),
            (None, None) => return Err(format!("no interface {name}")),
            (Some(link), Some(_)) => return Err(format!("still here: {link:?}")),
        };
        let same = wanted.mtu.is_none_or(|mtu| link.mtu == mtu)
            && wanted.up.is_none_or(|up| link.up == up)
            && (wanted.bridge.is_none() || link.bridge == wanted.bridge)
            && (wanted.mac.is_none() || link.mac == wanted.mac);
        if same { Ok(()) } else { Err(format!("{link:?}")) }
    }
}

fn among<T: PartialEq + std::fmt::Debug>(wanted: &T, found: &[T]) -> Result<(), String> {
    if found.contains(wanted) { Ok(()) } else { Err(format!("{found:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Cidr, Route};
    use std::net::IpAddr;

    #[test]
    fn a_route_through_another_next_hop_is_not_the_route() {
        let to = Cidr { address: IpAddr::from([10, 244, 1, 0]), prefix: 24 };
        let wanted = Route::via(to, IpAddr::from([10, 9, 0, 12]), "eth0");
        let other = Route::via(to, IpAddr::from([10, 9, 0, 13]), "eth0");
        let state = State { routes: vec![other.clone()], ..State::default() };
        assert!(state.holds(&Change::Route(wanted)).is_err());
        assert_eq!(state.holds(&Change::Route(other)), Ok(()));
    }

    #[test]
    fn an_interface_that_is_gone_is_not_up() {
        let wanted = Change::SetLink(LinkSettings::up("eth0"));
        assert_eq!(State::default().holds(&wanted), Err("no interface eth0".to_owned()));
        assert_eq!(State::default().holds(&Change::DeleteLink("eth0".to_owned())), Ok(()));
    }
}
