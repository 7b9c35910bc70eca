// SPDX-License-Identifier: Apache-2.0
//! What ip_vs tells of its connections and of what its servers have carried.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::net::Netns;

/// A connection that ip_vs knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// Who asked.
    pub(super) client: SocketAddr,
    /// Whom.
    pub(super) virtual_server: SocketAddr,
    /// Who answers.
    pub(super) real_server: SocketAddr,
    /// `ESTABLISHED`, `FIN_WAIT`, ...
    pub(super) state: String,
}

/// The connection of `client` to `virtual_server`. ip_vs remembers one for ten seconds after its
/// reset and for two minutes after its end (`tcp_timeouts` in ip_vs_proto_tcp.c).
///
/// # Errors
/// The kernel has no ip_vs.
pub(super) fn find(
    netns: &Netns,
    client: SocketAddr,
    virtual_server: SocketAddr,
) -> io::Result<Option<Connection>> {
    netns.run(move || {
        let table = BufReader::new(File::open("/proc/thread-self/net/ip_vs_conn")?);
        for line in table.lines().skip(1) {
            let Some(connection) = parse(&line?) else { continue };
            if connection.client == client && connection.virtual_server == virtual_server {
                return Ok(Some(connection));
            }
        }
        Ok(None)
    })
}

/// Columns: protocol, client, virtual server, real server, state (`ip_vs_conn_seq_show`). An address of IPv4 is
/// a number, one of IPv6 is written out.
fn parse(line: &str) -> Option<Connection> {
    let mut words = line.split_whitespace().skip(1);
    let mut address = || {
        let ip = words.next()?;
        let ip = match ip.contains(':') {
            true => IpAddr::V6(ip.parse().ok()?),
            false => Ipv4Addr::from_bits(u32::from_str_radix(ip, 16).ok()?).into(),
        };
        let port = u16::from_str_radix(words.next()?, 16).ok()?;
        Some(SocketAddr::new(ip, port))
    };
    let (client, virtual_server, real_server) = (address()?, address()?, address()?);
    Some(Connection { client, virtual_server, real_server, state: words.next()?.to_owned() })
}

/// Connections of a real server, active and inactive, from the listing of `ipvsadm -L -n` for its
/// virtual server; `None` when there is no such real server.
pub(super) fn held(listing: &str, real_server: SocketAddr) -> Option<u64> {
    listing.lines().find_map(|line| {
        // Columns: address, forwarding, weight, active, inactive.
        let mut words = line.trim_start().strip_prefix("-> ")?.split_whitespace();
        let address: SocketAddr = words.next()?.parse().ok()?;
        if address != real_server {
            return None;
        }
        let mut counts = words.skip(2).map(str::parse::<u64>);
        Some(counts.next()?.ok()? + counts.next()?.ok()?)
    })
}

/// The scheduler of the one virtual server in a listing of `ipvsadm -L -n`.
pub(super) fn scheduler(listing: &str) -> Option<&str> {
    let server = listing.lines().find(|line| line.starts_with("TCP ") || line.starts_with("UDP "));
    server?.split_whitespace().nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_connection_table_is_read() {
        let line = "TCP 0A080001 9C40 0A600001 0050 0AF40002 1F90 ESTABLISHED LOCAL  899";
        let connection = parse(line).expect("a connection");
        assert_eq!(connection.client, "10.8.0.1:40000".parse().expect("an address"));
        assert_eq!(connection.virtual_server, "10.96.0.1:80".parse().expect("an address"));
        assert_eq!(connection.real_server, "10.244.0.2:8080".parse().expect("an address"));
        assert_eq!(connection.state, "ESTABLISHED");
        let line = "TCP fd00:0010:0008:0000:0000:0000:0000:0001 9C40 fd00:0010:0096:0000:0000:0000:0000:0001 0050 \
                    fd00:0010:0244:0000:0000:0000:0000:0002 1F90 FIN_WAIT    LOCAL      119";
        let connection = parse(line).expect("a connection");
        assert_eq!(connection.client, "[fd00:10:8::1]:40000".parse().expect("an address"));
        assert_eq!(connection.real_server, "[fd00:10:244::2]:8080".parse().expect("an address"));
        assert_eq!(parse("Pro FromIP   FPrt ToIP"), None);
    }

    #[test]
    fn connections_of_a_real_server_are_found_in_the_listing() {
        let listing = "Prot LocalAddress:Port Scheduler Flags\n  \
                       -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
                       TCP  10.96.0.1:80 rr\n  \
                       -> 10.244.0.2:8080              Masq    1      0          1         \n  \
                       -> 10.244.0.3:8080              Masq    1      2          3         \n";
        let held = |address: &str| held(listing, address.parse().expect("an address"));
        assert_eq!(scheduler(listing), Some("rr"));
        assert_eq!(held("10.244.0.3:8080"), Some(5));
        assert_eq!(held("10.244.0.4:8080"), None);
    }
}
