// SPDX-License-Identifier: Apache-2.0
//! How pods are wired: each CNI plans the changes to nodes and pods as values, one hand applies
//! them, and one eye looks for them again in the kernel.

mod bridge;
mod cluster;
pub mod exec;
mod ipvlan;
mod macvlan;
mod others;
mod ptp;
mod vxlan;

use crate::Unavailable;
use crate::net::{Change, LinkKind, NetError, Netns, NetnsRef, NewLink};
use crate::plan::{CniKind, Mode, PolicyKind, Route};

pub use bridge::Bridge;
pub(crate) use cluster::POD_ETH;
pub use cluster::{Cluster, ClusterNode, ClusterPod, NodeWiring, Wiring};
pub use ipvlan::Ipvlan;
pub use macvlan::Macvlan;
pub use others::Others;
pub use ptp::Ptp;
pub use vxlan::Vxlan;

/// A way to wire pods.
pub trait Cni: std::fmt::Debug + Send + Sync {
    /// Which one this is.
    fn kind(&self) -> CniKind;

    /// Whether this machine can make its interfaces; asked in a namespace made for the question,
    /// which is left as it was.
    ///
    /// # Errors
    /// What is missing.
    fn check(&self, scratch: &Netns) -> Result<(), Unavailable>;

    /// The changes that wire a cluster whose hosts have their NICs and nothing else. Pure.
    fn wire(&self, cluster: &Cluster) -> Wiring;

    /// Whether requests are answered under this mode on this route, with the measured Service's
    /// external policy. Where the answer would miss the node that translated the request, the mode
    /// cannot work, in the lab as in a cluster. Pure.
    ///
    /// # Errors
    /// What the mode needs and this CNI does not give.
    fn carries(&self, _: Mode, _: Route, _external: PolicyKind) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// The CNI of this kind.
pub fn of(kind: CniKind) -> &'static dyn Cni {
    match kind {
        CniKind::Ptp => &Ptp,
        CniKind::Bridge => &Bridge,
        CniKind::Vxlan => &Vxlan,
        CniKind::Ipvlan => &Ipvlan,
        CniKind::Macvlan => &Macvlan,
        CniKind::Kindnet => &Others(CniKind::Kindnet),
        CniKind::Flannel => &Others(CniKind::Flannel),
        CniKind::Calico => &Others(CniKind::Calico),
        CniKind::Cilium => &Others(CniKind::Cilium),
        CniKind::Exec => &Others(CniKind::Exec),
    }
}

/// Makes an interface of `kind` and removes it again.
fn try_kind(
    scratch: &Netns,
    kind: impl FnOnce(NetnsRef) -> LinkKind,
    option: &str,
    module: &str,
) -> Result<(), Unavailable> {
    let name = "nic2pod-try";
    let link = NewLink {
        name: name.to_owned(),
        kind: kind(scratch.reference()),
        mac: None,
        mtu: 1400,
        bridge: None,
    };
    scratch
        .apply(vec![Change::AddLink(link), Change::DeleteLink(name.to_owned())])
        .map_err(|error| no_option(&error, option, module))
}

fn no_option(error: &NetError, option: &str, module: &str) -> Unavailable {
    Unavailable::new(
        format!("kernel option {option}"),
        error.to_string(),
        format!("modprobe {module}, or a kernel with {option}"),
    )
}

#[cfg(test)]
mod tests;
