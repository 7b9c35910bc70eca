// SPDX-License-Identifier: Apache-2.0
//! What is said to a reverse proxy, and what it answers.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::TargetTls;

/// First line to `ingress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressSpec {
    /// Where to listen in the clear. Answered with [`IngressReply::Ready`] once it listens.
    pub listen: Vec<SocketAddrV4>,
    /// Where to listen for TLS, which ends there; absent, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
    /// Which requests go where. Of the rules of a host, the longest path that fits counts.
    pub rules: Vec<IngressRule>,
}

/// Requests for a host and below a path go to these addresses, in turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressRule {
    /// Host, without a port.
    pub host: String,
    /// Path, matched by its elements: `/a` fits `/a` and `/a/b`, and not `/ab` (pathType `Prefix`).
    pub path: String,
    /// Where its requests go: a Service's address, or its endpoints.
    pub backends: Vec<SocketAddrV4>,
}

/// Later lines to `ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngressCommand {
    /// Answer with the requests that each backend answered since the start.
    Count,
}

/// Answers of `ingress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngressReply {
    /// It listens.
    Ready,
    /// It cannot; why.
    Failed(String),
    /// Answer to [`IngressCommand::Count`]: backends that answered any.
    Carried(Vec<(SocketAddrV4, u64)>),
}
