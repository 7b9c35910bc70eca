// SPDX-License-Identifier: Apache-2.0
//! nginx as the ingress controller: a server for each host, an upstream with kept connections for each rule,
//! as ingress-nginx configures it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use workloads::protocol::IngressRule;

use super::{Controller, Ingress, Tls, Versions};
use crate::lab::netns::hosts::Pod;
use crate::lab::netns::{NetnsError, followed, nginx};
use crate::net::addresses::family;
use crate::net::{Cidr, NetError};
use crate::plan::IngressTls;

/// A running nginx. Ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    running: nginx::Nginx,
    /// Whether it answers no requests itself.
    passes_tls: bool,
}

/// TLS, as its configuration names it.
struct Secured<'a> {
    kind: IngressTls,
    /// Certificate and key.
    bundle: &'a Path,
    /// Whom pods' certificates are to be signed by, and the name in them.
    authority: &'a Path,
    name: &'a str,
}

impl Nginx {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        pod: &Pod,
        scratch: &Path,
        source: IpAddr,
        rules: &[IngressRule],
        versions: Versions,
        tls: Option<Tls<'_>>,
    ) -> Result<Self, NetnsError> {
        let folder = followed::folder("nginx-", scratch)?;
        let (bundle, authority) = (folder.join("tls.pem"), folder.join("authority.pem"));
        let mut name = String::new();
        if let Some(Tls { certificates, .. }) = tls {
            let backend = certificates.backend();
            std::fs::write(&bundle, certificates.bundle().0)
                .and_then(|()| std::fs::write(&authority, backend.authority))
                .map_err(NetError::os("write", "what nginx reads"))?;
            name = backend.name;
        }
        let secured = tls.map(|Tls { kind, .. }| Secured {
            kind,
            bundle: &bundle,
            authority: &authority,
            name: &name,
        });
        let passes_tls = tls.is_some_and(|tls| tls.kind == IngressTls::Passthrough);
        let text = match passes_tls {
            true => passthrough(&folder, nginx::stream_module(), source, rules),
            false => configuration(&folder, secured.as_ref(), versions, source, rules),
        };
        let running = nginx::Nginx::start(&pod.netns, &folder, &text);
        Ok(Self { running: running.map_err(NetnsError::Ingress)?, passes_tls })
    }
}

impl Controller for Nginx {
    fn name(&self) -> &str {
        self.running.name()
    }

    fn answered(&mut self) -> Result<u64, NetnsError> {
        let counts = self.running.counts().map_err(NetnsError::Ingress)?;
        Ok(if self.passes_tls { counts.connections } else { counts.requests })
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.running.down().map_err(NetError::os("end", "nginx"))?)
    }
}

/// The two kinds of requests, those of others and followed ones: the first letter of their upstreams, and the
/// port for them.
const KINDS: [(&str, PortOf); 2] = [("p", |port| port), ("f", followed::port)];

/// From the port of others to the port of a kind.
type PortOf = fn(u16) -> u16;

/// Where it listens for a port: at all addresses of the family that it connects from.
fn at(source: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(Cidr::any(family(source)).address, port)
}

/// Has followed connections come from an address of their own.
fn bind(by: &str, kind: &str, source: IpAddr) -> String {
    if kind == "f" { format!(" {by}_bind {source};") } else { String::new() }
}

/// `nginx.conf` where TLS is passed through: the stream module, a map from the name asked for to an
/// upstream.
fn passthrough(
    folder: &Path,
    module: Option<&str>,
    source: IpAddr,
    rules: &[IngressRule],
) -> String {
    let load = module.map(|file| format!("load_module {file};\n")).unwrap_or_default();
    let tables = (2 * rules.len()).next_power_of_two().max(512);
    let mut text = format!(
        "{load}{}stream {{\nproxy_timeout 10m;\nmap_hash_max_size {tables};\n\
         map_hash_bucket_size 128;\n",
        nginx::main(folder)
    );
    for (kind, port_of) in KINDS {
        let mut map = format!("map $ssl_preread_server_name $upstream_{kind} {{\n");
        for (index, IngressRule { host, backends, .. }) in rules.iter().enumerate() {
            let servers: Vec<_> =
                backends.iter().map(|backend| format!("server {backend};")).collect();
            let _ = writeln!(text, "upstream {kind}{index} {{ {} }}", servers.join(" "));
            let _ = writeln!(map, "{host} {kind}{index};");
        }
        let (at, bind) = (at(source, port_of(Ingress::TLS_PORT)), bind("proxy", kind, source));
        let _ = writeln!(
            text,
            "{map}}}\nserver {{ listen {at} backlog=4096; ssl_preread on; \
             proxy_pass $upstream_{kind};{bind} }}"
        );
    }
    text.push_str("}\n");
    text
}

