// SPDX-License-Identifier: Apache-2.0
//! TLS that is passed through: the backend is chosen by the name in the client's first message, and no
//! byte is changed.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::forward::{Forwarder, followed};
use super::pool::connect;
use crate::door::Door;
use crate::timer::Timer;

/// Most that is read before the name is known: a record of the greatest length (RFC 8446, section 5.2),
/// which no client's first message fills.
const HELLO_MAX: usize = 5 + (1 << 14);
/// How long the first message may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves a door in a task of its own.
///
/// # Errors
/// The runtime does not take the listener, or the system has no timer.
pub(super) fn accept(door: Door, forwarder: Rc<Forwarder>) -> io::Result<JoinHandle<()>> {
    door.accept(move |stream, peer, _| {
        let forwarder = forwarder.clone();
        // How it ends is the two sides' business.
        spawn_local(async move { drop(serve(stream, peer, &forwarder).await) });
    })
}

/// Serves one connection to its end. A name that no rule has, and a first message that is no such thing,
/// end it.
async fn serve(mut client: TcpStream, peer: SocketAddr, forwarder: &Forwarder) -> io::Result<()> {
    client.set_nodelay(true)?;
    let followed = followed(&client, peer)?;
    let timer = Timer::new()?;
    let mut hello = Vec::new();
    let name = tokio::select! {
        name = name(&mut client, &mut hello) => name?,
        waited = timer.rest(PATIENCE) => return waited,
    };
    let Some(rule) = name.as_deref().and_then(|name| forwarder.rules.find(name, "/")) else {
        return Ok(());
    };
    for backend in rule.in_turn() {
        let Ok(mut server) = connect(backend, followed).await else { continue };
        forwarder.count(backend);
        server.write_all(&hello).await?;
        let ended = copy_bidirectional(&mut client, &mut server).await;
        if ended.is_err() {
            // One side was reset: so is the other, and neither keeps the tuple.
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        return ended.map(drop);
    }
    Ok(())
}

/// Reads the client's first message into `hello`, and whatever came with it; the name that it asks for.
async fn name(client: &mut TcpStream, hello: &mut Vec<u8>) -> io::Result<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut buffer = [0; 2048];
    while hello.len() < HELLO_MAX {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        hello.extend_from_slice(&buffer[..read]);
        let mut new = &buffer[..read];
        while !new.is_empty() {
            acceptor.read_tls(&mut new)?;
            // The alert that would say what is wrong is not ours to send.
            let accepted = acceptor.accept().map_err(|(error, _)| io::Error::other(error))?;
            if let Some(accepted) = accepted {
                return Ok(accepted.client_hello().server_name().map(str::to_owned));
            }
        }
    }
    Ok(None)
}
