// SPDX-License-Identifier: Apache-2.0
//! What `ipvsadm --stats` says virtual servers and their real ones have carried.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::net::{Netns, Tool, ToolError};

/// Longest wait for the counters to tell of a connection. The kernel sums its processors' counters
/// up every two seconds, a fiftieth of the servers at a time (`IPVS_EST_NTICKS` in `ip_vs.h`), and
/// shows the sums; a server that was just made may wait until a thread has been found for it.
const PUBLISHED: Duration = Duration::from_secs(8);
/// Time between two looks.
const GLANCE: Duration = Duration::from_millis(50);

/// Counters of a server, virtual or real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Connections.
    pub(crate) connections: u64,
    /// Packets to the server.
    pub(crate) packets_in: u64,
    /// Packets from it.
    pub(crate) packets_out: u64,
}

impl Carried {
    /// Whether a connection and packets of it have come since `before`.
    fn rose_since(self, before: Self) -> bool {
        self.connections > before.connections && self.packets_in > before.packets_in
    }
}

/// Counters of a virtual server and of one of its real ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) virtual_server: Carried,
    pub(crate) real_server: Carried,
}

/// What the counters stood at when they last proved something; zero where they never did, as they
/// are when a server is made.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    servers: HashMap<String, Carried>,
}

impl Seen {
    /// Waits until the counters of `server`, as `ipvsadm` names it, and of `real` behind it have
    /// risen, and returns by how much and where to.
    ///
    /// # Errors
    /// The tool says no.
    pub(crate) fn await_rise(
        &mut self,
        netns: &Netns,
        server: &str,
        real: SocketAddr,
    ) -> Result<Result<(Pair, Pair), Option<Pair>>, ToolError> {
        let behind = format!("{server} -> {real}");
        let before = |name: &str| self.servers.get(name).copied().unwrap_or_default();
        let before = Pair { virtual_server: before(server), real_server: before(&behind) };
        let deadline = Instant::now() + PUBLISHED;
        loop {
            let now = read(&listing(netns, server)?, real);
            if let Some(now) = now
                && now.virtual_server.rose_since(before.virtual_server)
                && now.real_server.rose_since(before.real_server)
            {
                self.servers.insert(server.to_owned(), now.virtual_server);
                self.servers.insert(behind, now.real_server);
                return Ok(Ok((before, now)));
            }
            // A server that is not there does not come by waiting.
            if now.is_none() || Instant::now() >= deadline {
                return Ok(Err(now));
            }
            std::thread::sleep(GLANCE);
        }
    }
}

fn listing(netns: &Netns, server: &str) -> Result<String, ToolError> {
    let args = ["-L", "-n", "--stats", "--exact"].into_iter().chain(server.split(' '));
    Tool::new("ipvsadm").args(args).run_on(netns)
}

/// Reads `ipvsadm -L -n --stats --exact` of one virtual server.
fn read(listing: &str, real: SocketAddr) -> Option<Pair> {
    let lines = || listing.lines().map(str::trim_start);
    let server = lines().find_map(|line| line.strip_prefix("TCP ").or(line.strip_prefix("UDP ")));
    let behind = lines().filter_map(|line| line.strip_prefix("-> "));
    let behind = behind.into_iter().find(|line| {
        let address = line.split_whitespace().next();
        address.is_some_and(|address| address.parse() == Ok(real))
    });
    Some(Pair { virtual_server: columns(server?)?, real_server: columns(behind?)? })
}

/// Columns: address, connections, packets in, packets out, bytes in, bytes out.
fn columns(line: &str) -> Option<Carried> {
    let mut counts = line.split_whitespace().skip(1).map(str::parse);
    let mut next = || counts.next()?.ok();
    Some(Carried { connections: next()?, packets_in: next()?, packets_out: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.96.0.1:80                        7       35       28     2100     1900
  -> 10.244.0.2:8080                     4       20       16     1200     1000
  -> 10.244.0.21:8080                    3       15       12      900      900
";

    #[test]
    fn counters_of_a_virtual_server_and_of_the_very_real_one_are_read() {
        let carried =
            |connections, packets_in, packets_out| Carried { connections, packets_in, packets_out };
        let pair = read(LISTING, "10.244.0.21:8080".parse().expect("an address"));
        let expected = Pair { virtual_server: carried(7, 35, 28), real_server: carried(3, 15, 12) };
        assert_eq!(pair, Some(expected));
        assert_eq!(read(LISTING, "10.244.0.22:8080".parse().expect("an address")), None);
        assert_eq!(read("", "10.244.0.2:8080".parse().expect("an address")), None);
    }

    #[test]
    fn packets_without_a_connection_are_no_rise() {
        let one = Carried { connections: 1, packets_in: 5, packets_out: 4 };
        let more = Carried { packets_in: 9, ..one };
        assert!(one.rose_since(Carried::default()));
        assert!(!more.rose_since(one));
    }
}
