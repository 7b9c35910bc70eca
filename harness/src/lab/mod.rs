// SPDX-License-Identifier: Apache-2.0
//! Labs: where the hosts of a case live.

mod bed;
pub(crate) mod bytes;
pub mod fake;
pub mod guest;
mod kernels;
#[cfg(feature = "kind")]
pub mod kind;
#[cfg(feature = "kind")]
pub mod kubeconfig;
pub mod netns;
pub mod scratch;
mod tell;
mod walks;

pub use bed::{
    Bed, Down, Iteration, Lab, LabError, LegWalks, QueryWalks, Ready, StageTimes, Walks,
};
pub use kernels::KernelLabs;

use crate::Unavailable;
#[cfg(feature = "kind")]
use crate::plan::Profile;
use crate::plan::{Case, IpStack, Proxy};

/// Whether a lab whose cluster is not ours to put a server of names into has what a case asks of it.
///
/// # Errors
/// The case's client resolves names.
#[cfg(feature = "kind")]
fn resolves_no_names(lab: &str, profile: &Profile, case: &Case) -> Result<(), Unavailable> {
    if !profile.workload[&case.workload].resolve {
        return Ok(());
    }
    Err(Unavailable::new(
        "a server of the cluster's names that is the lab's own",
        format!("lab {lab}"),
        "--lab netns or kind, or a workload without resolve",
    ))
}

/// Whether a lab whose hosts' addresses are its own has what a case asks of them.
///
/// # Errors
/// They are to be of IPv6, or of both families.
fn has_its_own_addresses(lab: &str, case: &Case) -> Result<(), Unavailable> {
    match case.ip {
        IpStack::Ipv4 => Ok(()),
        _ => Err(Unavailable::new(
            "hosts, pods and Services with addresses of IPv6",
            format!("lab {lab}"),
            "--lab netns, or --ip ipv4",
        )),
    }
}

/// Whether a lab whose nodes are not ours to run programs on has what a case asks of them.
///
/// # Errors
/// The case's rules are to be written by a program of the user's.
fn runs_no_kube_proxy(lab: &str, case: &Case) -> Result<(), Unavailable> {
    match case.proxy {
        Proxy::Own => Ok(()),
        Proxy::KubeProxy => Err(Unavailable::new(
            "nodes that a kube-proxy of the user's can be run on",
            format!("lab {lab}"),
            "--lab netns, or --proxy own",
        )),
    }
}
