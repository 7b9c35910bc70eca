// SPDX-License-Identifier: Apache-2.0
//! Whom a client of TLS trusts.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

/// The one authority, PEM, and the name that certificates are to have. Fails with what is wrong with which.
pub(crate) fn trust(
    authority: &str,
    name: &str,
) -> Result<(RootCertStore, ServerName<'static>), String> {
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes())
        .map_err(|error| format!("`tls.authority` is no certificate: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate)
        .map_err(|error| format!("`tls.authority` cannot be trusted: {error}"))?;
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| format!("`tls.name` is `{name}`: {error}"))?;
    Ok((roots, name))
}
