// SPDX-License-Identifier: Apache-2.0
//! Requests passed on, and their responses passed back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::pool::{Pool, Sender};
use super::rules::Rules;
use super::tunnel::{self, Place};
use crate::door::{Door, Local};
use crate::protocol::{IngressSpec, SAMPLE_TOS};
use crate::service_type;
use crate::wire::is_http2;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What a client says in TE that takes trailers.
const TRAILERS: &str = "trailers";

type Body = Either<Incoming, Empty<Bytes>>;

/// The proxy's state, all of it on one thread.
pub(super) struct Forwarder {
    pub(super) rules: Rules,
    pool: Pool,
    carried: RefCell<HashMap<SocketAddr, u64>>,
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
    pub(super) fn new(spec: &IngressSpec) -> Result<Rc<Self>, String> {
        let pool = Pool::new(spec.backend_tls.as_ref(), spec.backend_http2)?;
        let rules = Rules::new(&spec.rules)?;
        Ok(Rc::new(Self { rules, pool, carried: RefCell::default() }))
    }

    /// Counts what a backend answered, or was led.
    pub(super) fn count(&self, backend: SocketAddr) {
        *self.carried.borrow_mut().entry(backend).or_insert(0) += 1;
    }

    /// What was counted of each backend.
    pub(super) fn carried(&self) -> Vec<(SocketAddr, u64)> {
        self.carried.borrow().iter().map(|(&backend, &count)| (backend, count)).collect()
    }

    /// Passes one request on: to the backend whose turn it is, or where that cannot be reached to the next. Where
    /// it asks for an upgrade and is granted it, the other half of its connection is left at `place`.
    async fn forward(
        self: Rc<Self>,
        request: Request<Incoming>,
        client: Client,
        place: Place,
    ) -> Response<Body> {
        let host = request.uri().authority().map(|authority| authority.as_str());
        let host = host.or_else(|| request.headers().get(HOST)?.to_str().ok());
        let Some(host) = host.map(str::to_owned) else { return status(StatusCode::BAD_REQUEST) };
        let Some(rule) = self.rules.find(&host, request.uri().path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        // HTTP/2 has no upgrades, and whoever is asked for one may answer without (RFC 9110, section 7.8).
        let upgrade = tunnel::wanted(&request).filter(|_| !self.pool.is_http2());
        let Some(mut request) = prepare(request, &host, &client, &self.pool) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let followed = client.followed;
        if let Some(protocol) = upgrade {
            tunnel::hand_on(request.headers_mut(), protocol);
            let Some((backend, stream)) =
                tunnel::connect(&self.pool, rule.in_turn(), followed).await
            else {
                return status(StatusCode::BAD_GATEWAY);
            };
            return match tunnel::open(stream, request, &place).await {
                Ok(response) => self.passed_back(backend, response),
                Err(_) => status(StatusCode::BAD_GATEWAY),
            };
        }
        for backend in rule.in_turn() {
            // What waits may have been closed by the other side a moment ago: the next one, then.
            while let Some(sender) = self.pool.take(backend, followed) {
                match self.ask(backend, followed, sender, request).await {
                    Ok(response) => return response,
                    Err(Some(unsent)) => request = unsent,
                    Err(None) => return status(StatusCode::BAD_GATEWAY),
                }
            }
            let Ok(sender) = self.pool.open(backend, followed).await else { continue };
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
        backend: SocketAddr,
        followed: bool,
        mut sender: Sender,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Option<Request<Incoming>>> {
        match sender.ask(request).await {
            Ok(response) => {
                self.pool.give(backend, followed, sender);
                Ok(self.passed_back(backend, response))
            }
            Err(mut error) => Err(error.take_message()),
        }
    }

    /// A backend's response as its client gets it.
    fn passed_back(&self, backend: SocketAddr, mut response: Response<Incoming>) -> Response<Body> {
        self.count(backend);
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = response.headers().get(UPGRADE).filter(|_| upgraded).cloned();
        without_hop_by_hop(response.headers_mut());
        if let Some(protocol) = protocol {
            tunnel::hand_on(response.headers_mut(), protocol);
        }
        *response.version_mut() = Version::default();
        response.map(Either::Left)
    }
}

/// A request as it goes to a backend: with a path, the host that was asked for, and who asked.
fn prepare(
    mut request: Request<Incoming>,
    host: &str,
    client: &Client,
    pool: &Pool,
) -> Option<Request<Incoming>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let takes_trailers = request.headers().get_all(TE).iter().any(|te| te == TRAILERS);
    if pool.is_http2() {
        *request.uri_mut() = format!("{}://{host}{path}", pool.scheme()).parse().ok()?;
        *request.version_mut() = Version::HTTP_2;
    } else {
        *request.uri_mut() = path.parse().ok()?;
        *request.version_mut() = Version::HTTP_11;
    }
    let headers = request.headers_mut();
    without_hop_by_hop(headers);
    if pool.is_http2() {
        // The host is in the URI. Servers of gRPC look for the word about trailers, the one that HTTP/2 lets pass
        // (RFC 9113, section 8.2.2), and trailers are handed on.
        headers.remove(HOST);
        if takes_trailers {
            headers.insert(TE, HeaderValue::from_static(TRAILERS));
        }
    } else {
        headers.insert(HOST, HeaderValue::from_str(host).ok()?);
    }
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
        None => talk(stream, client, forwarder).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                talk(stream, client, forwarder).await;
            }
        }
    }
}

/// Whether a connection is followed is said by its SYN, whose type of service the accepted socket has
/// where `net.ipv4.tcp_reflect_tos` is set.
pub(super) fn followed(stream: &TcpStream, peer: SocketAddr) -> io::Result<bool> {
    Ok(service_type(stream, peer)? == SAMPLE_TOS)
}

fn client(stream: &TcpStream, peer: SocketAddr, tls: bool) -> io::Result<Client> {
    stream.set_nodelay(true)?;
    let followed = followed(stream, peer)?;
    let address = peer.ip().to_string().try_into().map_err(io::Error::other)?;
    Ok(Client { address, scheme: if tls { "https" } else { "http" }, followed })
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    client: Client,
    forwarder: Rc<Forwarder>,
) {
    let place = Place::default();
    let at = place.clone();
    let service = service_fn(move |request| {
        let forwarded = Rc::clone(&forwarder).forward(request, client.clone(), at.clone());
        async { Ok::<_, Infallible>(forwarded.await) }
    });
    let Ok((is_http2, stream)) = is_http2(stream).await else { return };
    let io = TokioIo::new(stream);
    if is_http2 {
        let _ = http2::Builder::new(Local).serve_connection(io, service).await;
        return;
    }
    let mut connection = http1::Builder::new().serve_connection(io, service);
    if (&mut connection).await.is_err() {
        return;
    }
    let tunnel = place.take();
    if let Some(tunnel) = tunnel {
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        // How it ends is the client's business, as without an upgrade.
        let _ = tunnel.carry(io.into_inner(), &read_buf).await;
    }
}
