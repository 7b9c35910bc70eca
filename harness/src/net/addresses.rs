// SPDX-License-Identifier: Apache-2.0
//! The lab's addresses: constants, so that a packet seen anywhere tells whose it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::IpFamily;

/// A prefix of IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Network address.
    pub address: IpAddr,
    /// Prefix length, bits.
    pub prefix: u8,
}

/// Bits of an address of that family.
pub(crate) const fn bits_of(family: IpFamily) -> u8 {
    match family {
        IpFamily::Ipv4 => 32,
        IpFamily::Ipv6 => 128,
    }
}

/// What nft and the files of `/proc/net` call a family.
pub(crate) const fn word_of_nft(family: IpFamily) -> &'static str {
    match family {
        IpFamily::Ipv4 => "ip",
        IpFamily::Ipv6 => "ip6",
    }
}

/// The family that an address is of.
pub const fn family(address: IpAddr) -> IpFamily {
    match address {
        IpAddr::V4(_) => IpFamily::Ipv4,
        IpAddr::V6(_) => IpFamily::Ipv6,
    }
}

/// An address as a number.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Cidr {
    /// Everywhere: the destination of a default route.
    pub const fn any(family: IpFamily) -> Self {
        let address = match family {
            IpFamily::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpFamily::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { address, prefix: 0 }
    }

    /// One address.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, prefix: bits_of(family(address)) }
    }

    /// Which family it is of.
    pub const fn family(self) -> IpFamily {
        family(self.address)
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = bits_of(self.family());
        let differing = number(self.address) ^ number(address);
        family(address) == self.family()
            && differing.checked_shr(u32::from(bits - self.prefix)).unwrap_or(0) == 0
    }

    /// The address `n` after the network's.
    pub fn nth(self, n: u128) -> IpAddr {
        self.numbered(number(self.address) + n)
    }

    /// The address of its family with that number.
    fn numbered(self, number: u128) -> IpAddr {
        match self.family() {
            IpFamily::Ipv4 => Ipv4Addr::from_bits(number as u32).into(),
            IpFamily::Ipv6 => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// The mask of a prefix of that length.
    pub(crate) fn mask(family: IpFamily, prefix: u8) -> IpAddr {
        let all = number(Self::any(family).numbered(u128::MAX));
        let hosts = u32::from(bits_of(family) - prefix);
        Self::any(family).numbered(all.checked_shr(hosts).unwrap_or(0) << (hosts % 128))
    }

    /// The address `n` after the network's, of which `address` may be any.
    #[cfg(feature = "kind")]
    pub(crate) fn within(self, n: u128) -> IpAddr {
        let hosts = u128::from(bits_of(self.family()) - self.prefix);
        let network = number(self.address) >> hosts << hosts;
        self.numbered(network + n)
    }

    /// How many addresses it has, up to 2^63: of ranges of Services and pods.
    pub(crate) fn size(self) -> u64 {
        1 << (bits_of(self.family()) - self.prefix).min(63)
    }

    /// The `n`-th address from its end; the first of these is the last of all.
    pub(crate) fn last(self, n: u128) -> IpAddr {
        self.nth(u128::from(self.size()) - n)
    }

    /// Its part with that prefix length, the `n`-th from 0.
    pub fn part(self, prefix: u8, n: u32) -> Self {
        let size = 1u128 << (bits_of(self.family()) - prefix);
        Self { address: self.nth(u128::from(n) * size), prefix }
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no prefix such as 10.244.1.0/24 or fd00:10:244:1::/64");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().ok().ok_or_else(wrong)?;
        let bits = bits_of(family(address));
        let prefix = prefix.parse().ok().filter(|&length: &u8| length <= bits).ok_or_else(wrong)?;
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
    /// The lab's for an interface with this address, so that a frame seen anywhere tells whose it is:
    /// `02:00` (locally administered) and an address of IPv4; `02:06` and of one of IPv6 what tells hosts
    /// apart, the low bytes of its third and fourth group and the last group.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                Self([0x02, 0x00, a, b, c, d])
            }
            IpAddr::V6(address) => {
                let [_, _, range, node, .., host] = address.segments();
                let [high, low] = host.to_be_bytes();
                Self([0x02, 0x06, range as u8, node as u8, high, low])
            }
        }
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A range of the lab's, in each family. That of IPv6 is in `fd00:10::/32` (unique local, RFC 4193), as kind's
/// defaults are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    v4: Cidr,
    v6: Cidr,
}

