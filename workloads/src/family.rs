// SPDX-License-Identifier: Apache-2.0
//! Sockets of the family of an address.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A TCP socket that can be bound or connected to an address.
///
/// # Errors
/// The system refuses it, or has no such family.
pub fn tcp_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}
