// SPDX-License-Identifier: Apache-2.0
//! Accepting connections and serving them, all on the caller's thread.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::marks::Marker;
use super::pod::Pod;
use super::websocket;
use crate::clock::now_ns;
use crate::door::{Door, Local};
use crate::preamble::{self, Preamble};
use crate::protocol::{Accepted, REQUEST_ID, SAMPLE_TOS};
use crate::service_type;
use crate::wire::{Carried, Gate, Observed, Opened, is_http2};

/// Serves HTTP/1.1, WebSocket after an upgrade, and HTTP/2 (prior knowledge, or negotiated) at `doors` until `end` is done, and
/// returns its output. To be awaited on a [`tokio::runtime::LocalRuntime`] or in a
/// [`tokio::task::LocalSet`].
///
/// # Errors
/// The runtime does not take a listener, or the system has no timer.
pub(super) async fn serve_until<T>(
    doors: Vec<Door>,
    pod: Rc<Pod>,
    end: impl Future<Output = T>,
) -> io::Result<T> {
    let mut accepting = Vec::with_capacity(doors.len());
    for door in doors {
        let pod = pod.clone();
        accepting.push(door.accept(move |stream, peer, tls| match tls {
            None => {
                spawn_local(serve(stream, peer, pod.clone()));
            }
            Some(tls) => {
                spawn_local(serve_tls(stream, peer, tls.clone(), pod.clone()));
            }
        })?);
    }
    let output = end.await;
    accepting.iter().for_each(|task| task.abort());
    Ok(output)
}

/// Serves one connection to its end. How it ends is the client's business: the load client ends
/// every connection with a RST.
async fn serve(stream: TcpStream, peer: SocketAddr, pod: Rc<Pod>) {
    let Ok(Guest { stream, client, marker, .. }) = receive(stream, peer, &pod).await else {
        return;
    };
    talk(Observed::new(stream, marker), client, pod).await;
}

/// The same under TLS. Why a handshake fails is what the client says of it.
async fn serve_tls(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, pod: Rc<Pod>) {
    let accepted_ns = now_ns();
    let Ok(guest) = receive(stream, peer, &pod).await else { return };
    let Guest { stream, client, mut marker, passed } = guest;
    let Ok(stream) = tls.accept(Gate::behind(stream, passed)).await else { return };
    if let Some(marker) = &mut marker {
        let turns = stream.get_ref().0.turns();
        marker.secured(Accepted { accepted_ns, turns, secured_ns: now_ns() });
    }
    talk(Observed::new(Opened::new(stream), marker), client, pod).await;
}

/// A connection at the place where its own bytes begin.
struct Guest {
    stream: TcpStream,
    /// Whose it is: the peer's, or whom the peer speaks for.
    client: SocketAddr,
    marker: Option<Marker>,
    /// Bytes of it that were read.
    passed: u64,
}

/// Prepares a connection, and reads what a proxy says before it, where one has to.
async fn receive(mut stream: TcpStream, peer: SocketAddr, pod: &Rc<Pod>) -> io::Result<Guest> {
    let mut marker = marker(&stream, peer, pod)?;
    if !pod.is_proxied() {
        return Ok(Guest { stream, client: peer, marker, passed: 0 });
    }
    let Preamble { length, source } = preamble::read(&mut stream).await?;
    if let Some(marker) = &mut marker {
        marker.behind(length);
    }
    Ok(Guest { stream, client: source.unwrap_or(peer), marker, passed: length })
}

async fn talk<S: Carried + 'static>(
    stream: Observed<S, Option<Marker>>,
    peer: SocketAddr,
    pod: Rc<Pod>,
) {
    let header = peer_header(peer);
    let noted = stream.observer().as_ref().map(Marker::noted);
    let upgraded = Rc::new(Cell::new(false));
    let shared = (pod.clone(), noted.clone(), upgraded.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (pod, noted, upgraded) = shared.clone();
        // Here and not when it is polled: in the order of requests.
        let note = noted.map(|noted| noted.request(request_id(&request)));
        let answered = pod.answer(header.clone(), note.clone(), request);
        async move {
            let answer = answered.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                upgraded.set(true);
                if let Some(note) = note {
                    note.passed_over();
                }
            }
            Ok::<_, hyper::Error>(answer)
        }
    });
    let Ok((is_http2, stream)) = is_http2(stream).await else { return };
    let io = TokioIo::new(stream);
    if is_http2 {
        let _ = http2::Builder::new(Local).serve_connection(io, service).await;
        return;
    }
    let mut connection = http1::Builder::new().serve_connection(io, service);
    if (&mut connection).await.is_ok() && upgraded.get() {
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        websocket::serve(io.into_inner(), &read_buf, &pod, noted.as_deref()).await;
    }
}

/// What a request calls itself.
fn request_id(request: &Request<Incoming>) -> Option<u64> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    u64::from_str_radix(text, 16).ok()
}

/// The longest an address of its family and a port can be, so that answers to all clients have the same length: a
/// request's bytes are then the same whichever port it came from. White space behind a field's value
/// is no part of it (RFC 9112, section 5).
fn peer_header(peer: SocketAddr) -> HeaderValue {
    let longest = match peer {
        SocketAddr::V4(_) => "255.255.255.255:65535".len(),
        SocketAddr::V6(_) => "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".len(),
    };
    format!("{peer:<longest$}").try_into().expect("an address has no character a header has not")
}

/// Prepares the socket, and a marker if the client's SYN carried [`SAMPLE_TOS`]: where
/// `net.ipv4.tcp_reflect_tos` is set, the accepted socket has the SYN's type of service
/// (`tcp_v4_syn_recv_sock`), otherwise the listener's.
fn marker(stream: &TcpStream, peer: SocketAddr, pod: &Rc<Pod>) -> io::Result<Option<Marker>> {
    stream.set_nodelay(true)?;
    if service_type(stream, peer)? != SAMPLE_TOS {
        return Ok(None);
    }
    let local = stream.local_addr()?;
    Ok(Some(Marker::new(pod.clone(), peer, local)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_takes_the_same_room_whatever_its_address() {
        let header = |peer: &str| peer_header(peer.parse().unwrap());
        for peer in ["10.8.0.1:80", "10.8.0.21:1044", "255.255.255.255:65535"] {
            assert_eq!(header(peer).len(), 21, "{peer}");
            assert_eq!(header(peer).to_str().unwrap().trim_end(), peer);
        }
    }
}
