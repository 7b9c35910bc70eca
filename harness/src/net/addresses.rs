// SPDX-License-Identifier: Apache-2.0
//! The lab's addresses: constants, so that a packet seen anywhere tells whose it is.

use std::net::Ipv4Addr;

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Network address.
    pub address: Ipv4Addr,
    /// Prefix length, bits.
    pub prefix: u8,
}

impl Cidr {
    /// Everywhere: the destination of a default route.
    pub const ANY: Self = Self { address: Ipv4Addr::UNSPECIFIED, prefix: 0 };

    /// One address.
    pub const fn host(address: Ipv4Addr) -> Self {
        Self { address, prefix: 32 }
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let differing = u32::from(self.address) ^ u32::from(address);
        differing.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
    }

    /// The address `n` after the network's.
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) + n)
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no IPv4 prefix such as 10.244.1.0/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().ok().ok_or_else(wrong)?;
        let prefix = prefix.parse().ok().filter(|&bits: &u8| bits <= 32).ok_or_else(wrong)?;
        Ok(Self { address, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The lab's for an interface with this address: `02:00` (locally administered) and the
    /// address, so that a frame seen anywhere tells whose it is.
    pub const fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0, a, b, c, d])
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Clients: outside the cluster, reached by nodes through the entry node only.
pub const CLIENTS: Cidr = Cidr { address: Ipv4Addr::new(10, 8, 0, 0), prefix: 16 };
/// The load balancer outside the cluster: the last address that no client has.
pub const LOAD_BALANCER: Ipv4Addr = Ipv4Addr::new(10, 8, 255, 254);
/// Where it connects from for connections that are followed, if it does not hand their mark on itself.
pub const LOAD_BALANCER_FOLLOWED: Ipv4Addr = Ipv4Addr::new(10, 8, 255, 253);
/// Nodes' NICs; node `i` (from 0) is `10.9.0.(11+i)`.
pub const NODES: Cidr = Cidr { address: Ipv4Addr::new(10, 9, 0, 0), prefix: 16 };
/// All pods, the cluster CIDR; node `i` has `10.244.i.0/24`. Endpoints of filler Services, which
/// never answer, are in `10.244.128.0/17`.
pub const PODS: Cidr = Cidr { address: Ipv4Addr::new(10, 244, 0, 0), prefix: 16 };
/// Cluster addresses of Services.
pub const SERVICES: Cidr = Cidr { address: Ipv4Addr::new(10, 96, 0, 0), prefix: 12 };
/// LoadBalancer addresses of Services, routed by the client to the entry node.
pub const LOAD_BALANCERS: Cidr = Cidr { address: Ipv4Addr::new(10, 112, 0, 0), prefix: 12 };
/// Port the server in a pod listens at.
pub const POD_PORT: u16 = 8080;
/// Port it speaks TLS at, where a workload does.
pub const POD_TLS_PORT: u16 = 8443;
/// UDP port of VXLAN, flannel's (the kernel's old default), not IANA's 4789.
pub const VXLAN_PORT: u16 = 8472;
