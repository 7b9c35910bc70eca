// SPDX-License-Identifier: Apache-2.0
//! What is said to a reverse proxy, and what it answers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::TargetTls;

/// First line to `ingress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressSpec {
    /// Where to listen in the clear. Answered with [`IngressReply::Ready`] once it listens.
    pub listen: Vec<SocketAddr>,
    /// Where to listen for TLS, which ends there; absent, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
    /// Where to listen for TLS that does not end there: the host is the name in the client's first message
    /// (RFC 6066, section 3), and all bytes are passed on as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<SocketAddr>,
    /// TLS with the backends; absent, they are asked in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_tls: Option<BackendTls>,
    /// Whether backends are asked over HTTP/2, many requests at a time on one connection: with prior knowledge,
    /// and by TLS because that was negotiated. HTTP/1.1 otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backend_http2: bool,
    /// Which requests go where. Of the rules of a host, the longest path that fits counts.
    pub rules: Vec<IngressRule>,
}

/// TLS as a proxy speaks it with backends, of the newest version that they have; sessions are resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendTls {
    /// Name that a backend's certificate has to have.
    pub name: String,
    /// Certificate of the authority that has to have signed it, PEM.
    pub authority: String,
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
    pub backends: Vec<SocketAddr>,
}

/// Later lines to `ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngressCommand {
    /// Answer with the requests that each backend answered since the start, or where TLS is passed through
    /// with the connections that it was led.
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
    /// Answer to [`IngressCommand::Count`]: backends that there were any for.
    Carried(Vec<(SocketAddr, u64)>),
}
