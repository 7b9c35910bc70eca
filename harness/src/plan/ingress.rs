// SPDX-License-Identifier: Apache-2.0
//! The ingress controller, and what becomes of TLS at it.

use serde::{Deserialize, Serialize};

/// A reverse proxy in a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngressKind {
    /// nic2pod's own.
    #[default]
    Embedded,
    /// nginx.
    Nginx,
    /// HAProxy, in HTTP mode.
    Haproxy,
}

impl IngressKind {
    pub(super) fn is_own(&self) -> bool {
        *self == Self::Embedded
    }
}

/// What becomes of TLS at an ingress controller, by the words that OpenShift has for it (Route,
/// `spec.tls.termination`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngressTls {
    /// It ends there, and pods are asked in the clear.
    #[default]
    Edge,
    /// It ends there, and pods are asked by TLS again.
    Reencrypt,
    /// It is passed through: the controller knows the name that is asked for, and no more.
    Passthrough,
}

impl IngressTls {
    /// Whether pods are asked by TLS.
    pub fn reaches_pods(self) -> bool {
        self != Self::Edge
    }

    pub(super) fn is_edge(&self) -> bool {
        *self == Self::Edge
    }
}
