// SPDX-License-Identifier: Apache-2.0
//! A connection's first packet and the hooks it passes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::net::conntrack::Flow;

/// What connection tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not been asked, or is not there.
    Untracked,
    /// First of its connection.
    New,
}

/// A packet as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// IP protocol number.
    pub(super) protocol: u8,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// `nfmark`.
    pub(super) mark: u32,
    /// Whether its source is an address of the node.
    pub(super) source_local: bool,
    /// The same of its destination.
    pub(super) destination_local: bool,
    pub(super) state: State,
    /// Whether its destination has been translated.
    pub(super) dnat: bool,
}

/// Netfilter's hooks of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// `NF_INET_PRE_ROUTING`.
    Prerouting,
    /// `NF_INET_LOCAL_IN`.
    Input,
    /// `NF_INET_FORWARD`.
    Forward,
    /// `NF_INET_LOCAL_OUT`.
    Output,
    /// `NF_INET_POST_ROUTING`.
    Postrouting,
}

impl Hook {
    /// The built-in chain's name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// The kernel's number (`enum nf_inet_hooks`).
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let all = [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];
        all.get(usize::try_from(number).ok()?).copied()
    }

    /// Tables with a chain here, in the order of their priorities (`enum nf_ip_hook_priorities`).
    pub(super) fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Prerouting => &["raw", "mangle", "nat"],
            Self::Input => &["mangle", "filter", "security", "nat"],
            Self::Forward => &["mangle", "filter", "security"],
            Self::Output => &["raw", "mangle", "nat", "filter", "security"],
            Self::Postrouting => &["mangle", "nat"],
        }
    }
}

/// A hook on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) hook: Hook,
    /// Whether table nat is asked here. Of one connection each kind of translation is settled
    /// once (`nf_nat_inet_fn`, net/netfilter/nf_nat_core.c).
    pub(super) nat: bool,
    /// The packet as it comes in here; its mark is what the stops before made it.
    pub(super) packet: Packet,
}

/// Who takes a connection's packets where they are for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Table nat and the stack.
    Stack,
    /// ip_vs, which takes them after INPUT's filter and sends them out by OUTPUT, translated.
    IpVs,
}

/// The stops of a flow's first packet.
pub(super) fn way(
    flow: &Flow,
    tracked: bool,
    carrier: Carrier,
    is_local: &dyn Fn(IpAddr) -> bool,
) -> Vec<Stop> {
    let (asked, answered) = (flow.original, flow.reply);
    let from_here = is_local(asked.source.ip());
    let state = if tracked { State::New } else { State::Untracked };
    let before = Packet {
        protocol: asked.protocol,
        source: asked.source,
        destination: asked.destination,
        mark: 0,
        source_local: from_here,
        destination_local: is_local(asked.destination.ip()),
        state,
        dnat: false,
    };
    let after = Packet {
        destination: answered.source,
        destination_local: is_local(answered.source.ip()),
        dnat: answered.source != asked.destination,
        ..before.clone()
    };
    let stop = |hook, nat, packet: &Packet| Stop { hook, nat, packet: packet.clone() };
    let mut way = Vec::with_capacity(4);
    if from_here {
        way.push(stop(Hook::Output, true, &before));
        way.push(stop(Hook::Postrouting, true, &after));
        if after.destination_local {
            way.push(stop(Hook::Prerouting, false, &after));
            way.push(stop(Hook::Input, false, &after));
        }
        return way;
    }
    way.push(stop(Hook::Prerouting, true, &before));
    match carrier {
        Carrier::IpVs => {
            // ip_vs_in is at LOCAL_IN one before table nat, and what it has translated goes
            // through LOCAL_OUT (`ip_vs_nat_send_or_cont`), where nat has had its turn.
            way.push(Stop { nat: false, ..stop(Hook::Input, false, &before) });
            way.push(stop(Hook::Output, false, &after));
            way.push(stop(Hook::Postrouting, true, &after));
        }
        Carrier::Stack if after.destination_local => way.push(stop(Hook::Input, true, &after)),
        Carrier::Stack => {
            way.push(stop(Hook::Forward, false, &after));
            way.push(stop(Hook::Postrouting, true, &after));
        }
    }
    way
}

/// Ways of a report that a bridge or a host sends to the routers of its link when it comes up
/// (IGMPv3, RFC 3376): it ends after PREROUTING, or after INPUT. It may come at any time, and
/// connection tracking need not tell of it.
pub(super) fn reports() -> [Vec<Stop>; 2] {
    let none = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let routers = SocketAddr::new(IpAddr::from([224, 0, 0, 22]), 0);
    let packet = Packet {
        protocol: nix::libc::IPPROTO_IGMP as u8,
        source: none,
        destination: routers,
        mark: 0,
        source_local: false,
        destination_local: false,
        state: State::New,
        dnat: false,
    };
    let stop = |hook| Stop { hook, nat: true, packet: packet.clone() };
    [vec![stop(Hook::Prerouting)], vec![stop(Hook::Prerouting), stop(Hook::Input)]]
}
