// SPDX-License-Identifier: Apache-2.0
//! Requests passed on, and their responses passed back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::pool::{Pool, Sender};
use super::rules::Rules;
use crate::door::{Door, Local};
use crate::protocol::{IngressRule, SAMPLE_TOS};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

type Body = Either<Incoming, Empty<Bytes>>;

/// The proxy's state, all of it on one thread.
#[derive(Debug)]
pub(super) struct Forwarder {
    rules: Rules,
    pool: Pool,
    carried: RefCell<HashMap<SocketAddrV4, u64>>,
}

/// What is the same in all requests of a client's connection.
#[derive(Clone, Debug)]
struct Client {
    address: HeaderValue,
    scheme: &'static str,
    /// Whether its requests are followed.
    followed: bool,
}

impl Forwarder {
    /// Fails with what is wrong with a rule.
    pub(super) fn new(rules: &[IngressRule]) -> Result<Rc<Self>, String> {
        let rules = Rules::new(rules)?;
        Ok(Rc::new(Self { rules, pool: Pool::default(), carried: RefCell::default() }))
    }

    /// Requests that each backend has answered.
    pub(super) fn carried(&self) -> Vec<(SocketAddrV4, u64)> {
        self.carried.borrow().iter().map(|(&backend, &count)| (backend, count)).collect()
    }

    /// Passes one request on: to the backend whose turn it is, or where that cannot be reached to the next.
    async fn forward(self: Rc<Self>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let host = request.uri().authority().map(|authority| authority.as_str());
        let host = host.or_else(|| request.headers().get(HOST)?.to_str().ok());
        let Some(host) = host.map(str::to_owned) else { return status(StatusCode::BAD_REQUEST) };
        let Some(rule) = self.rules.find(&host, request.uri().path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        let Some(mut request) = prepare(request, &host, &client) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let followed = client.followed;
        for backend in rule.in_turn() {
            // What waits may have been closed by the other side a moment ago: the next one, then.
            while let Some(sender) = self.pool.take(backend, followed) {
                match self.ask(backend, followed, sender, request).await {
                    Ok(response) => return response,
                    Err(Some(unsent)) => request = unsent,
                    Err(None) => return status(StatusCode::BAD_GATEWAY),
                }
            }
            let Ok(sender) = Pool::open(backend, followed).await else { continue };
            match self.ask(backend, followed, sender, request).await {
                Ok(response) => return response,
                Err(Some(unsent)) => request = unsent,
                Err(None) => return status(StatusCode::BAD_GATEWAY),
            }
        }
        status(StatusCode::BAD_GATEWAY)
    }

    /// Sends a request on a connection; fails with the request where nothing of it was sent.
    async fn ask(
        &self,
        backend: SocketAddrV4,
        followed: bool,
        mut sender: Sender,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Option<Request<Incoming>>> {
        match sender.try_send_request(request).await {
            Ok(mut response) => {
                self.pool.give(backend, followed, sender);
                *self.carried.borrow_mut().entry(backend).or_insert(0) += 1;
                without_hop_by_hop(response.headers_mut());
                *response.version_mut() = Version::default();
                Ok(response.map(Either::Left))
            }
            Err(mut error) => Err(error.take_message()),
        }
    }
}

/// A request as it goes to a backend: HTTP/1.1 with a path, the host that was asked for, and who asked.
fn prepare(
    mut request: Request<Incoming>,
    host: &str,
    client: &Client,
) -> Option<Request<Incoming>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().ok()?;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    without_hop_by_hop(headers);
    headers.insert(HOST, HeaderValue::from_str(host).ok()?);
    headers.append(FORWARDED_FOR, client.address.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(client.scheme));
    Some(request)
}

/// Takes out what is between two neighbours only (RFC 9110, section 7.6.1).
fn without_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = status;
    response
}

/// Serves a door in a task of its own.
///
/// # Errors
/// The runtime does not take the listener, or the system has no timer.
pub(super) fn accept(door: Door, forwarder: Rc<Forwarder>) -> io::Result<JoinHandle<()>> {
    door.accept(move |stream, peer, tls| {
        spawn_local(serve(stream, peer, tls.cloned(), forwarder.clone()));
    })
}

/// Serves one connection to its end. How it ends is the client's business.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    forwarder: Rc<Forwarder>,
) {
    let Ok(client) = client(&stream, peer, tls.is_some()) else { return };
    match tls {
        None => talk(TokioIo::new(stream), client, forwarder).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                talk(TokioIo::new(stream), client, forwarder).await;
            }
        }
    }
}

/// Whether a connection is followed is said by its SYN, whose type of service the accepted socket has
/// where `net.ipv4.tcp_reflect_tos` is set.
fn client(stream: &TcpStream, peer: SocketAddr, tls: bool) -> io::Result<Client> {
    stream.set_nodelay(true)?;
    let followed = SockRef::from(stream).tos_v4()? == u32::from(SAMPLE_TOS);
    let address = peer.ip().to_string().try_into().map_err(io::Error::other)?;
    Ok(Client { address, scheme: if tls { "https" } else { "http" }, followed })
}

async fn talk(io: impl Read + Write + Unpin + 'static, client: Client, forwarder: Rc<Forwarder>) {
    let service = service_fn(move |request| {
        let forwarded = Rc::clone(&forwarder).forward(request, client.clone());
        async { Ok::<_, Infallible>(forwarded.await) }
    });
    let _ = auto::Builder::new(Local).serve_connection(io, service).await;
}
