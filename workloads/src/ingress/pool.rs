// SPDX-License-Identifier: Apache-2.0
//! Connections to backends that wait for their next request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::task::spawn_local;

use crate::protocol::SAMPLE_TOS;

/// Idle connections kept for one backend: as many as ingress-nginx keeps by default
/// (`upstream-keepalive-connections`).
const IDLE_MAX: usize = 320;

/// A connection to a backend.
pub(super) type Sender = SendRequest<Incoming>;

/// Idle connections, by backend, those of followed requests apart: how a packet is marked is a
/// connection's affair.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: RefCell<HashMap<(SocketAddrV4, bool), Vec<Sender>>>,
}

impl Pool {
    /// An idle connection, the one used last; `None` when there is none.
    pub(super) fn take(&self, backend: SocketAddrV4, followed: bool) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.get_mut(&(backend, followed))?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().rposition(SendRequest::is_ready)?;
        Some(senders.swap_remove(ready))
    }

    /// Keeps a connection whose response is under way: it is ready again when that was read.
    pub(super) fn give(&self, backend: SocketAddrV4, followed: bool, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.entry((backend, followed)).or_default();
        if senders.len() < IDLE_MAX {
            senders.push(sender);
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) async fn open(backend: SocketAddrV4, followed: bool) -> io::Result<Sender> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        if followed {
            // Before the SYN, so that the backend's kernel can reflect it.
            socket.set_tos_v4(u32::from(SAMPLE_TOS))?;
        }
        let stream = socket.connect(backend.into()).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // How it ends is told by the requests on it.
        spawn_local(async { drop(connection.await) });
        Ok(sender)
    }
}
