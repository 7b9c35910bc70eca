// SPDX-License-Identifier: Apache-2.0
//! The lab of network namespaces on this machine.

mod answering;
mod attachments;
mod balancer;
mod bed;
mod beds;
mod between;
mod datapath;
mod down;
mod emulation;
mod engine;
mod error;
mod family;
mod follow;
mod followed;
mod greeting;
mod haproxy;
mod hosts;
mod ingress;
mod lab;
mod measured;
pub(in crate::lab) mod names;
mod nginx;
mod points;
mod prove;
mod road;
mod second;
mod settings;
mod site;
mod targets;
mod topology;
mod wire;

pub use attachments::Attachment;
pub use balancer::Balancer;
#[cfg(feature = "kind")]
pub(in crate::lab) use bed::{NetnsBed, Stand};
#[cfg(feature = "kind")]
pub(in crate::lab) use beds::Ground;
pub use beds::NetnsBeds;
#[cfg(feature = "kind")]
pub(in crate::lab) use datapath::Datapath;
pub use down::{DownReport, Leaving};
pub use emulation::Emulation;
pub use error::NetnsError;
pub use hosts::{Client, Hosts, Node, Pod};
pub use ingress::Ingress;
pub use lab::NetnsLab;
pub(in crate::lab) use measured::Measured;
#[cfg(feature = "kind")]
pub(in crate::lab) use settings::{Role, cluster_node, of_interfaces, settings};
#[cfg(feature = "kind")]
pub(in crate::lab) use site::{Released, Site};
pub use topology::{Topology, TopologyError};
