// SPDX-License-Identifier: Apache-2.0
//! Failures of a lab.

use crate::cni::exec::ExecError;
use crate::net::{NetError, ToolError};
use crate::plan::CniKind;
use crate::relay::RelayError;

use super::TopologyError;

/// A lab could not be made, proved or used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It was asked to be what it cannot be.
    #[error("failed to lay out the lab: {0}")]
    Topology(#[from] TopologyError),
    /// A host's network refused.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The kernel lacks a setting the lab cannot be without.
    #[error("failed to set up {host}: this kernel has no sysctl {key}")]
    NoSysctl {
        /// Host.
        host: String,
        /// Key under `/proc/sys`.
        key: String,
    },
    /// The kernel does not hold what the CNI planned.
    #[error("failed to prove {cni} on {host}: expected `{expected}`; found {found}")]
    NotProved {
        /// CNI.
        cni: CniKind,
        /// Node or pod.
        host: String,
        /// What was planned, as a command.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The load balancer could not be started or asked.
    #[error("the load balancer: {0}")]
    Balancer(String),
    /// The ingress controller could not be started or asked.
    #[error("the ingress controller: {0}")]
    Ingress(String),
    /// The load balancer did not carry the connection that was made to it.
    #[error("failed to prove the load balancer: it passed no connection on")]
    BalancerIdle,
    /// A plugin of a CNI failed.
    #[error(transparent)]
    Exec(Box<ExecError>),
    /// A server in a pod could not be started.
    #[error("failed to start the server in {pod}: {source}")]
    Target {
        /// Pod.
        pod: String,
        /// What happened to the program.
        source: ToolError,
    },
    /// A server in a pod says it cannot serve.
    #[error("failed to start the server in {pod}: it says {reason}")]
    TargetRefused {
        /// Pod.
        pod: String,
        /// Its own words.
        reason: String,
    },
}

impl From<RelayError> for NetnsError {
    fn from(error: RelayError) -> Self {
        Self::Balancer(error.to_string())
    }
}

impl From<ExecError> for NetnsError {
    fn from(error: ExecError) -> Self {
        Self::Exec(Box::new(error))
    }
}
