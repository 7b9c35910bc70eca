// SPDX-License-Identifier: Apache-2.0
//! A request for an upgrade passed on, and the connections on either side joined once it is granted.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::Parts;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::task::spawn_local;

use super::pool::Pool;
use crate::stream::Stream;
use crate::websocket::{Asked, ask};

/// The backend's side of a connection that was upgraded.
pub(super) struct Tunnel {
    stream: Box<dyn Stream>,
    /// What was read of it beyond the answer.
    ahead: Bytes,
}

/// Where a client's connection finds its tunnel when it is upgraded.
pub(super) type Place = Rc<RefCell<Option<Tunnel>>>;

/// What a request wants its connection upgraded to (RFC 9110, section 7.8), if it does.
pub(super) fn wanted<B>(request: &Request<B>) -> Option<HeaderValue> {
    let named = |value: &HeaderValue| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.into_iter().any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
    };
    let asks = request.version() == Version::HTTP_11
        && request.headers().get_all(CONNECTION).iter().any(named);
    request.headers().get(UPGRADE).filter(|_| asks).cloned()
}

/// Says to the next neighbour what one said to us.
pub(super) fn hand_on(headers: &mut hyper::HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Asks a backend, on a connection of its own. What is upgraded is left at `place`.
///
/// # Errors
/// The backend does not answer.
pub(super) async fn open(
    stream: Box<dyn Stream>,
    request: Request<Incoming>,
    place: &Place,
) -> hyper::Result<Response<Incoming>> {
    Ok(match ask(TokioIo::new(stream), request).await? {
        Asked::Upgraded(response, Parts { io, read_buf, .. }) => {
            *place.borrow_mut() = Some(Tunnel { stream: io.into_inner(), ahead: read_buf });
            response
        }
        Asked::Answered(response, connection) => {
            if let Some(connection) = connection {
                spawn_local(async { drop(connection.await) });
            }
            response
        }
    })
}

/// Connects to the first of these backends that can be reached.
pub(super) async fn connect(
    pool: &Pool,
    backends: impl Iterator<Item = SocketAddr>,
    followed: bool,
) -> Option<(SocketAddr, Box<dyn Stream>)> {
    for backend in backends {
        if let Ok(stream) = pool.stream(backend, followed).await {
            return Some((backend, stream));
        }
    }
    None
}

impl Tunnel {
    /// Copies both ways until one side ends, for a client of which `ahead` was read beyond its request.
    pub(super) async fn carry(
        mut self,
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        ahead: &[u8],
    ) -> io::Result<()> {
        client.write_all(&self.ahead).await?;
        client.flush().await?;
        self.stream.write_all(ahead).await?;
        copy_bidirectional(&mut client, &mut self.stream).await.map(drop)
    }
}