impl Range {
    const fn new(v4: ([u8; 4], u8), v6: ([u16; 4], u8)) -> Self {
        let ([a, b, c, d], prefix) = v4;
        let v4 = Cidr { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix };
        let ([a, b, c, d], prefix) = v6;
        let v6 = Cidr { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), prefix };
        Self { v4, v6 }
    }

    /// Its addresses of a family.
    pub const fn of(&self, family: IpFamily) -> Cidr {
        match family {
            IpFamily::Ipv4 => self.v4,
            IpFamily::Ipv6 => self.v6,
        }
    }

    /// Its addresses of the family that `address` is of.
    pub const fn like(&self, address: IpAddr) -> Cidr {
        self.of(family(address))
    }
}

/// Clients: outside the cluster, reached by nodes through the entry node only.
pub const CLIENTS: Range = Range::new(([10, 8, 0, 0], 16), ([0xfd00, 0x10, 0x8, 0], 64));
/// Nodes' NICs; node `i` (from 0) is the `(11+i)`-th.
pub const NODES: Range = Range::new(([10, 9, 0, 0], 16), ([0xfd00, 0x10, 0x9, 0], 64));
/// All pods, the cluster CIDR; node `i` has `10.244.i.0/24` or `fd00:10:244:i::/64`. Endpoints of filler
/// Services, which never answer, are in its upper half.
pub const PODS: Range = Range::new(([10, 244, 0, 0], 16), ([0xfd00, 0x10, 0x244, 0], 56));
/// Cluster addresses of Services: as many of either family as kube-apiserver takes of IPv6 (KEP-1880's 20 bits).
pub const SERVICES: Range = Range::new(([10, 96, 0, 0], 12), ([0xfd00, 0x10, 0x96, 0], 108));
/// LoadBalancer addresses of Services, routed by the client to the entry node.
pub const LOAD_BALANCERS: Range =
    Range::new(([10, 112, 0, 0], 12), ([0xfd00, 0x10, 0x112, 0], 108));

/// The load balancer outside the cluster: the last address that no client has.
pub fn load_balancer(family: IpFamily) -> IpAddr {
    CLIENTS.of(family).nth(0xfffe)
}

/// Where it connects from for connections that are followed, if it does not hand their mark on itself.
pub fn load_balancer_followed(family: IpFamily) -> IpAddr {
    CLIENTS.of(family).nth(0xfffd)
}

/// Prefix length of a node's pods.
pub(crate) const fn pods_prefix(family: IpFamily) -> u8 {
    match family {
        IpFamily::Ipv4 => 24,
        IpFamily::Ipv6 => 64,
    }
}

/// Port the server in a pod listens at.
pub const POD_PORT: u16 = 8080;
/// Port it speaks TLS at, where a workload does.
pub const POD_TLS_PORT: u16 = 8443;
/// UDP port of VXLAN, flannel's (the kernel's old default), not IANA's 4789.
pub const VXLAN_PORT: u16 = 8472;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_parts_and_hosts_in_either_family() {
        let parts = IpFamily::ALL.iter().map(|&family| {
            let pods = PODS.of(family).part(pods_prefix(family), 1);
            (pods.to_string(), pods.nth(2).to_string(), Mac::of(pods.nth(2)).to_string())
        });
        let parts: Vec<_> = parts.collect();
        let [four, six] = &parts[..] else { panic!("two families") };
        assert_eq!(four.0, "10.244.1.0/24");
        assert_eq!((&*four.1, &*four.2), ("10.244.1.2", "02:00:0a:f4:01:02"));
        assert_eq!(six.0, "fd00:10:244:1::/64");
        assert_eq!((&*six.1, &*six.2), ("fd00:10:244:1::2", "02:06:44:01:00:02"));
        for family in IpFamily::ALL {
            let range = CLIENTS.of(*family);
            assert_eq!(range.to_string().parse(), Ok(range));
            assert!(range.contains(load_balancer(*family)));
            assert!(!range.contains(NODES.of(*family).nth(11)));
        }
        let (four, six) = (IpFamily::Ipv4, IpFamily::Ipv6);
        assert!(!CLIENTS.of(six).contains(CLIENTS.of(four).nth(1)));
        assert!(Cidr::any(six).contains(PODS.of(six).nth(9)));
        for (family, mask) in [(four, "255.240.0.0"), (six, "fff0::")] {
            assert_eq!(Cidr::mask(family, 12).to_string(), mask);
            assert_eq!(Cidr::mask(family, 0), Cidr::any(family).address);
        }
        for wrong in ["10.0.0.0/33", "fd00::/129", "10.0.0.0", "x/3"] {
            let error = wrong.parse::<Cidr>().unwrap_err();
            assert!(error.starts_with(&format!("`{wrong}` is no prefix")), "{error}");
        }
    }
}
