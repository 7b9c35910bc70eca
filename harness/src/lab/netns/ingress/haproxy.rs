// SPDX-License-Identifier: Apache-2.0
//! HAProxy as the ingress controller, in HTTP mode: hosts by a map, a backend for each rule.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use workloads::protocol::IngressRule;

use super::{Controller, Ingress, Tls, Versions};
use crate::lab::netns::hosts::Pod;
use crate::lab::netns::{NetnsError, followed, haproxy};
use crate::net::addresses::family;
use crate::net::{Cidr, NetError};
use crate::plan::IngressTls;

/// A running HAProxy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Haproxy {
    running: haproxy::Haproxy,
    /// What it counts as answered, a column of its statistics.
    answered: &'static str,
}

impl Haproxy {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        pod: &Pod,
        scratch: &Path,
        source: IpAddr,
        rules: &[IngressRule],
        versions: Versions,
        tls: Option<Tls<'_>>,
    ) -> Result<Self, NetnsError> {
        let folder = followed::folder("haproxy-", scratch)?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text)
                .map_err(NetError::os("write", "what HAProxy reads"))
                .map(|()| file)
        };
        let mut secured = None;
        if let Some(Tls { kind, certificates }) = tls {
            let backend = certificates.backend();
            secured = Some(Secured {
                kind,
                bundle: write("tls.pem", &certificates.bundle().0)?,
                authority: write("authority.pem", &backend.authority)?,
                name: backend.name,
            });
        }
        let (plain, marked) = maps(rules);
        let maps = [write("plain.map", &plain)?, write("followed.map", &marked)?];
        let socket = haproxy::socket(&folder);
        let files = Files { socket: &socket, maps: [&maps[0], &maps[1]], tls: secured.as_ref() };
        let text = configuration(&files, versions.backends_http2, source, rules);
        let running = haproxy::Haproxy::start(&pod.netns, &folder, &text);
        let passes_tls = tls.is_some_and(|tls| tls.kind == IngressTls::Passthrough);
        Ok(Self {
            running: running.map_err(NetnsError::Ingress)?,
            // It sees connections then, and no requests.
            answered: if passes_tls { "stot" } else { "hrsp_2xx" },
        })
    }
}

impl Controller for Haproxy {
    fn name(&self) -> &str {
        self.running.name()
    }

    fn answered(&mut self) -> Result<u64, NetnsError> {
        let answer = self.running.ask("show stat").map_err(NetnsError::Ingress)?;
        haproxy::sum(&answer, "BACKEND", self.answered)
            .ok_or_else(|| NetnsError::Ingress("HAProxy tells no responses".to_owned()))
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.running.down().map_err(NetError::os("end", "HAProxy"))?)
    }
}

/// What its configuration names.
struct Files<'a> {
    socket: &'a Path,
    /// Hosts to backends: of other requests, of followed ones.
    maps: [&'a Path; 2],
    tls: Option<&'a Secured>,
}

