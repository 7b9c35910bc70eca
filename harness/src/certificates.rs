// SPDX-License-Identifier: Apache-2.0
//! The certificates of a run, made for it and forgotten with it: an authority of its own, and one
//! certificate that all its pods show. Nothing of it is written to a file, but where a program of others
//! reads it from one, in the run's scratch folder.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use workloads::protocol::{BackendTls, LoadTls, Secret, TargetTls, TlsVersion};

/// Name in the pods' certificate, as clients in a cluster know the measured Service.
pub(crate) const NAME: &str = "web.default.svc";
/// The same behind an ingress controller, as clients outside know it.
pub(crate) const INGRESS_NAME: &str = "web.default.example";
/// Clocks of a cluster's nodes may be behind.
const VALID_BEFORE: Duration = Duration::from_secs(24 * 3600);
/// No run takes longer.
const VALID_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library that makes them refused.
    #[error("failed to make {what}: {source}")]
    Make {
        /// Which certificate or key.
        what: &'static str,
        /// The library's word.
        source: rcgen::Error,
    },
    /// The library that uses them refused.
    #[error("failed to speak TLS with the run's own certificates: {0}")]
    Use(#[from] rustls::Error),
}

/// An authority's certificate, and one that it signed, with its key: ECDSA on P-256, the curve that
/// every client has.
#[derive(Clone, Debug)]
pub struct Certificates {
    authority: CertificateDer<'static>,
    certificate: String,
    key: Secret,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn make() -> Result<Self, CertificateError> {
        let failed = |what| move |source| CertificateError::Make { what, source };
        let now = SystemTime::now();
        let params = |names: Vec<String>, common: &str| {
            let mut params = CertificateParams::new(names)?;
            params.not_before = (now - VALID_BEFORE).into();
            params.not_after = (now + VALID_FOR).into();
            params.distinguished_name.push(DnType::CommonName, common);
            Ok::<_, rcgen::Error>(params)
        };
        let mut authority = params(Vec::new(), "nic2pod run").map_err(failed("the authority"))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate().map_err(failed("the authority's key"))?;
        let signed = authority.self_signed(&authority_key).map_err(failed("the authority"))?;
        let issuer = Issuer::new(authority, authority_key);
        let mut server = params(vec![NAME.to_owned(), INGRESS_NAME.to_owned()], NAME)
            .map_err(failed("the pods' certificate"))?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(failed("the pods' key"))?;
        let server = server.signed_by(&key, &issuer).map_err(failed("the pods' certificate"))?;
        Ok(Self {
            authority: signed.der().clone(),
            certificate: pem("CERTIFICATE", server.der()),
            key: Secret(pem("PRIVATE KEY", key.serialized_der())),
        })
    }

    /// What a load client is told that asks for `name`.
    pub fn load(&self, name: &str, version: TlsVersion, resume: bool) -> LoadTls {
        LoadTls { version, resume, name: name.to_owned(), authority: self.authority() }
    }

    /// Certificate and key in one text, as programs read them from a file.
    pub(crate) fn bundle(&self) -> Secret {
        Secret(format!("{}{}", self.certificate, self.key.0))
    }

    /// What a target is told.
    pub fn target(&self, listen: Vec<SocketAddr>) -> TargetTls {
        TargetTls { listen, certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// What a proxy is told that asks the pods.
    pub(crate) fn backend(&self) -> BackendTls {
        BackendTls { name: NAME.to_owned(), authority: self.authority() }
    }

    /// The authority's certificate, PEM.
    pub(crate) fn authority(&self) -> String {
        pem("CERTIFICATE", &self.authority)
    }

    /// A connection of the harness's own that asks for `name`, of the newest version.
    ///
    /// # Errors
    /// The library refuses.
    pub(crate) fn connection(&self, name: &str) -> Result<ClientConnection, CertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a constant that is a name");
        Ok(ClientConnection::new(Arc::new(config), name)?)
    }
}

/// Bytes as text (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_an_authority_of_its_own_and_keys_are_in_no_message() {
        let (one, other) = (Certificates::make().unwrap(), Certificates::make().unwrap());
        assert_ne!(one.authority, other.authority);
        assert_ne!(one.key, other.key);
        assert!(!format!("{one:?}").contains("PRIVATE"));
        assert!(one.connection(NAME).is_ok());
        let told = one.load(NAME, TlsVersion::V13, false);
        assert!(told.authority.starts_with("-----BEGIN CERTIFICATE-----\nMII"));
    }
}
