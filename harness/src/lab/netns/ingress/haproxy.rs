// SPDX-License-Identifier: Apache-2.0
//! HAProxy as the ingress controller, in HTTP mode: hosts by a map, a backend for each rule.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use workloads::protocol::IngressRule;

use super::{Controller, Ingress};
use crate::certificates::Certificates;
use crate::lab::netns::hosts::Pod;
use crate::lab::netns::{NetnsError, followed, haproxy};
use crate::net::NetError;

/// A running HAProxy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Haproxy(haproxy::Haproxy);

impl Haproxy {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        pod: &Pod,
        scratch: &Path,
        source: Ipv4Addr,
        rules: &[IngressRule],
        certificates: Option<&Certificates>,
    ) -> Result<Self, NetnsError> {
        let folder = followed::folder("haproxy-", scratch)?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text)
                .map_err(NetError::os("write", "what HAProxy reads"))
                .map(|()| file)
        };
        let bundle = match certificates {
            Some(certificates) => Some(write("tls.pem", &certificates.bundle().0)?),
            None => None,
        };
        let (plain, marked) = maps(rules);
        let maps = [write("plain.map", &plain)?, write("followed.map", &marked)?];
        let socket = haproxy::socket(&folder);
        let files =
            Files { socket: &socket, maps: [&maps[0], &maps[1]], bundle: bundle.as_deref() };
        let text = configuration(&files, source, rules);
        let running = haproxy::Haproxy::start(&pod.netns, &folder, &text);
        Ok(Self(running.map_err(NetnsError::Ingress)?))
    }
}

impl Controller for Haproxy {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn answered(&mut self) -> Result<u64, NetnsError> {
        let answer = self.0.ask("show stat").map_err(NetnsError::Ingress)?;
        haproxy::sum(&answer, "BACKEND", "hrsp_2xx")
            .ok_or_else(|| NetnsError::Ingress("HAProxy tells no responses".to_owned()))
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.0.down().map_err(NetError::os("end", "HAProxy"))?)
    }
}

/// What its configuration names.
struct Files<'a> {
    socket: &'a Path,
    /// Hosts to backends: of other requests, of followed ones.
    maps: [&'a Path; 2],
    /// Certificate and key.
    bundle: Option<&'a Path>,
}

/// From host to backend, for both kinds of requests. All paths here are `/`.
fn maps(rules: &[IngressRule]) -> (String, String) {
    let map = |kind: &str| {
        let mut text = String::new();
        for (index, rule) in rules.iter().enumerate() {
            let _ = writeln!(text, "{} {kind}{index}", rule.host);
        }
        text
    };
    (map("p"), map("f"))
}

/// `haproxy.cfg` of 2.6, as later ones read it too.
fn configuration(files: &Files<'_>, source: Ipv4Addr, rules: &[IngressRule]) -> String {
    let mut text = format!(
        "global\n    stats socket {} mode 600\n    nbthread 1\n\
         defaults\n    mode http\n    balance roundrobin\n    option forwardfor\n    http-reuse always\n    \
         timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n    \
         timeout http-keep-alive 10m\n",
        files.socket.display()
    );
    let (plain, marked) = (files.maps[0], files.maps[1]);
    for (name, map, port_of) in
        [("plain", plain, (|port| port) as fn(u16) -> u16), ("followed", marked, followed::port)]
    {
        let _ = writeln!(text, "frontend {name}\n    bind :{}", port_of(Ingress::PORT));
        if let Some(bundle) = files.bundle {
            let (port, bundle) = (port_of(Ingress::TLS_PORT), bundle.display());
            let _ = writeln!(text, "    bind :{port} ssl crt {bundle} alpn h2,http/1.1");
        }
        let _ = writeln!(
            text,
            "    use_backend %[req.hdr(host),field(1,:),lower,map_str({})]",
            map.display()
        );
    }
    for (kind, source) in [("p", None), ("f", Some(source))] {
        for (index, rule) in rules.iter().enumerate() {
            let _ = writeln!(text, "backend {kind}{index}");
            if let Some(source) = source {
                let _ = writeln!(text, "    source {source}");
            }
            for (nth, backend) in rule.backends.iter().enumerate() {
                let _ = writeln!(text, "    server s{nth} {backend}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_a_line_of_a_map_and_a_backend_for_either_kind_of_request() {
        let rules = [IngressRule {
            host: "web.default.example".to_owned(),
            path: "/".to_owned(),
            backends: vec!["10.96.0.100:80".parse().unwrap()],
        }];
        let (plain, marked) = (Path::new("/run/plain.map"), Path::new("/run/followed.map"));
        let files = Files {
            socket: Path::new("/run/stats"),
            maps: [plain, marked],
            bundle: Some(Path::new("/run/tls.pem")),
        };
        let text = configuration(&files, [10, 244, 0, 32].into(), &rules);
        let (plain, marked) = maps(&rules);
        insta::assert_snapshot!(format!("{text}---\n{plain}---\n{marked}"));
    }
}
