// SPDX-License-Identifier: Apache-2.0
//! Network namespaces and what is done inside them.

pub mod addresses;
mod agent;
mod apply;
mod change;
pub mod conntrack;
pub(crate) mod daemon;
mod error;
mod netns;
pub(crate) mod nfnetlink;
mod offload;
pub mod privilege;
pub(crate) mod process;
mod qdisc;
mod state;
mod sysctl;
mod tool;
mod verify;
mod watch;

pub use addresses::{Cidr, Mac};
pub use agent::Agent;
pub use change::{
    Address, Change, Forward, Ipvlan, LinkKind, LinkSettings, Macvlan, Neighbour, NewLink, Peer,
    Route, Scope, Vxlan,
};
pub use error::{NetError, ToolError};
pub use netns::{Netns, NetnsRef, Pending};
pub use offload::Offloads;
pub use qdisc::{Netem, Qdisc, QdiscKind, Tbf};
pub use state::{Counters, Link, State};
pub(crate) use tool::Ended;
pub use tool::Tool;
