// SPDX-License-Identifier: Apache-2.0
//! Datagrams in, datagrams out, all on the caller's thread.
//!
//! An answer carries the type-of-service byte of its query, as `net.ipv4.tcp_reflect_tos` has the kernel
//! do for connections: so one packet filter finds both ways of a query that is followed. The loop is
//! ours for that; what is in the datagrams is not.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::zone::Zone;

/// Longest query read, bytes: more than any that a stub resolver sends, with EDNS (RFC 6891).
const QUERY_BYTES_MAX: usize = 4096;

/// A query as it came.
struct Query {
    length: usize,
    from: SocketAddr,
    /// Its type-of-service byte.
    tos: u8,
}

/// Binds every address, or says which one it cannot have and why. Needs a runtime.
pub(super) fn open(listen: &[SocketAddr]) -> Result<Vec<UdpSocket>, String> {
    if listen.is_empty() {
        return Err("`listen` is empty".to_owned());
    }
    let open = |&address: &SocketAddr| {
        socket(address).map_err(|error| format!("failed to listen at {address}: {error}"))
    };
    listen.iter().map(open).collect()
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = StdSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::IpRecvTos, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?,
    }
    UdpSocket::from_std(socket)
}

/// Answers at all sockets until one breaks.
pub(super) async fn serve(sockets: Vec<UdpSocket>, zone: Zone) -> io::Result<()> {
    let mut serving = JoinSet::new();
    for socket in sockets {
        serving.spawn_local(serve_at(socket, zone.clone()));
    }
    match serving.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        None => Ok(()),
    }
}

async fn serve_at(socket: UdpSocket, zone: Zone) -> io::Result<()> {
    let mut buffer = [0; QUERY_BYTES_MAX];
    loop {
        let receiving = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer));
        let Query { length, from, tos } = receiving.await?;
        let Some(answer) = zone.answer(&buffer[..length], from).await else {
            continue;
        };
        let sending = socket.async_io(Interest::WRITABLE, || send(&socket, &answer, from, tos));
        // A client that cannot be reached is its own loss; the others are still there.
        let _ = sending.await;
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Query> {
    // IPv6 has a number of four bytes for it.
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let tos = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Tos(tos) => Some(tos),
        ControlMessageOwned::Ipv6TClass(class) => u8::try_from(class).ok(),
        _ => None,
    });
    let from = message.address.as_ref().and_then(of_ip).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Query { length: message.bytes, from, tos: tos.unwrap_or(0) })
}

fn of_ip(address: &SockaddrStorage) -> Option<SocketAddr> {
    let four = address.as_sockaddr_in().map(|four| SocketAddr::V4((*four).into()));
    four.or_else(|| address.as_sockaddr_in6().map(|six| SocketAddr::V6((*six).into())))
}

fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr, tos: u8) -> io::Result<usize> {
    let parts = [IoSlice::new(answer)];
    let class = i32::from(tos);
    let control = match to {
        SocketAddr::V4(_) => [ControlMessage::Ipv4Tos(&tos)],
        SocketAddr::V6(_) => [ControlMessage::Ipv6TClass(&class)],
    };
    let to = SockaddrStorage::from(to);
    Ok(sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?)
}
