// SPDX-License-Identifier: Apache-2.0
//! Certificates for targets, sound and unsound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use workloads::protocol::{LoadTls, Secret, TargetSpec, TargetTls, TlsVersion};

use crate::agents::Target;
use crate::workload::{address, place};

/// Name in every certificate here.
pub(crate) const NAME: &str = "web.default.svc";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority's certificate and one that it signed.
pub(crate) struct Made {
    pub(crate) authority: String,
    certificate: String,
    key: String,
}

impl Made {
    pub(crate) fn valid() -> Self {
        let now = SystemTime::now();
        Self::valid_in(now - DAY, now + DAY)
    }

    pub(crate) fn valid_in(from: SystemTime, to: SystemTime) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let signed = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let mut server = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        server.distinguished_name.push(DnType::CommonName, NAME);
        (server.not_before, server.not_after) = (from.into(), to.into());
        let key = KeyPair::generate().unwrap();
        let server = server.signed_by(&key, &issuer).unwrap();
        Self {
            authority: pem("CERTIFICATE", signed.der()),
            certificate: pem("CERTIFICATE", server.der()),
            key: pem("PRIVATE KEY", key.serialized_der()),
        }
    }

    /// What a load client is told that trusts this authority.
    pub(crate) fn load(&self, version: TlsVersion, resume: bool) -> LoadTls {
        let authority = self.authority.clone();
        LoadTls { version, resume, name: NAME.to_owned(), authority }
    }

    /// A client that trusts this authority.
    pub(crate) fn client(&self) -> rustls::ClientConnection {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, ServerName};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).unwrap();
        rustls::ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// What a server is told that listens there.
    pub(crate) fn target_at(&self, listen: Vec<SocketAddr>) -> TargetTls {
        let (certificate, key) = (self.certificate.clone(), Secret(self.key.clone()));
        TargetTls { listen, certificate, key }
    }

    /// A target with this certificate, and where it speaks TLS.
    pub(crate) fn target(&self) -> (Target, SocketAddr) {
        let at = SocketAddr::new(address(), 8443);
        let tls = self.target_at(vec![at]);
        let spec = TargetSpec {
            listen: vec![place()],
            proxy_protocol: false,
            tls: Some(tls),
            pod: "pod-1".to_owned(),
        };
        (Target::listen_as(spec), at)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
