// SPDX-License-Identifier: Apache-2.0
//! Names of the chains and sets that belong to one Service port or endpoint, as kube-proxy makes
//! them, so that a ruleset of ours and one of kube-proxy's can be compared line by line.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use super::super::{Protocol, Service, ServicePort};

/// nftables allows 256 bytes (`NFT_NAME_MAXLEN`); kube-proxy keeps 16 of them for its prefixes.
const BASE_LENGTH_MAX: usize = 256 - 16;

/// Protocol as nft and kube-proxy spell it.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// IP protocol number.
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// Chains of one Service port.
#[derive(Debug)]
pub(super) struct PortNames {
    /// Endpoints for the policy `Cluster`.
    pub(super) cluster: String,
    /// Endpoints for the policy `Local`.
    pub(super) local: String,
    /// What NodePort and LoadBalancer traffic passes first.
    pub(super) external: String,
    /// The port's name in comments, `namespace/service:port`.
    pub(super) shown: String,
    /// What endpoints' names begin with: `namespace/service/protocol/port`.
    path: String,
}

impl PortNames {
    pub(super) fn new(service: &Service, port: &ServicePort) -> Self {
        let (namespace, name) = (&service.namespace, &service.name);
        let path = [namespace, "/", name, "/", protocol(port.protocol), "/", &port.name].concat();
        let base = hash_and_truncate(&path);
        let colon = if port.name.is_empty() { "" } else { ":" };
        Self {
            cluster: ["service-", &base].concat(),
            local: ["local-", &base].concat(),
            external: ["external-", &base].concat(),
            shown: [namespace, "/", name, colon, &port.name].concat(),
            path,
        }
    }

    pub(super) fn endpoint(&self, address: SocketAddr) -> EndpointNames {
        // A name of nftables has no colons.
        let ip = address.ip().to_string().replace(':', ".");
        let base = hash_and_truncate(&format!("{}__{ip}/{}", self.path, address.port()));
        EndpointNames {
            chain: ["endpoint-", &base].concat(),
            affinity: ["affinity-", &base].concat(),
        }
    }
}

/// Chain and set of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointNames {
    /// Where it is translated to.
    pub(super) chain: String,
    /// Clients that stay with it.
    pub(super) affinity: String,
}

/// The name after eight base32 digits of its SHA-256: unique when cut, and told apart at a glance.
fn hash_and_truncate(name: &str) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(name.as_bytes());
    // RFC 4648: five bytes are eight digits of five bits.
    let bits = digest[..5].iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    let mut hashed = String::with_capacity(name.len() + 9);
    for place in (0..8).rev() {
        hashed.push(char::from(DIGITS[(bits >> (5 * place)) as usize & 31]));
    }
    hashed.push('-');
    hashed.push_str(name);
    if hashed.len() > BASE_LENGTH_MAX {
        hashed.truncate(hashed.floor_char_boundary(BASE_LENGTH_MAX - 3));
        hashed.push_str("...");
    }
    hashed
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// Names in kube-proxy's own tests (`pkg/proxy/nftables/proxier_test.go`).
    #[test]
    fn hashes_are_the_ones_kube_proxy_makes() {
        for (name, hash) in [
            ("ns1/svc1/tcp/p80", "ULMVA6XW"),
            ("ns1/svc1/tcp/p80__10.180.0.1/80", "5OJB2KTY"),
            ("ns2/svc2/tcp/p80", "42NFTM6N"),
            ("ns2/svc2/tcp/p80__10.180.0.2/80", "SGOXE6O3"),
            ("ns3/svc3/tcp/p80", "4AT6LBPK"),
            ("ns4/svc4/tcp/p80__10.180.0.5/80", "5RFCDDV7"),
            ("ns5/svc5/tcp/p80", "HVFWP5L3"),
            ("ns5/svc5/tcp/p80__10.180.0.3/80", "GTK6MW7G"),
        ] {
            assert_eq!(hash_and_truncate(name), format!("{hash}-{name}"));
        }
    }

    #[test]
    fn an_endpoint_is_named_after_its_port_and_address() {
        let names = PortNames {
            cluster: String::new(),
            local: String::new(),
            external: String::new(),
            shown: String::new(),
            path: "ns1/svc1/tcp/p80".to_owned(),
        };
        let endpoint = names.endpoint(SocketAddr::new(IpAddr::from([10, 180, 0, 1]), 80));
        assert_eq!(endpoint.chain, "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80");
        assert_eq!(endpoint.affinity, "affinity-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80");
    }

    #[test]
    fn a_name_too_long_for_the_kernel_is_cut_and_keeps_its_hash() {
        let long = "a".repeat(300);
        let name = hash_and_truncate(&long);
        assert_eq!(name.len(), BASE_LENGTH_MAX);
        assert!(name.ends_with("a..."), "{name}");
        assert_ne!(name[..8], hash_and_truncate(&"a".repeat(301))[..8]);
    }
}
