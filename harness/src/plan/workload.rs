// SPDX-License-Identifier: Apache-2.0
//! What load is driven.

use serde::{Deserialize, Serialize};
use workloads::protocol::{Connection, Protocol, Schedule, TlsVersion};

use super::profile::is_false;
use crate::units::Span;

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSettings {
    /// How connections are used.
    pub connection: Connection,
    /// HTTP version, and what is spoken over it.
    pub protocol: Protocol,
    /// TLS, ended at the pod; absent, requests go in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsVersion>,
    /// Whether new connections resume a TLS session.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resume: bool,
    /// Whether each new connection resolves the Service's name first, at the cluster's DNS Service.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resolve: bool,
    /// Closed or open loop.
    pub arrival: ArrivalKind,
    /// Closed loop: connections. Open loop: requests in flight at most.
    pub connections: u32,
    /// Open loop: requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Open loop: spacing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Body of a request, bytes.
    pub request_bytes: u64,
    /// Body of a response, bytes.
    pub response_bytes: u64,
    /// Processor time that the server spends on each request.
    #[serde(default = "no_work")]
    pub server_work: Span,
    /// Patience with one request.
    pub timeout: Span,
}

fn no_work() -> Span {
    Span(std::time::Duration::ZERO)
}

/// Closed or open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalKind {
    /// A request follows the one before it.
    Closed,
    /// Requests start on a schedule.
    Open,
}
