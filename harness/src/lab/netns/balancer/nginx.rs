// SPDX-License-Identifier: Apache-2.0
//! nginx as the load balancer: its stream module, round robin, one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{PORT, Running};
use crate::lab::netns::nginx::{self, Nginx as Program};
use crate::lab::netns::{NetnsError, followed};
use crate::net::addresses::{family, load_balancer_followed};
use crate::net::{Cidr, NetError, Netns};

/// A running nginx. Ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    running: Program,
    log: PathBuf,
    backends: Vec<SocketAddr>,
}

impl Nginx {
    /// Starts it; its files are in `folder`.
    pub(super) fn start(
        host: &Netns,
        folder: &Path,
        backends: &[SocketAddr],
        proxy_protocol: bool,
    ) -> Result<Self, NetnsError> {
        let text = configuration(folder, nginx::stream_module(), backends, proxy_protocol);
        let running = Program::start(host, folder, &text).map_err(NetnsError::Balancer)?;
        Ok(Self { running, log: folder.join("proofs"), backends: backends.to_vec() })
    }
}

impl Running for Nginx {
    fn name(&self) -> &str {
        self.running.name()
    }

    /// Of the proofs' connections only: what is written down for each takes its time.
    fn carried(&mut self) -> Result<Vec<(SocketAddr, u64)>, NetnsError> {
        let log =
            std::fs::read_to_string(&self.log).map_err(NetError::os("read", "nginx's log"))?;
        let of = |backend: &SocketAddr| {
            let text = backend.to_string();
            log.lines().filter(|line| *line == text).count() as u64
        };
        Ok(self.backends.iter().map(|backend| (*backend, of(backend))).collect())
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.running.down().map_err(NetError::os("end", "nginx"))?)
    }
}

/// `nginx.conf` of 1.22, as later ones read it too. A proof's connection comes from a port below those that
/// load uses, and is written down when it ends.
fn configuration(
    folder: &Path,
    module: Option<&str>,
    backends: &[SocketAddr],
    proxy_protocol: bool,
) -> String {
    // Version 1: nginx writes no other.
    let preamble = if proxy_protocol { "proxy_protocol on;\n" } else { "" };
    let load = module.map(|file| format!("load_module {file};\n")).unwrap_or_default();
    let at = folder.display();
    let servers: String = backends.iter().map(|backend| format!("server {backend}; ")).collect();
    let family = family(backends[0].ip());
    let source = load_balancer_followed(family);
    let at_port = |port| SocketAddr::new(Cidr::any(family).address, port);
    let (plain, followed) = (at_port(PORT), at_port(followed::port(PORT)));
    format!(
        "{load}{}stream {{\n\
         log_format proofs $upstream_addr;\nmap $remote_port $proof {{ ~^9\\d\\d$ 1; default 0; }}\n\
         access_log {at}/proofs proofs if=$proof;\nproxy_timeout 10m;\n{preamble}\
         upstream plain {{ {servers}}}\nupstream followed {{ {servers}}}\n\
         server {{ listen {plain} backlog=4096; proxy_pass plain; }}\n\
         server {{ listen {followed} backlog=4096; proxy_pass followed; proxy_bind {source}; }}\n}}\n",
        nginx::main(folder)
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
        let module = Some("/usr/lib/nginx/modules/ngx_stream_module.so");
        let of = |proxied| configuration(Path::new("/run/nginx"), module, &backends, proxied);
        insta::assert_snapshot!(of(false));
        assert!(of(true).contains("\nproxy_protocol on;\n"), "{}", of(true));
    }
}
