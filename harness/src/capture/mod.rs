// SPDX-License-Identifier: Apache-2.0
//! Probes on the path, and the joining of what they saw into the stages of each request.
//!
//! [`Taps`] listen on every interface of the path and hand out [`Packet`]s; a [`Path`] says which
//! interfaces a request has to pass and what lies between them; a [`Joiner`] puts the two together
//! with the client's and the server's own timestamps.
#![deny(unsafe_code)]

mod error;
pub mod join;
pub mod packet;
pub mod path;
pub mod pcap;
pub mod tap;

use crate::net::Netns;

pub use error::CaptureError;
pub use join::{JoinError, Joined, Joiner, Observations, Unjoined};
pub use packet::{Direction, Packet, Segment};
pub use path::{Hop, Host, Path};
pub use tap::{Selection, TapCapture, TapInfo, TapOptions, Taps};

/// Kind of interface a tap sits on; decides where its packets stand on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interface {
    /// `eth0` of the client or client pod.
    ClientEth,
    /// A node's NIC, `eth0`.
    Nic,
    /// A node's `cni0` bridge device.
    Bridge,
    /// A node's VXLAN device.
    Vxlan,
    /// The node's end of a pod's veth pair.
    PodVeth,
    /// A pod's `eth0`.
    PodEth,
}

/// An interface of the lab that a tap can listen on.
#[derive(Clone, Copy, Debug)]
pub struct TapPoint<'a> {
    /// The host's namespace; its name is the host's (`client`, `node1`, `pod1-2`).
    pub netns: &'a Netns,
    /// Node the host is on, index from 0; `None` for the client outside.
    pub node: Option<usize>,
    /// Interface's name.
    pub device: &'a str,
    /// What kind it is.
    pub kind: Interface,
}
