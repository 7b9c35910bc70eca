// SPDX-License-Identifier: Apache-2.0
//! What stands in front of the nodes.

use serde::{Deserialize, Serialize};

/// A load balancer in front of the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BalancerKind {
    /// nic2pod's own.
    #[default]
    Embedded,
    /// HAProxy, in TCP mode.
    Haproxy,
    /// nginx, its stream module.
    Nginx,
    /// Envoy, its TCP proxy.
    Envoy,
    /// No program: a router that leads the Service's LoadBalancer address to a node, as one that is told by BGP
    /// does. Answers do not pass it: direct server return.
    Router,
    /// ip_vs on its host, which chooses the node and hands packets on as they are (direct routing): answers do
    /// not pass it either.
    Ipvs,
}

impl BalancerKind {
    /// Whether it hands packets on as they are, and answers do not pass it.
    pub fn routes(self) -> bool {
        matches!(self, Self::Router | Self::Ipvs)
    }

    pub(super) fn is_own(&self) -> bool {
        *self == Self::Embedded
    }
}
