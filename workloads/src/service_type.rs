// SPDX-License-Identifier: Apache-2.0
//! The type of service that a connection's packets carry: the second byte of IPv4's header (RFC 791), the
//! traffic class of IPv6's (RFC 8200, section 7).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::SockRef;

/// What the packets of a socket carry whose own address, or its peer's, is of that family.
///
/// # Errors
/// The socket is of the other family.
pub fn service_type(socket: &impl AsFd, address: SocketAddr) -> io::Result<u8> {
    let socket = SockRef::from(socket);
    let value = if address.is_ipv6() { socket.tclass_v6()? } else { socket.tos_v4()? };
    Ok(value as u8)
}

/// Sets it, for a socket of that family.
///
/// # Errors
/// The socket is of the other family.
pub fn set_service_type(socket: &impl AsFd, address: SocketAddr, value: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match address {
        SocketAddr::V4(_) => socket.set_tos_v4(value.into()),
        SocketAddr::V6(_) => socket.set_tclass_v6(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    use super::*;

    #[test]
    fn a_value_is_set_and_read_in_either_family() {
        let here: [SocketAddr; 2] =
            [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        for address in here {
            // A kernel may have no IPv6.
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            assert_eq!(service_type(&socket, address).unwrap(), 0);
            set_service_type(&socket, address, 0x04).unwrap();
            assert_eq!(service_type(&socket, address).unwrap(), 0x04);
        }
    }
}
