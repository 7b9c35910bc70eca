// SPDX-License-Identifier: Apache-2.0
//! HAProxy as the load balancer, in TCP mode.
//!
//! Which connections are followed is said by their type-of-service byte, which HAProxy does not hand on.
//! So it listens at two ports: a rule of the host's leads marked connections to the second, which
//! connects from an address of its own, and another rule marks what leaves from there. For these alone
//! it writes down which two connections belong together. Both ports are alike otherwise.

use std::net::SocketAddrV4;
use std::path::Path;

use workloads::protocol::SAMPLE_TOS;

use super::log::Log;
use super::{PORT, Running};
use crate::lab::netns::{NetnsError, haproxy};
use crate::net::addresses::LOAD_BALANCER_FOLLOWED;
use crate::net::{NetError, Netns, Tool};
use crate::relay::Relay;

/// Port of connections that are followed.
const FOLLOWED_PORT: u16 = PORT + 1;

/// A running HAProxy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Haproxy {
    running: haproxy::Haproxy,
    log: Log,
    backends: Vec<SocketAddrV4>,
}

impl Haproxy {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        host: &Netns,
        scratch: &Path,
        backends: &[SocketAddrV4],
    ) -> Result<Self, NetnsError> {
        let folder = tempfile::Builder::new()
            .prefix("haproxy-")
            .tempdir_in(scratch)
            .map_err(NetError::os("create", "a folder for HAProxy"))?
            .keep();
        let log = Log::listen(host, folder.join("log"))?;
        Tool::new("nft")
            .args(["-f", "-"])
            .stdin(rules())
            .run_on(host)
            .map_err(|error| NetnsError::Balancer(error.to_string()))?;
        let text = configuration(log.path(), &haproxy::socket(&folder), backends);
        let running =
            haproxy::Haproxy::start(host, &folder, &text).map_err(NetnsError::Balancer)?;
        Ok(Self { running, log, backends: backends.to_vec() })
    }
}

impl Running for Haproxy {
    fn name(&self) -> &str {
        self.running.name()
    }

    fn carried(&mut self) -> Result<Vec<(SocketAddrV4, u64)>, NetnsError> {
        let answer = self.running.ask("show stat").map_err(NetnsError::Balancer)?;
        let of = |index: usize| haproxy::sum(&answer, &server(index), "stot");
        (0..self.backends.len())
            .map(|index| match of(index) {
                Some(count) => Ok((self.backends[index], count)),
                None => Err(NetnsError::Balancer(format!(
                    "HAProxy tells no sessions of {}",
                    self.backends[index]
                ))),
            })
            .collect()
    }

    fn take_relays(&mut self) -> Result<Vec<Relay>, NetnsError> {
        self.log.take()
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        self.running.down().map_err(NetError::os("end", "HAProxy"))?;
        Ok(())
    }
}

fn server(index: usize) -> String {
    format!("s{index}")
}

/// Both ports and their rules. `haproxy.cfg` of 2.6, as later ones read it too. How many connections it
/// takes at a time is for it to find out, from the descriptors that it may have.
fn configuration(log: &Path, socket: &Path, backends: &[SocketAddrV4]) -> String {
    let servers: String = (0..)
        .zip(backends)
        .map(|(index, backend)| format!("    server {} {backend}\n", server(index)))
        .collect();
    let (log, socket) = (log.display(), socket.display());
    format!(
        "global\n    stats socket {socket} mode 600\n\
         defaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\
         frontend plain\n    bind :{PORT}\n    default_backend plain\n\
         backend plain\n{servers}\
         frontend followed\n    bind :{FOLLOWED_PORT}\n    \
         log {log} len 512 format raw local0 info\n    option logasap\n    \
         log-format \"%ci:%cp %bi:%bp %si:%sp\"\n    default_backend followed\n\
         backend followed\n    source {LOAD_BALANCER_FOLLOWED}\n{servers}"
    )
}

/// Leads what is marked to the second port, and marks what leaves from there.
fn rules() -> String {
    let dscp = SAMPLE_TOS >> 2;
    format!(
        "table ip balancer {{\n\
         chain in {{ type nat hook prerouting priority dstnat; tcp dport {PORT} ip dscp {dscp} \
         redirect to :{FOLLOWED_PORT}; }}\n\
         chain out {{ type filter hook output priority mangle; ip saddr {LOAD_BALANCER_FOLLOWED} \
         ip dscp set {dscp}; }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ports_differ_in_the_log_and_in_where_they_connect_from() {
        let backends: Vec<SocketAddrV4> = ["10.9.0.11:30080", "10.9.0.13:30080"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let text = configuration(Path::new("/run/log"), Path::new("/run/stats"), &backends);
        insta::assert_snapshot!(format!("{text}\n{}", rules()));
    }
}
