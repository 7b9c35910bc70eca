// SPDX-License-Identifier: Apache-2.0
//! Which of a node's devices the programs belong on.

use std::net::IpAddr;

use super::super::{NodeView, ProxyError};
use crate::net::State;
use crate::plan::Mode;

/// A device and what comes in by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    /// Whether it is the node's end of a pod's veth pair; else its NIC or a VXLAN device.
    pub(super) pods: bool,
}

/// What a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// Those that Services' packets come in by.
    pub(super) entrances: Vec<Device>,
    /// First address of the node's family of each device that has one, by its index.
    pub(super) sources: Vec<(u32, IpAddr)>,
}

impl Devices {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn of(node: &NodeView<'_>) -> Result<Self, ProxyError> {
        let state = node.netns.state();
        let state = state.map_err(|source| ProxyError::Net { mode: Mode::Ebpf, source })?;
        Ok(Self::among(&state, node.nic, node.address))
    }

    fn among(state: &State, nic: &str, address: IpAddr) -> Self {
        let mut found = Self::default();
        for link in &state.links {
            let pods = match link.kind.as_deref() {
                // The lab's NICs are ends of veth pairs themselves.
                _ if link.name == nic => Some(false),
                Some("vxlan") => Some(false),
                Some("veth") => Some(true),
                _ => None,
            };
            let entrance = pods.map(|pods| Device { name: link.name.clone(), pods });
            found.entrances.extend(entrance);
            // Devices have addresses of the other family as well, or, of IPv6, one for the link alone.
            let may_be_source = |ip: &IpAddr| match ip {
                IpAddr::V4(_) => address.is_ipv4(),
                IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
            };
            let own = state.addresses.iter().filter(|address| address.device == link.name);
            let own = own.map(|address| address.cidr.address).find(may_be_source);
            let source = if link.name == nic { Some(address) } else { own };
            found.sources.extend(source.map(|source| (link.index, source)));
        }
        found
    }
}
