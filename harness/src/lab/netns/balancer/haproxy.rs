// SPDX-License-Identifier: Apache-2.0
//! HAProxy as the load balancer, in TCP mode.
//!
//! Which connections are followed is said by their type-of-service byte, which HAProxy does not hand on.
//! So it listens at two ports: a rule of the host's leads marked connections to the second, which
//! connects from an address of its own, and another rule marks what leaves from there. For these alone
//! it writes down which two connections belong together. Both ports are alike otherwise.

use std::io::{Read, Write};
use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use workloads::protocol::SAMPLE_TOS;

use super::log::Log;
use super::{PORT, Running};
use crate::lab::netns::NetnsError;
use crate::net::addresses::LOAD_BALANCER_FOLLOWED;
use crate::net::daemon::Daemon;
use crate::net::{NetError, Netns, Tool};
use crate::relay::Relay;

/// The program.
const PROGRAM: &str = "haproxy";
/// Port of connections that are followed.
const FOLLOWED_PORT: u16 = PORT + 1;
/// How long it may take to listen, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for meanwhile.
const GLANCE: Duration = Duration::from_millis(5);
/// Most that is read of an answer, bytes: a line for each node and port.
const ANSWER_BYTES: u64 = 1 << 20;

/// A running HAProxy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Haproxy {
    name: String,
    daemon: Daemon,
    log: Log,
    socket: PathBuf,
    backends: Vec<SocketAddrV4>,
}

/// First line of `haproxy -v`.
///
/// # Errors
/// There is no such program, or it does not run.
pub(super) fn version(host: &Netns) -> Result<String, crate::net::ToolError> {
    let said = Tool::new(PROGRAM).args(["-v"]).run_on(host)?;
    let line = said.lines().next().unwrap_or(PROGRAM);
    // `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`
    Ok(line.split(" - ").next().unwrap_or(line).to_owned())
}

impl Haproxy {
    /// Starts it; its files are in `scratch`.
    pub(super) fn start(
        host: &Netns,
        scratch: &Path,
        backends: &[SocketAddrV4],
    ) -> Result<Self, NetnsError> {
        let failed = |what: String| NetnsError::Balancer(what);
        let name = version(host).map_err(|error| failed(error.to_string()))?;
        let folder = tempfile::Builder::new()
            .prefix("haproxy-")
            .tempdir_in(scratch)
            .map_err(NetError::os("create", "a folder for HAProxy"))?
            .keep();
        let log = Log::listen(host, folder.join("log"))?;
        let (file, socket) = (folder.join("haproxy.cfg"), folder.join("stats"));
        std::fs::write(&file, configuration(log.path(), &socket, backends))
            .map_err(NetError::os("write", "HAProxy's configuration"))?;
        Tool::new("nft")
            .args(["-f", "-"])
            .stdin(rules())
            .run_on(host)
            .map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-db").arg("-f").arg(&file);
        let daemon =
            Daemon::start(host, command, &folder).map_err(|error| failed(error.to_string()))?;
        let mut made = Self { name, daemon, log, socket, backends: backends.to_vec() };
        made.await_readiness()?;
        Ok(made)
    }

