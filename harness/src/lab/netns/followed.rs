// SPDX-License-Identifier: Apache-2.0
//! Following requests through programs of others.
//!
//! Which connections are followed is said by their type-of-service byte, which these programs do not hand
//! on. So they listen at two ports for each: rules of their host lead marked connections to the second,
//! for which they connect from an address of its own, and another rule marks what leaves from there.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use workloads::protocol::SAMPLE_TOS;

use super::NetnsError;
use crate::Unavailable;
use crate::net::addresses::{family, word_of_nft};
use crate::net::{NetError, Netns, Tool, ToolError};

/// Port of followed connections for a port of the others.
pub(super) const fn port(port: u16) -> u16 {
    port + 1
}

/// Whether what marks connections is there.
///
/// # Errors
/// There is no nft.
pub(super) fn check(scratch: &Netns) -> Result<(), Unavailable> {
    let said = Tool::new("nft").args(["--version"]).run_on(scratch);
    said.map(drop).map_err(|error| {
        let need = "program nft, which marks connections that a program of others opens";
        Unavailable::new(need, error.to_string(), "apt-get install nftables")
    })
}

/// Writes the rules on a host.
///
/// # Errors
/// There is no nft, or it refuses.
pub(super) fn mark(host: &Netns, ports: &[u16], source: IpAddr) -> Result<(), ToolError> {
    Tool::new("nft").args(["-f", "-"]).stdin(rules(ports, source)).run_on(host).map(drop)
}

/// A folder for a program's files.
pub(super) fn folder(prefix: &str, scratch: &Path) -> Result<PathBuf, NetnsError> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(scratch);
    Ok(made.map_err(NetError::os("create", "a folder for a program's files"))?.keep())
}

fn rules(ports: &[u16], source: IpAddr) -> String {
    let dscp = SAMPLE_TOS >> 2;
    let ip = word_of_nft(family(source));
    let lead: String = ports
        .iter()
        .map(|&of| format!("tcp dport {of} {ip} dscp {dscp} redirect to :{}; ", port(of)))
        .collect();
    format!(
        "table {ip} followed {{\n\
         chain in {{ type nat hook prerouting priority dstnat; {lead}}}\n\
         chain out {{ type filter hook output priority mangle; {ip} saddr {source} {ip} dscp set {dscp}; }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_connections_are_led_to_ports_of_their_own_and_leave_marked() {
        insta::assert_snapshot!(rules(&[8081, 8444], [10, 244, 0, 32].into()));
    }
}
