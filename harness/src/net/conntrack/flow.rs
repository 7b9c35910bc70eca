// SPDX-License-Identifier: Apache-2.0
//! A tracked connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// IP protocol number: 6 is TCP, 17 UDP.
    pub protocol: u8,
    /// Who sends; port 0 for a protocol without ports.
    pub source: SocketAddr,
    /// Who is sent to; port 0 for a protocol without ports.
    pub destination: SocketAddr,
}

impl Tuple {
    /// A TCP connection's.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { protocol: nix::libc::IPPROTO_TCP as u8, source, destination }
    }
}

impl Default for Tuple {
    fn default() -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self { protocol: 0, source: nowhere, destination: nowhere }
    }
}

impl std::fmt::Display for Tuple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)
    }
}

/// `enum ip_conntrack_status` (`linux/netfilter/nf_conntrack_common.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// `IPS_SEEN_REPLY`: packets came from the other side too.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// `IPS_ASSURED`: not dropped early when the table is full.
    pub const ASSURED: Self = Self(1 << 2);
    /// `IPS_CONFIRMED`: its first packet has left the host.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// `IPS_SRC_NAT`: the source is translated.
    pub const SRC_NAT: Self = Self(1 << 4);
    /// `IPS_DST_NAT`: the destination is translated.
    pub const DST_NAT: Self = Self(1 << 5);
    /// `IPS_DYING`: taken out of the table.
    pub const DYING: Self = Self(1 << 9);

    /// Whether all bits of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `enum tcp_conntrack` (`linux/netfilter/nf_conntrack_tcp.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// `TCP_CONNTRACK_NONE`.
    None,
    /// SYN seen.
    SynSent,
    /// SYN and ACK seen.
    SynRecv,
    /// Handshake done.
    Established,
    /// FIN seen.
    FinWait,
    /// FIN seen and acknowledged.
    CloseWait,
    /// Both FINs seen, the last not acknowledged.
    LastAck,
    /// Both FINs acknowledged.
    TimeWait,
    /// RST seen.
    Close,
    /// SYN seen from both sides.
    SynSent2,
    /// A number this code does not know.
    Other(u8),
}

impl From<u8> for TcpState {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::SynSent,
            2 => Self::SynRecv,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::CloseWait,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            8 => Self::Close,
            9 => Self::SynSent2,
            other => Self::Other(other),
        }
    }
}

/// A tracked connection as the kernel last told of it. What it left out is `None`: an event names
/// only what changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// As its first packet came in.
    pub original: Tuple,
    /// As packets of the other side come in. Where this is not the original reversed, there is NAT.
    pub reply: Tuple,
    /// What has happened to it so far.
    pub status: Option<Status>,
    /// State of the TCP connection.
    pub tcp_state: Option<TcpState>,
    /// Connection mark; `None` where the kernel has no marks or, in an event, it did not change.
    pub mark: Option<u32>,
    /// Tells apart flows that use one tuple one after the other.
    pub id: Option<u32>,
    /// Seconds until it is forgotten.
    pub timeout_s: Option<u32>,
    /// When it entered the table, ns of CLOCK_REALTIME; only with
    /// `net.netfilter.nf_conntrack_timestamp` on.
    pub started_ns: Option<u64>,
}

impl Flow {
    /// Where the destination is translated to, if it is.
    pub fn dnat(&self) -> Option<SocketAddr> {
        (self.reply.source != self.original.destination).then_some(self.reply.source)
    }

    /// What the source is translated to, if it is.
    pub fn snat(&self) -> Option<SocketAddr> {
        (self.reply.destination != self.original.source).then_some(self.reply.destination)
    }

    /// Whether the other side has sent anything.
    pub fn is_answered(&self) -> bool {
        self.status.is_some_and(|status| status.has(Status::SEEN_REPLY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([10, 0, 0, host]), port)
    }

    #[test]
    fn a_flow_without_nat_has_no_translation() {
        let (client, server) = (address(1, 40_000), address(2, 80));
        let flow = Flow {
            original: Tuple::tcp(client, server),
            reply: Tuple::tcp(server, client),
            ..Flow::default()
        };
        assert_eq!((flow.dnat(), flow.snat()), (None, None));
    }

    #[test]
    fn translation_is_read_from_the_reply() {
        let (client, vip, pod, node) =
            (address(1, 40_000), address(2, 80), address(3, 8080), address(4, 50_000));
        let flow = Flow {
            original: Tuple::tcp(client, vip),
            reply: Tuple::tcp(pod, node),
            ..Flow::default()
        };
        assert_eq!((flow.dnat(), flow.snat()), (Some(pod), Some(node)));
    }
}
