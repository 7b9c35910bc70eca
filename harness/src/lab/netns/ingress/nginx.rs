// SPDX-License-Identifier: Apache-2.0
//! nginx as the ingress controller: a server for each host, an upstream with kept connections for each rule,
//! as ingress-nginx configures it.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use workloads::protocol::IngressRule;

use super::{Controller, Followed, Ingress};
use crate::certificates::Certificates;
use crate::lab::netns::NetnsError;
use crate::lab::netns::hosts::Pod;
use crate::net::daemon::Daemon;
use crate::net::{NetError, Netns, Tool, ToolError};

/// The program.
const PROGRAM: &str = "nginx";
/// How long it may take to listen, and to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for meanwhile.
const GLANCE: Duration = Duration::from_millis(5);
/// Most that is read of its status, bytes.
const STATUS_BYTES: u64 = 64 * 1024;

/// A running nginx. Ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    name: String,
    daemon: Daemon,
    socket: PathBuf,
    /// Questions for its status so far, which it counts as requests.
    asked: u64,
}

/// What `nginx -v` says.
///
/// # Errors
/// There is no such program, or it does not run.
pub(super) fn version(host: &Netns) -> Result<String, ToolError> {
    // On standard error, which a tool keeps for its failure: `-V` would be no better.
    Tool::new("sh").args(["-c", "nginx -v 2>&1"]).run_on(host).map(|said| said.trim().to_owned())
}

impl Nginx {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        pod: &Pod,
        scratch: &Path,
        followed: &Followed,
        rules: &[IngressRule],
        certificates: Option<&Certificates>,
    ) -> Result<Self, NetnsError> {
        let said = version(&pod.netns).map_err(|error| NetnsError::Ingress(error.to_string()))?;
        // `nginx version: nginx/1.22.1`
        let name = said.rsplit(' ').next().unwrap_or(PROGRAM).to_owned();
        let folder = super::followed::folder("nginx-", scratch)?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text)
                .map_err(NetError::os("write", "what nginx reads"))
                .map(|()| file)
        };
        let bundle = match certificates {
            Some(certificates) => Some(write("tls.pem", &certificates.bundle().0)?),
            None => None,
        };
        let text = configuration(&folder, bundle.as_deref(), followed.source, rules);
        let file = write("nginx.conf", &text)?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&file).arg("-p").arg(&folder).arg("-e").arg("stderr");
        let daemon = Daemon::start(&pod.netns, command, &folder)
            .map_err(|error| NetnsError::Ingress(error.to_string()))?;
        let mut made = Self { name, daemon, socket: folder.join("status"), asked: 0 };
        made.await_readiness()?;
        Ok(made)
    }

    /// It answers at its socket when it listens at its ports: it opens all before it serves any.
    fn await_readiness(&mut self) -> Result<(), NetnsError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.daemon.ended().map_err(NetError::os("wait for", PROGRAM))? {
                let log = self.daemon.log();
                return Err(NetnsError::Ingress(format!("nginx ended, {status}: {log}")));
            }
            match self.requests() {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < deadline => std::thread::sleep(GLANCE),
                Err(error) => return Err(NetError::os("ask", PROGRAM)(error).into()),
            }
        }
    }

    /// Requests that it was sent since its start, but for those for its status
    /// (`ngx_http_stub_status_module`).
    fn requests(&mut self) -> std::io::Result<u64> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: status\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(STATUS_BYTES).read_to_string(&mut answer)?;
        self.asked += 1;
        let all = requests(&answer)
            .ok_or_else(|| std::io::Error::other(format!("it answered {answer:?}")))?;
        Ok(all.saturating_sub(self.asked))
    }
}

/// The third number of the line behind the one that names them.
fn requests(status: &str) -> Option<u64> {
    let mut lines = status.lines().skip_while(|line| !line.starts_with("server accepts handled"));
    lines.nth(1)?.split_whitespace().nth(2)?.parse().ok()
}

impl Controller for Nginx {
    fn name(&self) -> &str {
        &self.name
    }

    fn answered(&mut self) -> Result<u64, NetnsError> {
        Ok(self.requests().map_err(NetError::os("ask", PROGRAM))?)
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.daemon.down().map_err(NetError::os("end", PROGRAM))?)
    }
}

/// `nginx.conf` of 1.22, as later ones read it too. One process, as the lab's other programs are one thread.
fn configuration(
    folder: &Path,
    bundle: Option<&Path>,
    source: Ipv4Addr,
    rules: &[IngressRule],
) -> String {
    let at = folder.display();
    let tables = (2 * rules.len()).next_power_of_two().max(512);
    let mut text = format!(
        "daemon off;\nmaster_process off;\nworker_rlimit_nofile 65536;\npid {at}/pid;\n\
         events {{ worker_connections 16384; }}\nhttp {{\n\
         access_log off;\nserver_tokens off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 600s;\n\
         client_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\nfastcgi_temp_path {at}/fastcgi;\n\
         uwsgi_temp_path {at}/uwsgi;\nscgi_temp_path {at}/scgi;\nclient_max_body_size 0;\n\
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
    let _ = write!(text, "server {{ listen unix:{at}/status; location / {{ stub_status; }} }}\n");
    for (kind, port_of) in
        [("p", (|port| port) as fn(u16) -> u16), ("f", Followed::port as fn(u16) -> u16)]
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

    #[test]
    fn requests_are_the_third_number_of_its_status() {
        let status = "HTTP/1.1 200 OK\r\n\r\nActive connections: 1 \n\
                      server accepts handled requests\n 7 7 31 \nReading: 0 Writing: 1 Waiting: 0 \n";
        assert_eq!(requests(status), Some(31));
        assert_eq!(requests("server accepts handled requests\n"), None);
        assert_eq!(requests(""), None);
    }
}
