// SPDX-License-Identifier: Apache-2.0
//! The server of a cluster's names that the cluster came with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::control::Control;
use super::node::Node;
use super::pods::{self, Pod};
use super::reflection;
use crate::lab::LabError;

/// Every API server has itself as a Service, and every DNS server of a cluster knows it.
const KNOWN: &str = "kubernetes.default.svc.cluster.local";
/// Port of names.
pub(super) const PORT: u16 = 53;
/// Patience with its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// The pod of a node in which the cluster serves its names, if one is ready there and answers, and its answers can
/// be followed.
pub(super) fn own(control: &Control, nodes: &[Node], node: usize) -> Result<Option<Pod>, LabError> {
    for pod in pods::of_dns(control, nodes, node)? {
        if !reflection::is_possible(&nodes[node].enter()?) {
            return Ok(None);
        }
        let server = SocketAddr::new(pod.address, PORT);
        let source = SocketAddr::new(IpAddr::from(Ipv4Addr::UNSPECIFIED), 0);
        let answer = nodes[node]
            .enter()?
            .run(move || workloads::dns::lookup(source, server, KNOWN, ANSWER_PATIENCE));
        // Ready is what it calls itself; a stand-in for an image that could not be had does so, too.
        if answer.is_ok() {
            return Ok(Some(pod));
        }
    }
    Ok(None)
}
