// SPDX-License-Identifier: Apache-2.0
//! Probes on the path, and the joining of what they saw into the stages of each request.
//!
//! [`Taps`] listen on every interface of the path and hand out [`Packet`]s; a [`Path`] says which
//! interfaces a request has to pass and what lies between them; a [`Joiner`] puts the two together
//! with the client's and the server's own timestamps.
#![deny(unsafe_code)]

pub mod align;
#[cfg(feature = "bpf")]
pub mod bpf;
mod cost;
mod error;
pub mod join;
pub mod packet;
pub mod path;
pub mod pcap;
pub mod tap;

use serde::{Deserialize, Serialize};

use crate::net::Netns;

pub use cost::{Cost, ProgramCost};
pub use error::CaptureError;
pub(crate) use error::in_words;
pub use join::{JoinError, Joined, Joiner, Observations, QueryJoiner, Unjoined};
pub use packet::{Direction, Packet, Segment};
pub use path::{Hop, Host, Path};
pub use tap::{Selection, TapCapture, TapInfo, TapOptions, Taps};

/// Where on a host a probe is; decides where what it sees stands on the path. Taps sit on devices
/// only, BPF programs on all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// `eth0` of the client or client pod.
    ClientEth,
    /// `eth0` of the load balancer outside the cluster.
    BalancerEth,
    /// `eth0` of the ingress controller's pod.
    IngressEth,
    /// A node's NIC, `eth0`.
    Nic,
    /// A node's `cni0` bridge device.
    Bridge,
    /// A node's VXLAN device.
    Vxlan,
    /// A node's own ipvlan slave.
    Ipvlan,
    /// A node's own macvlan slave.
    Macvlan,
    /// The node's end of a pod's veth pair.
    PodVeth,
    /// A pod's `eth0`.
    PodEth,
    /// Hook PREROUTING of a node, before connection tracking.
    PreConntrack,
    /// PREROUTING, behind connection tracking.
    Conntracked,
    /// PREROUTING, behind destination NAT.
    Translated,
    /// Hook INPUT, at its beginning.
    LocalIn,
    /// Hook FORWARD, at its beginning.
    Forward,
    /// Hook OUTPUT, at its beginning.
    LocalOut,
    /// Hook POSTROUTING, at its beginning.
    Postrouting,
    /// POSTROUTING, behind source NAT.
    Masqueraded,
    /// A pod's socket, about to wake whoever reads from it.
    Readable,
}

impl Site {
    /// Those at a node's hooks.
    pub const HOOKS: [Self; 8] = [
        Self::PreConntrack,
        Self::Conntracked,
        Self::Translated,
        Self::LocalIn,
        Self::Forward,
        Self::LocalOut,
        Self::Postrouting,
        Self::Masqueraded,
    ];

    /// Its name on its host: a device's kind, or the hook and the place in it.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClientEth | Self::BalancerEth | Self::IngressEth | Self::Nic | Self::PodEth => {
                "eth0"
            }
            Self::Bridge => "bridge",
            Self::Vxlan => "vxlan",
            Self::Ipvlan => "ipvlan",
            Self::Macvlan => "macvlan",
            Self::PodVeth => "veth",
            Self::PreConntrack => "PREROUTING before conntrack",
            Self::Conntracked => "PREROUTING behind conntrack",
            Self::Translated => "PREROUTING behind DNAT",
            Self::LocalIn => "INPUT",
            Self::Forward => "FORWARD",
            Self::LocalOut => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
            Self::Masqueraded => "POSTROUTING behind SNAT",
            Self::Readable => "socket readable",
        }
    }

    /// Whether it is a network device.
    pub fn is_device(self) -> bool {
        self <= Self::PodEth
    }
}

/// An interface of the lab that a tap can listen on.
#[derive(Clone, Copy, Debug)]
pub struct TapPoint<'a> {
    /// The host's namespace; its name is the host's (`client`, `node1`, `pod1-2`).
    pub netns: &'a Netns,
    /// Node the host is on, index from 0; `None` for a host outside.
    pub node: Option<usize>,
    /// Site's name.
    pub device: &'a str,
    /// What kind it is.
    pub kind: Site,
}
