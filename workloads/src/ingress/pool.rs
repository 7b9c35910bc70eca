// SPDX-License-Identifier: Apache-2.0
//! Connections to backends that wait for their next request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use crate::protocol::{BackendTls, SAMPLE_TOS};
use crate::set_service_type;
use crate::stream::Stream;
use crate::tcp_socket;
use crate::trust::trust;

/// Idle connections kept for one backend: as many as ingress-nginx keeps by default
/// (`upstream-keepalive-connections`).
const IDLE_MAX: usize = 320;

/// A connection to a backend.
pub(super) type Sender = SendRequest<Incoming>;

/// Idle connections, by backend, those of followed requests apart: how a packet is marked is a
/// connection's affair.
#[derive(Default)]
pub(super) struct Pool {
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: RefCell<HashMap<(SocketAddr, bool), Vec<Sender>>>,
}

impl Pool {
    /// Fails with what is wrong with the TLS that is to be spoken.
    pub(super) fn new(tls: Option<&BackendTls>) -> Result<Self, String> {
        let tls = tls.map(connector).transpose()?;
        Ok(Self { tls, idle: RefCell::default() })
    }

    /// An idle connection, the one used last; `None` when there is none.
    pub(super) fn take(&self, backend: SocketAddr, followed: bool) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.get_mut(&(backend, followed))?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().rposition(SendRequest::is_ready)?;
        Some(senders.swap_remove(ready))
    }

    /// Keeps a connection whose response is under way: it is ready again when that was read.
    pub(super) fn give(&self, backend: SocketAddr, followed: bool, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.entry((backend, followed)).or_default();
        if senders.len() < IDLE_MAX {
            senders.push(sender);
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// It cannot be made, or secured.
    pub(super) async fn open(&self, backend: SocketAddr, followed: bool) -> io::Result<Sender> {
        let stream = connect(backend, followed).await?;
        match &self.tls {
            None => speak(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                speak(TokioIo::new(connector.connect(name.clone(), stream).await?)).await
            }
        }
    }

    /// The same before anything is spoken on it, for one that ends with a RST: it is one connection of a client's,
    /// and neither side is to keep the ports.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub(super) async fn stream(
        &self,
        backend: SocketAddr,
        followed: bool,
    ) -> io::Result<Box<dyn Stream>> {
        let stream = connect(backend, followed).await?;
        stream.set_zero_linger()?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
        })
    }
}

/// Connects to a backend; packets of a connection that is followed are marked.
pub(super) async fn connect(backend: SocketAddr, followed: bool) -> io::Result<TcpStream> {
    let socket = tcp_socket(backend)?;
    socket.set_nodelay(true)?;
    if followed {
        // Before the SYN, so that the backend's kernel can reflect it.
        set_service_type(&socket, backend, SAMPLE_TOS)?;
    }
    socket.connect(backend).await
}

async fn speak(io: impl Read + Write + Unpin + 'static) -> io::Result<Sender> {
    let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
    // How it ends is told by the requests on it.
    spawn_local(async { drop(connection.await) });
    Ok(sender)
}

fn connector(tls: &BackendTls) -> Result<(TlsConnector, ServerName<'static>), String> {
    let (roots, name) = trust(&tls.authority, &tls.name)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be had: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsConnector::from(Arc::new(config)), name))
}
