// SPDX-License-Identifier: Apache-2.0
//! HAProxy, running on a host: what its uses have in common. Errors are sentences, for the caller's own
//! kind of error.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::answering::Answering;
use crate::net::{Netns, Tool, ToolError};

/// The program.
const PROGRAM: &str = "haproxy";

/// A running HAProxy. Ends when dropped.
#[derive(Debug)]
pub(super) struct Haproxy {
    name: String,
    running: Answering,
}

/// First line of `haproxy -v`.
///
/// # Errors
/// There is no such program, or it does not run.
pub(super) fn version(host: &Netns) -> Result<String, ToolError> {
    let said = Tool::new(PROGRAM).args(["-v"]).run_on(host)?;
    let line = said.lines().next().unwrap_or(PROGRAM);
    // `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`
    Ok(line.split(" - ").next().unwrap_or(line).to_owned())
}

/// An address that it connects from, as its configuration has it: of IPv6, what stands behind the last colon
/// would be a port.
pub(super) fn source(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Its socket for questions in a folder; a configuration names it.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("stats")
}

impl Haproxy {
    /// Starts it with a configuration; its files are in `folder`, which is to be its own.
    pub(super) fn start(host: &Netns, folder: &Path, configuration: &str) -> Result<Self, String> {
        let name = version(host).map_err(|error| error.to_string())?;
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, configuration)
            .map_err(|error| format!("failed to write HAProxy's configuration: {error}"))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-db").arg("-f").arg(&file);
        let ready = ("show info\n", |answer: &str| answer.contains("Uptime_sec"));
        let running = Answering::start("HAProxy", host, command, (folder, socket(folder)), ready)?;
        Ok(Self { name, running })
    }

    /// Its name and version.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks it at its socket.
    pub(super) fn ask(&mut self, command: &str) -> Result<String, String> {
        self.running.ask(&format!("{command}\n"))
    }

    /// Ends it.
    pub(super) fn down(self) -> std::io::Result<()> {
        self.running.down()
    }
}

/// Sum of a column over the lines of `show stat` that are of a server or section, as `svname` has it: a
/// line of names and one for each, separated by commas. `None` where no line has it.
pub(super) fn sum(answer: &str, svname: &str, column: &str) -> Option<u64> {
    let mut lines = answer.lines();
    let names: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let place = |name| names.iter().position(|&column| column == name);
    let (of, count) = (place("svname")?, place(column)?);
    let counts: Vec<u64> = lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|fields| fields.get(of) == Some(&svname))
        .filter_map(|fields| fields.get(count)?.parse().ok())
        .collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_summed_over_the_lines_of_a_server() {
        let answer = "# pxname,svname,qcur,stot,\nplain,FRONTEND,,9,\nplain,s0,0,4,\nplain,s1,0,5,\n\
                      followed,s0,0,2,\nfollowed,s1,0,,\n";
        assert_eq!(sum(answer, "s0", "stot"), Some(6));
        assert_eq!(sum(answer, "s1", "stot"), Some(5));
        assert_eq!(sum(answer, "s2", "stot"), None);
        assert_eq!(sum(answer, "s0", "hrsp"), None);
        assert_eq!(sum("", "s0", "stot"), None);
        assert_eq!(sum("# pxname,svname\nplain,s0\n", "s0", "stot"), None);
    }
}
