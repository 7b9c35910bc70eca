// SPDX-License-Identifier: Apache-2.0
//! What the agents are told of TLS, and what they tell of it.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V13,
}

/// TLS as the load client speaks it. The HTTP version is negotiated (ALPN).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadTls {
    /// The only version that is offered.
    pub version: TlsVersion,
    /// Whether new connections resume a session. The connections that sessions are had from are
    /// opened before the clock starts.
    pub resume: bool,
    /// Name that the server's certificate has to have.
    pub name: String,
    /// Certificate of the authority that has to have signed it, PEM.
    pub authority: String,
}

/// TLS as the target speaks it: every version, every session with tickets for those who want some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTls {
    /// Where to listen for it, besides [`super::TargetSpec::listen`].
    pub listen: Vec<SocketAddr>,
    /// Certificate and what leads to the authority, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: Secret,
}

/// Text that is in no message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Handshakes that were completed, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshakes {
    /// With the server's certificate.
    pub full: u64,
    /// Of a session that was resumed.
    pub resumed: u64,
}

/// The server's view of a connection's handshake. Times are CLOCK_MONOTONIC, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// When `accept()` had returned the connection.
    pub accepted_ns: u64,
    /// Each time that it answered to something it had read, in order. A full handshake of TLS 1.2 has
    /// two; in TLS 1.3 the second one is the session's tickets.
    pub turns: [Option<Turn>; 2],
    /// When the handshake was over and all of it written.
    pub secured_ns: u64,
}

/// From a read to the write that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Just after the last read before the write.
    pub read_ns: u64,
    /// Just before the write.
    pub written_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_line_for_the_agent_and_in_no_message() {
        let tls = TargetTls {
            listen: Vec::new(),
            certificate: "c".to_owned(),
            key: Secret("private".to_owned()),
        };
        assert!(serde_json::to_string(&tls).unwrap().contains(r#""key":"private""#));
        assert!(!format!("{tls:?}").contains("private"));
    }
}
