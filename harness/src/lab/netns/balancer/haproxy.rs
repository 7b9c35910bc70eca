// SPDX-License-Identifier: Apache-2.0
//! HAProxy as the load balancer, in TCP mode.

use std::net::SocketAddr;
use std::path::Path;

use super::{PORT, Running};
use crate::lab::netns::{NetnsError, followed, haproxy};
use crate::net::addresses::{family, load_balancer_followed};
use crate::net::{Cidr, NetError, Netns};

/// A running HAProxy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Haproxy {
    running: haproxy::Haproxy,
    backends: Vec<SocketAddr>,
}

impl Haproxy {
    /// Starts it; its files are in `folder`.
    pub(super) fn start(
        host: &Netns,
        folder: &Path,
        backends: &[SocketAddr],
        proxy_protocol: bool,
    ) -> Result<Self, NetnsError> {
        let text = configuration(&haproxy::socket(folder), backends, proxy_protocol);
        let running = haproxy::Haproxy::start(host, folder, &text).map_err(NetnsError::Balancer)?;
        Ok(Self { running, backends: backends.to_vec() })
    }
}

impl Running for Haproxy {
    fn name(&self) -> &str {
        self.running.name()
    }

    fn carried(&mut self) -> Result<Vec<(SocketAddr, u64)>, NetnsError> {
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
fn configuration(socket: &Path, backends: &[SocketAddr], proxy_protocol: bool) -> String {
    let how = if proxy_protocol { " send-proxy-v2" } else { "" };
    let servers: String = (0..)
        .zip(backends)
        .map(|(index, backend)| format!("    server {} {backend}{how}\n", server(index)))
        .collect();
    let (socket, followed) = (socket.display(), followed::port(PORT));
    let family = family(backends[0].ip());
    let any = Cidr::any(family).address;
    let source = haproxy::source(load_balancer_followed(family));
    format!(
        "global\n    stats socket {socket} mode 600\n\
         defaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\
         frontend plain\n    bind {any}:{PORT}\n    default_backend plain\n\
         backend plain\n{servers}\
         frontend followed\n    bind {any}:{followed}\n    default_backend followed\n\
         backend followed\n    source {source}\n{servers}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ports_differ_in_where_they_connect_from() {
        let backends: Vec<SocketAddr> = ["10.9.0.11:30080", "10.9.0.13:30080"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        insta::assert_snapshot!(configuration(Path::new("/run/stats"), &backends, false));
        let proxied = configuration(Path::new("/run/stats"), &backends, true);
        assert_eq!(proxied.matches("10.9.0.11:30080 send-proxy-v2\n").count(), 2, "{proxied}");
    }
}
