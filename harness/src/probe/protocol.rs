// SPDX-License-Identifier: Apache-2.0
//! What the program on a node is asked, and what it answers. Each question is a path, its body and its
//! answer JSON; `off` is answered with [`super::Sightings`].

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Unavailable;
use crate::capture::Cost;
use crate::plan::{CniKind, Mode, Route};

/// `about`: whether probes can be had, and on which kernel. No body. Answered with [`About`].
pub const ABOUT: &str = "about";
/// `look`: a [`Look`], answered with [`Surroundings`].
pub const LOOK: &str = "look";
/// `place`: a [`Place`], answered with the probes, as a list of [`crate::capture::TapInfo`].
pub const PLACE: &str = "place";
/// `on`: an [`On`], answered with nothing.
pub const ON: &str = "on";
/// `off`: no body.
pub const OFF: &str = "off";

/// Longest that probes stay on without a word from the asker, milliseconds.
pub const LEASE_MS_MAX: u64 = 600_000;
/// Most pods of a node that are asked about at once.
pub const PODS_MAX: usize = 512;
/// Most flows that are followed.
pub const FLOWS_MAX: usize = 1_024;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// It is done.
    Done(T),
    /// The node lacks something.
    Unavailable(Unavailable),
    /// It went wrong; one sentence.
    Failed(String),
}

/// A node that can be probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// `/proc/sys/kernel/random/boot_id`: nodes that have it in common are on one kernel, and share its
    /// clock.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// What is different because the kernel interprets programs.
    pub interpreted: Option<String>,
    /// Why there are no probes at sockets, where there are none.
    pub without_sockets: Option<String>,
}

/// A question about the wiring of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// The node's own address, which tells its NIC.
    pub address: IpAddr,
    /// Pods on it, by their addresses.
    pub pods: Vec<IpAddr>,
    /// Addresses elsewhere, to be told the way to.
    pub ways: Vec<IpAddr>,
}

/// What a node's network is made of, as far as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surroundings {
    /// Its NIC.
    pub nic: String,
    /// The pods, in the order asked.
    pub pods: Vec<PodWiring>,
    /// Devices of the ways, in the order asked; empty where there is no way.
    pub ways: Vec<String>,
}

/// How a pod is wired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodWiring {
    /// Its device with the address.
    pub device: String,
    /// The node's end of its veth pair, if it has one.
    pub veth: Option<String>,
    /// Bridge that this end is a port of.
    pub bridge: Option<String>,
}

/// Where probes go for a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which one this is, to be named when it is switched on.
    pub number: u64,
    /// The node's name.
    pub node: String,
    /// Its part: 0 for one that requests enter, 1 for another with the pod that answers; `None` where
    /// only the load comes from.
    pub part: Option<usize>,
    /// Mode of the case.
    pub mode: Mode,
    /// How the pods are wired, as far as the path is concerned.
    pub cni: CniKind,
    /// The route as packets walk it.
    pub route: Route,
    /// The node's NIC.
    pub nic: String,
    /// Bridge of its pods.
    pub bridge: Option<String>,
    /// The case's pods on it.
    pub pods: Vec<PlacedPod>,
    /// Where the case's connections go: a segment to or from none of these is not kept.
    pub flows: Vec<SocketAddr>,
}

/// A pod of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedPod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its device.
    pub device: String,
    /// The node's end of its veth pair.
    pub veth: Option<String>,
    /// Whether load comes from it; else it answers.
    pub is_client: bool,
}

/// Probes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct On {
    /// Which [`Place`]: another may have taken its place since.
    pub number: u64,
    /// After this long they go off whatever happens, milliseconds; at most [`LEASE_MS_MAX`].
    pub lease_ms: u64,
    /// Whether the kernel is to count what they cost.
    pub counted: bool,
}

/// What is said of a block besides the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Events that were read.
    pub events: u64,
    /// Events that were lost, or not kept.
    pub dropped: u64,
    /// Processor time of the thread that reads events, nanoseconds.
    pub reader_ns: u64,
    /// What the programs cost, where the kernel counted.
    pub cost: Option<Cost>,
    /// Entries of the node's connection tracking, and how many it may have.
    pub conntrack: Option<(u64, u64)>,
}