/// TLS, as its configuration names it.
struct Secured {
    kind: IngressTls,
    /// Certificate and key.
    bundle: PathBuf,
    /// Whom pods' certificates are to be signed by, and the name in them.
    authority: PathBuf,
    name: String,
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
fn configuration(
    files: &Files<'_>,
    backends_http2: bool,
    source: IpAddr,
    rules: &[IngressRule],
) -> String {
    let passes_tls = files.tls.is_some_and(|tls| tls.kind == IngressTls::Passthrough);
    let mode = match passes_tls {
        true => "mode tcp",
        false => {
            "mode http\n    option forwardfor\n    http-reuse always\n    \
             timeout http-keep-alive 10m"
        }
    };
    let mut text = format!(
        "global\n    stats socket {} mode 600\n    nbthread 1\n\
         defaults\n    {mode}\n    balance roundrobin\n    timeout connect 5s\n    \
         timeout client 10m\n    timeout server 10m\n",
        files.socket.display()
    );
    let (plain, marked) = (files.maps[0], files.maps[1]);
    let any = Cidr::any(family(source)).address;
    for (name, map, port_of) in
        [("plain", plain, (|port| port) as fn(u16) -> u16), ("followed", marked, followed::port)]
    {
        let (port, tls_port) = (port_of(Ingress::PORT), port_of(Ingress::TLS_PORT));
        let _ = writeln!(text, "frontend {name}");
        let host = match (passes_tls, files.tls) {
            (true, _) => {
                let _ = writeln!(
                    text,
                    "    bind {any}:{tls_port}\n    tcp-request inspect-delay 10s\n    \
                     tcp-request content accept if {{ req.ssl_hello_type 1 }}"
                );
                "req.ssl_sni"
            }
            (false, tls) => {
                // Of either version: in the clear it knows HTTP/2 by the client's preface.
                let _ = writeln!(text, "    bind {any}:{port}");
                if let Some(Secured { bundle, .. }) = tls {
                    let bundle = bundle.display();
                    let _ = writeln!(
                        text,
                        "    bind {any}:{tls_port} ssl crt {bundle} alpn h2,http/1.1"
                    );
                }
                "req.hdr(host),field(1,:)"
            }
        };
        let _ = writeln!(text, "    use_backend %[{host},lower,map_str({})]", map.display());
    }
    let again = files.tls.filter(|tls| tls.kind == IngressTls::Reencrypt);
    let by = match again {
        Some(Secured { authority, name, .. }) => {
            let version = if backends_http2 { "h2" } else { "http/1.1" };
            let authority = authority.display();
            format!(" ssl verify required ca-file {authority} sni str({name}) alpn {version}")
        }
        None if backends_http2 && !passes_tls => " proto h2".to_owned(),
        None => String::new(),
    };
    for (kind, source) in [("p", None), ("f", Some(source))] {
        for (index, rule) in rules.iter().enumerate() {
            let _ = writeln!(text, "backend {kind}{index}");
            if let Some(source) = source {
                let _ = writeln!(text, "    source {}", haproxy::source(source));
            }
            for (nth, backend) in rule.backends.iter().enumerate() {
                let _ = writeln!(text, "    server s{nth} {backend}{by}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> [IngressRule; 1] {
        [IngressRule {
            host: "web.default.example".to_owned(),
            path: "/".to_owned(),
            backends: vec!["10.96.0.100:80".parse().unwrap()],
        }]
    }

    fn written(kind: IngressTls, backends_http2: bool) -> String {
        let (plain, marked) = (Path::new("/run/plain.map"), Path::new("/run/followed.map"));
        let secured = Secured {
            kind,
            bundle: "/run/tls.pem".into(),
            authority: "/run/ca.pem".into(),
            name: "web.default.svc".to_owned(),
        };
        let socket = Path::new("/run/stats");
        let files = Files { socket, maps: [plain, marked], tls: Some(&secured) };
        configuration(&files, backends_http2, [10, 244, 0, 32].into(), &rules())
    }

    fn of(kind: IngressTls) -> String {
        written(kind, false)
    }

    #[test]
    fn each_rule_is_a_line_of_a_map_and_a_backend_for_either_kind_of_request() {
        let (plain, marked) = maps(&rules());
        insta::assert_snapshot!(format!("{}---\n{plain}---\n{marked}", of(IngressTls::Edge)));
    }

    #[test]
    fn pods_are_asked_by_tls_again_and_their_certificates_are_looked_at() {
        let (edge, again) = (of(IngressTls::Edge), of(IngressTls::Reencrypt));
        let new: Vec<_> =
            again.lines().filter(|line| !edge.lines().any(|other| other == *line)).collect();
        insta::assert_snapshot!(new.join("\n"));
    }

    #[test]
    fn pods_are_asked_over_http2_where_that_is_wanted() {
        let servers = |kind| -> Vec<String> {
            let text = written(kind, true);
            let servers = text.lines().filter(|line| line.trim_start().starts_with("server "));
            servers.map(str::to_owned).collect()
        };
        let (edge, again) = (servers(IngressTls::Edge), servers(IngressTls::Reencrypt));
        insta::assert_snapshot!([edge, again].concat().join("\n"));
        let passed = servers(IngressTls::Passthrough);
        assert!(
            passed.iter().all(|server| !server.contains("h2")),
            "bytes are nobody's: {passed:?}"
        );
    }

    #[test]
    fn tls_that_is_passed_through_is_led_by_the_name_that_is_asked_for() {
        insta::assert_snapshot!(of(IngressTls::Passthrough));
    }
}
