// SPDX-License-Identifier: Apache-2.0
//! Where a server listens, and accepting there.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::rt::Executor;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::TlsAcceptor;

use crate::protocol::TargetTls;
use crate::target::tls::acceptor;
use crate::timer::Timer;

/// Connections the kernel completes while none is accepted; `net.core.somaxconn` may lower it.
const BACKLOG: i32 = 4096;
/// Wait after `accept()` fails, as it does while the process is out of files.
const ACCEPT_RETRY: Duration = Duration::from_millis(1);

/// Spawns on the thread's own runtime or in its [`tokio::task::LocalSet`]: hyper's futures for HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// A non-blocking listener, and the TLS that is spoken at it, if any.
pub(crate) struct Door {
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// Listens at every address, in the clear at the first ones, or says which one it cannot listen at and
    /// why.
    pub(crate) fn open(
        listen: &[SocketAddr],
        tls: Option<&TargetTls>,
    ) -> Result<Vec<Self>, String> {
        let open = |address: SocketAddr, tls: Option<TlsAcceptor>| {
            let listener = listener(address);
            let listener =
                listener.map_err(|error| format!("failed to listen at {address}: {error}"))?;
            Ok(Self { listener, tls })
        };
        let mut doors: Vec<Self> =
            listen.iter().map(|&address| open(address, None)).collect::<Result<_, String>>()?;
        if let Some(tls) = tls {
            let acceptor = acceptor(tls)?;
            for &address in &tls.listen {
                doors.push(open(address, Some(acceptor.clone()))?);
            }
        }
        Ok(doors)
    }

    /// Hands each connection that is accepted to `serve`, with the door's TLS, in a task of its own until
    /// that is aborted.
    ///
    /// # Errors
    /// The runtime does not take the listener, or the system has no timer.
    pub(crate) fn accept(
        self,
        serve: impl Fn(TcpStream, SocketAddr, Option<&TlsAcceptor>) + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let Self { listener, tls } = self;
        let (listener, timer) = (TcpListener::from_std(listener)?, Timer::new()?);
        Ok(spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => serve(stream, peer, tls.as_ref()),
                    Err(_) => {
                        // A timer that is there does not fail; were it to, the next `accept()` comes
                        // sooner.
                        let _ = timer.rest(ACCEPT_RETRY).await;
                    }
                }
            }
        }))
    }
}

fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
