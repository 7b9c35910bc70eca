// SPDX-License-Identifier: Apache-2.0
//! The client's end of TLS: what is offered, whom it trusts, and the sessions it resumes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use crate::protocol::{LoadTls, Protocol, TlsVersion};
use crate::trust::trust;
use crate::wire::{Gate, Opened};

/// Sessions kept for one connection that may be under way at a time: each resumption takes one and
/// brings those that the server gives out, which are a few.
const SESSIONS_PER_SLOT: usize = 4;

/// The client's end of TLS, the same for all connections.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    sessions: Option<Arc<Sessions>>,
}

/// A connection that is secured.
pub(super) struct Secured {
    pub(super) stream: Opened,
    /// Whether a session was resumed.
    pub(super) resumed: bool,
}

impl Tls {
    /// As a spec says; `slots` connections may be under way at once. Fails with what is wrong with it.
    pub(super) fn new(spec: &LoadTls, protocol: Protocol, slots: u32) -> Result<Self, String> {
        let (roots, name) = trust(&spec.authority, &spec.name)?;
        let version = match spec.version {
            TlsVersion::V12 => &version::TLS12,
            TlsVersion::V13 => &version::TLS13,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .map_err(|error| format!("`tls.version` cannot be had: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn(protocol).to_vec()];
        let sessions = spec.resume.then(|| Arc::new(Sessions::new(slots as usize)));
        config.resumption = match &sessions {
            Some(sessions) => Resumption::store(sessions.clone()),
            None => Resumption::disabled(),
        };
        Ok(Self { config: Arc::new(config), name, sessions })
    }

    /// Whether there is no session for the next connection though it is to resume one.
    pub(super) fn wants_session(&self, slots: usize) -> bool {
        self.sessions.as_ref().is_some_and(|sessions| sessions.lacks(slots))
    }

    /// Shakes hands on a connection.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        protocol: Protocol,
    ) -> Result<Secured, Failure> {
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector
            .connect(self.name.clone(), Gate::new(stream))
            .await
            .map_err(|error| Failure::of_handshake(&error))?;
        let (_, connection) = stream.get_ref();
        if connection.alpn_protocol() != Some(alpn(protocol)) {
            return Err(Failure::TlsProtocol);
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(Secured { stream: Opened::new(stream), resumed })
    }
}

/// Name of an HTTP version (RFC 7301, section 6; RFC 9113, section 3.2).
fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        // The upgrade is one of HTTP/1.1.
        Protocol::Http1 | Protocol::WebSocket => b"http/1.1",
        Protocol::Http2 | Protocol::Grpc => b"h2",
    }
}

/// Sessions with the one server there is. rustls's own store keeps eight tickets, too few for many
/// connections at once.
#[derive(Debug)]
struct Sessions {
    kept: Mutex<Kept>,
    tickets_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    /// TLS 1.2: one session serves any number of connections.
    session: Option<Tls12ClientSessionValue>,
    /// TLS 1.3: a ticket serves one connection (RFC 8446, appendix C.4).
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn new(slots: usize) -> Self {
        Self { kept: Mutex::default(), tickets_max: slots * SESSIONS_PER_SLOT }
    }

    /// Whether there are fewer than so many connections could resume at once.
    fn lacks(&self, slots: usize) -> bool {
        let kept = self.kept();
        kept.session.is_none() && kept.tickets.len() < slots
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Whatever panicked, what is kept is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().session = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().session.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().session = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        // The oldest goes first: it is the first to expire.
        if kept.tickets.len() == self.tickets_max {
            kept.tickets.pop_front();
        }
        kept.tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().tickets.pop_front()
    }
}
