// SPDX-License-Identifier: Apache-2.0
//! Names of Service ports and of what is derived from them, as kube-proxy computes them.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{Protocol, Service, ServicePort};

impl Protocol {
    /// Its name in rules: `tcp`, `udp`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// `namespace/name:port`, without the colon when the port has no name (`ServicePortName.String` in
/// Kubernetes' `pkg/proxy/types.go`).
pub(crate) fn port_name(service: &Service, port: &ServicePort) -> String {
    let Service { namespace, name, .. } = service;
    match port.name.as_str() {
        "" => format!("{namespace}/{name}"),
        port => format!("{namespace}/{name}:{port}"),
    }
}

/// Characters of a hash in a chain's name: iptables' chain names have 28 at most.
const LENGTH: usize = 16;

/// First 16 characters of base32(sha256(text)): what distinguishes one Service port's chains from
/// another's (`portProtoHash` in `pkg/proxy/iptables/proxier.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChainHash([u8; LENGTH]);

impl ChainHash {
    /// Hash of the parts joined without a separator.
    pub(crate) fn of(parts: &[&str]) -> Self {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        let digest = hasher.finalize();
        let mut name = [0; LENGTH];
        // RFC 4648, section 6: five bytes are eight characters of five bits.
        for (bytes, characters) in digest.chunks_exact(5).zip(name.chunks_exact_mut(8)) {
            let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for (place, character) in characters.iter_mut().rev().enumerate() {
                *character = ALPHABET[(bits >> (5 * place) & 31) as usize];
            }
        }
        Self(name)
    }

    /// The hash as text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_are_those_of_kube_proxys_own_tests() {
        // Vectors from pkg/proxy/iptables/proxier_test.go.
        for (name, hash) in [
            ("ns1/svc1:p80", "XPGD46QRK7WJZT7O"),
            ("ns2/svc2:p80", "GNZBNJ2PO5MGZ6GT"),
            ("ns3/svc3:p80", "X27LE4BHSL4DOUIK"),
            ("ns4/svc4:p80", "4SW47YFZTEDKD3PK"),
            ("ns5/svc5:p80", "NUKIZ6OKUXPJNT4C"),
        ] {
            assert_eq!(ChainHash::of(&[name, "tcp"]).as_str(), hash, "{name}");
        }
        for (name, endpoint, hash) in [
            ("ns1/svc1:p80", "10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
            ("ns2/svc2:p80", "10.180.0.2:80", "RS4RBKLTHTF2IUXJ"),
            ("ns3/svc3:p80", "10.180.0.3:80", "OYPFS5VJICHGATKP"),
            ("ns4/svc4:p80", "10.180.0.4:80", "UKSFD7AGPMPPLUHC"),
            ("ns4/svc4:p80", "10.180.0.5:80", "C6EBXVWJJZMIWKLZ"),
        ] {
            assert_eq!(ChainHash::of(&[name, "tcp", endpoint]).as_str(), hash, "{endpoint}");
        }
    }
}