/// `nginx.conf` of 1.22, as later ones read it too.
fn configuration(
    folder: &Path,
    secured: Option<&Secured<'_>>,
    Versions { clear_http2, backends_http2 }: Versions,
    source: IpAddr,
    rules: &[IngressRule],
) -> String {
    // Its module for gRPC is the one that asks over HTTP/2, and has settings of its own.
    let by = if backends_http2 { "grpc" } else { "proxy" };
    let tables = (2 * rules.len()).next_power_of_two().max(512);
    // In the block of http that the status is in.
    let mut text = nginx::main(folder);
    text.truncate(text.trim_end().len() - 1);
    let _ = write!(
        text,
        "server_tokens off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 600s;\n\
         client_max_body_size 0;\n\
         server_names_hash_max_size {tables};\nserver_names_hash_bucket_size 128;\n"
    );
    if !backends_http2 {
        text.push_str(
            "map $http_upgrade $connection_upgrade { \"\" \"\"; default upgrade; }\n\
             proxy_http_version 1.1;\nproxy_set_header Connection $connection_upgrade;\n\
             proxy_set_header Upgrade $http_upgrade;\n",
        );
    }
    let _ = write!(
        text,
        "{by}_read_timeout 600s;\n{by}_set_header Host $host;\n\
         {by}_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         {by}_set_header X-Forwarded-Proto $scheme;\n"
    );
    let mut scheme = if backends_http2 { "grpc" } else { "http" };
    if let Some(Secured { kind, bundle, authority, name }) = secured {
        let bundle = bundle.display();
        if kind.reaches_pods() {
            scheme = if backends_http2 { "grpcs" } else { "https" };
            let _ = write!(
                text,
                "{by}_ssl_protocols TLSv1.2 TLSv1.3;\n{by}_ssl_verify on;\n\
                 {by}_ssl_trusted_certificate {};\n{by}_ssl_name {name};\n\
                 {by}_ssl_server_name on;\n",
                authority.display()
            );
        }
        let _ = write!(
            text,
            "ssl_certificate {bundle};\nssl_certificate_key {bundle};\n\
             ssl_protocols TLSv1.2 TLSv1.3;\nssl_session_tickets on;\n"
        );
    }
    for (kind, port_of) in KINDS {
        // In the clear a port of it has one version: this one does not know HTTP/2 by its preface.
        let version = if clear_http2 { " http2" } else { "" };
        let mut listen = format!("listen {}{version}", at(source, port_of(Ingress::PORT)));
        let mut listen_tls = String::new();
        if secured.is_some() {
            listen_tls = format!(" listen {} ssl http2", at(source, port_of(Ingress::TLS_PORT)));
        }
        // The first server of a port has its settings, and whoever asks for a host of no rule.
        let _ = write!(text, "server {{ {listen} default_server backlog=4096;");
        if !listen_tls.is_empty() {
            let _ = write!(text, "{listen_tls} default_server backlog=4096;");
        }
        let _ = writeln!(text, " return 404; }}");
        listen.push(';');
        if !listen_tls.is_empty() {
            listen_tls.push(';');
        }
        for (index, IngressRule { host, path, backends }) in rules.iter().enumerate() {
            let servers: Vec<_> =
                backends.iter().map(|backend| format!("server {backend};")).collect();
            let _ = writeln!(
                text,
                "upstream {kind}{index} {{ {} keepalive 320; keepalive_requests 1000000000; \
                 keepalive_timeout 600s; }}",
                servers.join(" ")
            );
            let bind = bind(by, kind, source);
            let _ = writeln!(
                text,
                "server {{ {listen}{listen_tls} server_name {host}; location {path} {{ \
                 {by}_pass {scheme}://{kind}{index};{bind} }} }}"
            );
        }
    }
    text.push_str("}\n");
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

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 32));

    fn written(kind: IngressTls, versions: Versions) -> String {
        let (bundle, authority) = (Path::new("/run/nginx/tls.pem"), Path::new("/run/nginx/ca.pem"));
        let secured = Secured { kind, bundle, authority, name: "web.default.svc" };
        configuration(Path::new("/run/nginx"), Some(&secured), versions, SOURCE, &rules())
    }

    fn of(kind: IngressTls) -> String {
        written(kind, Versions::default())
    }

    #[test]
    fn each_rule_is_a_server_and_an_upstream_for_either_kind_of_request() {
        insta::assert_snapshot!(of(IngressTls::Edge));
    }

    #[test]
    fn pods_are_asked_by_tls_again_and_their_certificates_are_looked_at() {
        let (edge, again) = (of(IngressTls::Edge), of(IngressTls::Reencrypt));
        let new: Vec<_> =
            again.lines().filter(|line| !edge.lines().any(|other| other == *line)).collect();
        insta::assert_snapshot!(new.join("\n"));
    }

    #[test]
    fn http2_has_ports_in_the_clear_of_its_own_and_calls_are_passed_on_over_it() {
        let clear = Versions { clear_http2: true, ..Versions::default() };
        let calls = Versions { backends_http2: true, ..clear };
        let text = written(IngressTls::Reencrypt, calls);
        insta::assert_snapshot!(text);
        let before = of(IngressTls::Edge);
        let ports = |text: &str| text.matches(":8081 http2").count();
        assert_eq!((ports(&before), ports(&written(IngressTls::Edge, clear))), (0, 2));
    }

    #[test]
    fn tls_that_is_passed_through_is_led_by_the_name_that_is_asked_for() {
        let module = Some("/usr/lib/nginx/modules/ngx_stream_module.so");
        insta::assert_snapshot!(passthrough(Path::new("/run/nginx"), module, SOURCE, &rules()));
    }
}
