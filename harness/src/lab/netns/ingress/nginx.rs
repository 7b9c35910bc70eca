// SPDX-License-Identifier: Apache-2.0
//! nginx as the ingress controller: a server for each host, an upstream with kept connections for each rule,
//! as ingress-nginx configures it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use workloads::protocol::IngressRule;

use super::{Controller, Ingress};
use crate::certificates::Certificates;
use crate::lab::netns::hosts::Pod;
use crate::lab::netns::{NetnsError, followed, nginx};
use crate::net::NetError;

/// A running nginx. Ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx(nginx::Nginx);

impl Nginx {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        pod: &Pod,
        scratch: &Path,
        source: Ipv4Addr,
        rules: &[IngressRule],
        certificates: Option<&Certificates>,
    ) -> Result<Self, NetnsError> {
        let folder = followed::folder("nginx-", scratch)?;
        let bundle = certificates.map(|certificates| {
            let file = folder.join("tls.pem");
            std::fs::write(&file, certificates.bundle().0)
                .map_err(NetError::os("write", "what nginx reads"))
                .map(|()| file)
        });
        let bundle = bundle.transpose()?;
        let text = configuration(&folder, bundle.as_deref(), source, rules);
        let running = nginx::Nginx::start(&pod.netns, &folder, &text);
        Ok(Self(running.map_err(NetnsError::Ingress)?))
    }
}

impl Controller for Nginx {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn answered(&mut self) -> Result<u64, NetnsError> {
        self.0.requests().map_err(NetnsError::Ingress)
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.0.down().map_err(NetError::os("end", "nginx"))?)
    }
}

/// `nginx.conf` of 1.22, as later ones read it too.
fn configuration(
    folder: &Path,
    bundle: Option<&Path>,
    source: Ipv4Addr,
    rules: &[IngressRule],
) -> String {
    let tables = (2 * rules.len()).next_power_of_two().max(512);
    // In the block of http that the status is in.
    let mut text = nginx::main(folder);
    text.truncate(text.trim_end().len() - 1);
    let _ = write!(
        text,
        "server_tokens off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 600s;\n\
         client_max_body_size 0;\n\
         server_names_hash_max_size {tables};\nserver_names_hash_bucket_size 128;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n"
    );
    if let Some(bundle) = bundle {
        let bundle = bundle.display();
        let _ = write!(
            text,
            "ssl_certificate {bundle};\nssl_certificate_key {bundle};\n\
             ssl_protocols TLSv1.2 TLSv1.3;\nssl_session_tickets on;\n"
        );
    }
    for (kind, port_of) in
        [("p", (|port| port) as fn(u16) -> u16), ("f", followed::port as fn(u16) -> u16)]
    {
        let mut listen = format!("listen {}", port_of(Ingress::PORT));
        let mut listen_tls = String::new();
        if bundle.is_some() {
            listen_tls = format!(" listen {} ssl http2", port_of(Ingress::TLS_PORT));
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
            let bind = if kind == "f" { format!(" proxy_bind {source};") } else { String::new() };
            let _ = writeln!(
                text,
                "server {{ {listen}{listen_tls} server_name {host}; location {path} {{ \
                 proxy_pass http://{kind}{index};{bind} }} }}"
            );
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_a_server_and_an_upstream_for_either_kind_of_request() {
        let rules = [IngressRule {
            host: "web.default.example".to_owned(),
            path: "/".to_owned(),
            backends: vec!["10.96.0.100:80".parse().unwrap()],
        }];
        let bundle = Some(Path::new("/run/nginx/tls.pem"));
        let folder = Path::new("/run/nginx");
        insta::assert_snapshot!(configuration(folder, bundle, [10, 244, 0, 32].into(), &rules));
    }
}