    /// It answers at its socket when it listens at its ports: it opens all before it serves any.
    fn await_readiness(&mut self) -> Result<(), NetnsError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.daemon.ended().map_err(NetError::os("wait for", PROGRAM))?;
            if let Some(status) = ended {
                let said = self.daemon.log();
                return Err(NetnsError::Balancer(format!("HAProxy ended, {status}: {said}")));
            }
            match self.ask("show info") {
                Ok(answer) if answer.contains("Uptime_sec") => return Ok(()),
                Ok(_) | Err(_) if Instant::now() < deadline => std::thread::sleep(GLANCE),
                Ok(answer) => {
                    return Err(NetnsError::Balancer(format!("HAProxy answered {answer:?}")));
                }
                Err(error) => return Err(NetError::os("ask", PROGRAM)(error).into()),
            }
        }
    }

    fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Running for Haproxy {
    fn name(&self) -> &str {
        &self.name
    }

    fn carried(&mut self) -> Result<Vec<(SocketAddrV4, u64)>, NetnsError> {
        let answer = self.ask("show stat").map_err(NetError::os("ask", PROGRAM))?;
        let of = |index: usize| sessions(&answer, &server(index));
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

    fn take_relays(&mut self) -> Result<Vec<Relay>, NetnsError> {
        self.log.take()
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        self.daemon.down().map_err(NetError::os("end", PROGRAM))?;
        Ok(())
    }
}

fn server(index: usize) -> String {
    format!("s{index}")
}

/// Both ports and their rules. `haproxy.cfg` of 2.6, as later ones read it too. How many connections it
/// takes at a time is for it to find out, from the descriptors that it may have.
fn configuration(log: &Path, socket: &Path, backends: &[SocketAddrV4]) -> String {
    let servers: String = (0..)
        .zip(backends)
        .map(|(index, backend)| format!("    server {} {backend}\n", server(index)))
        .collect();
    let (log, socket) = (log.display(), socket.display());
    format!(
        "global\n    stats socket {socket} mode 600\n\
         defaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\
         frontend plain\n    bind :{PORT}\n    default_backend plain\n\
         backend plain\n{servers}\
         frontend followed\n    bind :{FOLLOWED_PORT}\n    \
         log {log} len 512 format raw local0 info\n    option logasap\n    \
         log-format \"%ci:%cp %bi:%bp %si:%sp\"\n    default_backend followed\n\
         backend followed\n    source {LOAD_BALANCER_FOLLOWED}\n{servers}"
    )
}

/// Leads what is marked to the second port, and marks what leaves from there.
fn rules() -> String {
    let dscp = SAMPLE_TOS >> 2;
    format!(
        "table ip balancer {{\n\
         chain in {{ type nat hook prerouting priority dstnat; tcp dport {PORT} ip dscp {dscp} \
         redirect to :{FOLLOWED_PORT}; }}\n\
         chain out {{ type filter hook output priority mangle; ip saddr {LOAD_BALANCER_FOLLOWED} \
         ip dscp set {dscp}; }}\n}}\n"
    )
}

/// Sessions that a server has had, at both ports, as `show stat` tells them: a line of names and one for
/// each, separated by commas.
fn sessions(answer: &str, server: &str) -> Option<u64> {
    let mut lines = answer.lines();
    let names: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let column = |name| names.iter().position(|&column| column == name);
    let (of_server, count) = (column("svname")?, column("stot")?);
    let of_it = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let counts: Vec<u64> = of_it
        .filter(|fields| fields.get(of_server) == Some(&server))
        .filter_map(|fields| fields.get(count)?.parse().ok())
        .collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_a_server_are_those_of_both_ports() {
        let answer = "# pxname,svname,qcur,stot,\nplain,FRONTEND,,9,\nplain,s0,0,4,\nplain,s1,0,5,\n\
                      followed,s0,0,2,\nfollowed,s1,0,,\n";
        assert_eq!(sessions(answer, "s0"), Some(6));
        assert_eq!(sessions(answer, "s1"), Some(5));
        assert_eq!(sessions(answer, "s2"), None);
        assert_eq!(sessions("", "s0"), None);
        assert_eq!(sessions("# pxname,svname\nplain,s0\n", "s0"), None);
    }

    #[test]
    fn the_two_ports_differ_in_the_log_and_in_where_they_connect_from() {
        let backends: Vec<SocketAddrV4> = ["10.9.0.11:30080", "10.9.0.13:30080"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let text = configuration(Path::new("/run/log"), Path::new("/run/stats"), &backends);
        insta::assert_snapshot!(format!("{text}\n{}", rules()));
    }
}
