// SPDX-License-Identifier: Apache-2.0
//! The server's end of TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::protocol::TargetTls;

/// What is spoken with every client: TLS 1.2 and 1.3, HTTP/2 and 1.1, and session tickets, which hold
/// the session themselves, for clients that say that they would resume one. Fails with what is wrong
/// with the spec.
pub(crate) fn acceptor(spec: &TargetTls) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_slice_iter(spec.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("`tls.certificate` is no certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(spec.key.0.as_bytes())
        .map_err(|error| format!("`tls.key` is no key: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be had: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("`tls.certificate` and `tls.key` do not fit: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer =
        ring::Ticketer::new().map_err(|error| format!("session tickets cannot be had: {error}"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
