// SPDX-License-Identifier: Apache-2.0
//! nginx, running on a host: what its uses have in common. Errors are sentences, for the caller's own kind of
//! error.

use std::path::Path;
use std::process::Command;

use super::answering::Answering;
use crate::Unavailable;
use crate::net::{Netns, Tool, ToolError};

/// The program.
const PROGRAM: &str = "nginx";
/// The question for its status.
const STATUS: &str = "GET / HTTP/1.0\r\nHost: status\r\n\r\n";

/// Where Debian, Ubuntu and Fedora have the stream module.
const STREAM_MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

/// What it has counted since its start, but for the questions for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Connections that it took, those of its stream module included.
    pub(super) connections: u64,
    /// Requests that it was sent.
    pub(super) requests: u64,
}

/// A running nginx. Ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    name: String,
    running: Answering,
}

/// What `nginx -V` says: its version, and how it was built.
///
/// # Errors
/// There is no such program, or it does not run.
pub(super) fn version(host: &Netns) -> Result<String, ToolError> {
    // On standard error, which a tool keeps for its failure.
    Tool::new("sh").args(["-c", "nginx -V 2>&1"]).run_on(host)
}

/// Whether the machine has the program, and the program streams.
///
/// # Errors
/// What is missing.
pub(super) fn check_stream(scratch: &Netns) -> Result<(), Unavailable> {
    let missing = |what: &str, found: String| {
        Unavailable::new(what, found, "apt-get install nginx libnginx-mod-stream")
    };
    let said = version(scratch).map_err(|error| missing("program nginx", error.to_string()))?;
    match stream_module() {
        Some(_) => Ok(()),
        None if said.contains("--with-stream ") => Ok(()),
        None => Err(missing("program nginx with its stream module", "it has none".to_owned())),
    }
}

/// Where the stream module is, where it is not compiled in.
pub(super) fn stream_module() -> Option<&'static str> {
    STREAM_MODULES.into_iter().find(|module| Path::new(module).exists())
}

/// What every configuration begins with: one process, as the lab's other programs are one thread, that stays
/// with whoever started it, and its status at a socket.
pub(super) fn main(folder: &Path) -> String {
    let at = folder.display();
    format!(
        "daemon off;\nmaster_process off;\nworker_rlimit_nofile 65536;\npid {at}/pid;\n\
         events {{ worker_connections 16384; }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\nfastcgi_temp_path {at}/fastcgi;\n\
         uwsgi_temp_path {at}/uwsgi;\nscgi_temp_path {at}/scgi;\n\
         server {{ listen unix:{at}/status; location / {{ stub_status; }} }}\n}}\n"
    )
}

impl Nginx {
    /// Starts it with a configuration that begins with [`main`]; its files are in `folder`, which is to be its
    /// own.
    pub(super) fn start(host: &Netns, folder: &Path, configuration: &str) -> Result<Self, String> {
        let said = version(host).map_err(|error| error.to_string())?;
        // `nginx version: nginx/1.22.1`
        let line = said.lines().next().unwrap_or_default();
        let name = line.rsplit(' ').next().unwrap_or(PROGRAM).to_owned();
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration)
            .map_err(|error| format!("failed to write nginx's configuration: {error}"))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&file).arg("-p").arg(folder).arg("-e").arg("stderr");
        let places = (folder, folder.join("status"));
        let ready = (STATUS, |answer: &str| counts(answer).is_some());
        let running = Answering::start("nginx", host, command, places, ready)?;
        Ok(Self { name, running })
    }

    /// Its name and version.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it has counted (`ngx_http_stub_status_module`).
    pub(super) fn counts(&mut self) -> Result<Counts, String> {
        let answer = self.running.ask(STATUS)?;
        let all = counts(&answer).ok_or_else(|| format!("nginx answered {answer:?}"))?;
        // Each question is a connection and a request.
        Ok(Counts {
            connections: all.connections.saturating_sub(self.running.answers()),
            requests: all.requests.saturating_sub(self.running.answers()),
        })
    }

    /// Ends it.
    pub(super) fn down(self) -> std::io::Result<()> {
        self.running.down()
    }
}

/// The first and the third number of the line behind the one that names them.
fn counts(status: &str) -> Option<Counts> {
    let mut lines = status.lines().skip_while(|line| !line.starts_with("server accepts handled"));
    let mut numbers = lines.nth(1)?.split_whitespace().map(str::parse);
    let connections = numbers.next()?.ok()?;
    Some(Counts { connections, requests: numbers.nth(1)?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_requests_are_in_its_status() {
        let status = "HTTP/1.1 200 OK\r\n\r\nActive connections: 1 \n\
                      server accepts handled requests\n 7 7 31 \nReading: 0 Writing: 1 Waiting: 0 \n";
        assert_eq!(counts(status), Some(Counts { connections: 7, requests: 31 }));
        assert_eq!(counts("server accepts handled requests\n 7 7\n"), None);
        assert_eq!(counts(""), None);
    }
}
