// SPDX-License-Identifier: Apache-2.0
//! Connections to backends that can take a request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use crate::door::Local;
use crate::protocol::{BackendTls, SAMPLE_TOS};
use crate::set_service_type;
use crate::stream::Stream;
use crate::tcp_socket;
use crate::trust::trust;

/// Idle connections kept for one backend: as many as ingress-nginx keeps by default
/// (`upstream-keepalive-connections`).
const IDLE_MAX: usize = 320;

/// A connection to a backend.
pub(super) enum Sender {
    Http1(http1::SendRequest<Incoming>),
    Http2(http2::SendRequest<Incoming>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    /// Sends a request; fails with it where nothing of it was sent.
    pub(super) async fn ask(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Incoming>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

/// Connections that a request can be sent on, by backend, those of followed requests apart: how a packet is marked
/// is a connection's affair. Over HTTP/1.1 they are idle ones.
pub(super) struct Pool {
    http2: bool,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: RefCell<HashMap<(SocketAddr, bool), Vec<Sender>>>,
}

impl Pool {
    /// Fails with what is wrong with the TLS that is to be spoken.
    pub(super) fn new(tls: Option<&BackendTls>, http2: bool) -> Result<Self, String> {
        let tls = tls.map(|tls| connector(tls, http2)).transpose()?;
        Ok(Self { http2, tls, idle: RefCell::default() })
    }

    /// Whether backends are asked over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    /// The scheme that backends are asked by.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A connection for the next request, the one used last; `None` when there is none.
    pub(super) fn take(&self, backend: SocketAddr, followed: bool) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.get_mut(&(backend, followed))?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().rposition(Sender::is_ready)?;
        Some(match &senders[ready] {
            // Others may be asking on it.
            Sender::Http2(sender) => Sender::Http2(sender.clone()),
            Sender::Http1(_) => senders.swap_remove(ready),
        })
    }

    /// Keeps a connection whose response is under way: it is ready again when that was read.
    pub(super) fn give(&self, backend: SocketAddr, followed: bool, sender: Sender) {
        if let Sender::Http1(_) = sender {
            self.keep(backend, followed, sender);
        }
    }

    fn keep(&self, backend: SocketAddr, followed: bool, sender: Sender) {
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
        let sender = match &self.tls {
            None => self.speak(TokioIo::new(stream)).await?,
            Some((connector, name)) => {
                self.speak(TokioIo::new(connector.connect(name.clone(), stream).await?)).await?
            }
        };
        if let Sender::Http2(sender) = &sender {
            self.keep(backend, followed, Sender::Http2(sender.clone()));
        }
        Ok(sender)
    }

    async fn speak(&self, io: impl Read + Write + Unpin + 'static) -> io::Result<Sender> {
        // How a connection ends is told by the requests on it.
        if self.http2 {
            let (sender, connection) =
                http2::handshake(Local, io).await.map_err(io::Error::other)?;
            spawn_local(async { drop(connection.await) });
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        spawn_local(async { drop(connection.await) });
        Ok(Sender::Http1(sender))
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

fn connector(tls: &BackendTls, http2: bool) -> Result<(TlsConnector, ServerName<'static>), String> {
    let (roots, name) = trust(&tls.authority, &tls.name)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be had: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok((TlsConnector::from(Arc::new(config)), name))
}
