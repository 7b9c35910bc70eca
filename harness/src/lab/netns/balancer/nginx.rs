// SPDX-License-Identifier: Apache-2.0
//! nginx as the load balancer: its stream module, round robin, one process.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use super::{PORT, Running};
use crate::Unavailable;
use crate::lab::netns::nginx::{self, Nginx as Program};
use crate::lab::netns::{NetnsError, followed};
use crate::net::addresses::LOAD_BALANCER_FOLLOWED;
use crate::net::{NetError, Netns};

/// Where Debian, Ubuntu and Fedora have the stream module, where it is not compiled in.
const MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

/// A running nginx. Ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    running: Program,
    log: PathBuf,
    backends: Vec<SocketAddrV4>,
}

/// Whether the machine has the program, and the program streams.
pub(super) fn check(scratch: &Netns) -> Result<(), Unavailable> {
    let missing = |what: &str, found: String| {
        Unavailable::new(what, found, "apt-get install nginx libnginx-mod-stream")
    };
    let said =
        nginx::version(scratch).map_err(|error| missing("program nginx", error.to_string()))?;
    match module() {
        Some(_) => Ok(()),
        None if said.contains("--with-stream ") => Ok(()),
        None => Err(missing("program nginx with its stream module", "it has none".to_owned())),
    }
}

fn module() -> Option<&'static str> {
    MODULES.into_iter().find(|module| Path::new(module).exists())
}

impl Nginx {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        host: &Netns,
        scratch: &Path,
        backends: &[SocketAddrV4],
    ) -> Result<Self, NetnsError> {
        let folder = followed::folder("nginx-", scratch)?;
        followed::mark(host, &[PORT], LOAD_BALANCER_FOLLOWED)
            .map_err(|error| NetnsError::Balancer(error.to_string()))?;
        let text = configuration(&folder, module(), backends);
        let running = Program::start(host, &folder, &text).map_err(NetnsError::Balancer)?;
        Ok(Self { running, log: folder.join("proofs"), backends: backends.to_vec() })
    }
}

impl Running for Nginx {
    fn name(&self) -> &str {
        self.running.name()
    }

    /// Of the proofs' connections only: what is written down for each takes its time.
    fn carried(&mut self) -> Result<Vec<(SocketAddrV4, u64)>, NetnsError> {
        let log =
            std::fs::read_to_string(&self.log).map_err(NetError::os("read", "nginx's log"))?;
        let of = |backend: &SocketAddrV4| {
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
fn configuration(folder: &Path, module: Option<&str>, backends: &[SocketAddrV4]) -> String {
    let load = module.map(|file| format!("load_module {file};\n")).unwrap_or_default();
    let at = folder.display();
    let servers: String = backends.iter().map(|backend| format!("server {backend}; ")).collect();
    let followed = followed::port(PORT);
    format!(
        "{load}{}stream {{\n\
         log_format proofs $upstream_addr;\nmap $remote_port $proof {{ ~^9\\d\\d$ 1; default 0; }}\n\
         access_log {at}/proofs proofs if=$proof;\nproxy_timeout 10m;\n\
         upstream plain {{ {servers}}}\nupstream followed {{ {servers}}}\n\
         server {{ listen {PORT} backlog=4096; proxy_pass plain; }}\n\
         server {{ listen {followed} backlog=4096; proxy_pass followed; proxy_bind {LOAD_BALANCER_FOLLOWED}; }}\n}}\n",
        nginx::main(folder)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ports_differ_in_where_they_connect_from() {
        let backends: Vec<SocketAddrV4> = ["10.9.0.11:30080", "10.9.0.13:30080"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let module = Some("/usr/lib/nginx/modules/ngx_stream_module.so");
        insta::assert_snapshot!(configuration(Path::new("/run/nginx"), module, &backends));
    }
}
