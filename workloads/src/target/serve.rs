// SPDX-License-Identifier: Apache-2.0
//! Accepting connections and serving them, all on the caller's thread.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::marks::Marker;
use super::pod::Pod;
use crate::clock::now_ns;
use crate::door::{Door, Local};
use crate::protocol::{Accepted, REQUEST_ID, SAMPLE_TOS};
use crate::wire::{Carried, Gate, Observed, Opened};

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge, or negotiated) at `doors` until `end` is done, and
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
    let SocketAddr::V4(peer) = peer else { return };
    let Ok(marker) = marker(&stream, peer, &pod) else { return };
    talk(Observed::new(stream, marker), peer, pod).await;
}

/// The same under TLS. Why a handshake fails is what the client says of it.
async fn serve_tls(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, pod: Rc<Pod>) {
    let accepted_ns = now_ns();
    let SocketAddr::V4(peer) = peer else { return };
    let Ok(mut marker) = marker(&stream, peer, &pod) else { return };
    let Ok(stream) = tls.accept(Gate::new(stream)).await else { return };
    if let Some(marker) = &mut marker {
        let turns = stream.get_ref().0.turns();
        marker.secured(Accepted { accepted_ns, turns, secured_ns: now_ns() });
    }
    talk(Observed::new(Opened::new(stream), marker), peer, pod).await;
}

async fn talk<S: Carried + 'static>(
    stream: Observed<S, Option<Marker>>,
    peer: SocketAddrV4,
    pod: Rc<Pod>,
) {
    let header = peer_header(peer);
    let id = stream.observer().as_ref().map(Marker::id);
    let service = service_fn(move |request: Request<Incoming>| {
        if let Some(id) = &id {
            id.set(request_id(&request));
        }
        Rc::clone(&pod).answer(header.clone(), request)
    });
    let _ = auto::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await;
}

/// What a request calls itself.
fn request_id(request: &Request<Incoming>) -> Option<u64> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    u64::from_str_radix(text, 16).ok()
}

/// The longest an address and port can be, so that answers to all clients have the same length: a
/// request's bytes are then the same whichever port it came from. White space behind a field's value
/// is no part of it (RFC 9112, section 5).
fn peer_header(peer: SocketAddrV4) -> HeaderValue {
    let longest = "255.255.255.255:65535".len();
    format!("{peer:<longest$}").try_into().expect("an address has no character a header has not")
}

/// Prepares the socket, and a marker if the client's SYN carried [`SAMPLE_TOS`]: where
/// `net.ipv4.tcp_reflect_tos` is set, the accepted socket has the SYN's type of service
/// (`tcp_v4_syn_recv_sock`), otherwise the listener's.
fn marker(stream: &TcpStream, peer: SocketAddrV4, pod: &Rc<Pod>) -> io::Result<Option<Marker>> {
    stream.set_nodelay(true)?;
    if SockRef::from(stream).tos_v4()? != u32::from(SAMPLE_TOS) {
        return Ok(None);
    }
    let SocketAddr::V4(local) = stream.local_addr()? else { return Ok(None) };
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
