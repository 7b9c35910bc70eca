// SPDX-License-Identifier: Apache-2.0
//! Following requests through programs of others.
//!
//! Which connections are followed is said by their type-of-service byte, which these programs do not hand
//! on. So they listen at two ports for each: rules of the pod's lead marked connections to the second,
//! for which they connect from an address of its own, and another rule marks what leaves from there.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use workloads::protocol::SAMPLE_TOS;

use super::Ingress;
use crate::lab::netns::NetnsError;
use crate::lab::netns::hosts::Pod;
use crate::net::{NetError, Tool};

/// Where followed connections are accepted and where they come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    /// Address that a program connects from for them.
    pub(super) source: Ipv4Addr,
}

impl Followed {
    /// Port of followed connections for a port of the others.
    pub(super) fn port(port: u16) -> u16 {
        port + 1
    }

    /// Writes the rules in a pod.
    ///
    /// # Errors
    /// The pod has no address for them, or nft refuses.
    pub(super) fn on(pod: &Pod) -> Result<Self, NetnsError> {
        let &source = pod.extra_addresses.first().ok_or_else(|| {
            NetnsError::Ingress(format!(
                "{} has one address, and needs another for the connections that are followed: raise \
                 lab.pod_extra_addresses (plugins of others give none; --ingress embedded needs none)",
                pod.name
            ))
        })?;
        let rules = rules(source);
        let made = Tool::new("nft").args(["-f", "-"]).stdin(rules).run_on(&pod.netns);
        made.map_err(|error| NetnsError::Ingress(error.to_string()))?;
        Ok(Self { source })
    }
}

/// A folder for a program's files.
pub(super) fn folder(prefix: &str, scratch: &Path) -> Result<PathBuf, NetnsError> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(scratch);
    Ok(made.map_err(NetError::os("create", "a folder for the ingress controller"))?.keep())
}

fn rules(source: Ipv4Addr) -> String {
    let dscp = SAMPLE_TOS >> 2;
    let lead = [Ingress::PORT, Ingress::TLS_PORT].map(|port| {
        let to = Followed::port(port);
        format!("tcp dport {port} ip dscp {dscp} redirect to :{to}; ")
    });
    let lead = lead.concat();
    format!(
        "table ip ingress {{\n\
         chain in {{ type nat hook prerouting priority dstnat; {lead}}}\n\
         chain out {{ type filter hook output priority mangle; ip saddr {source} ip dscp set {dscp}; }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_connections_are_led_to_ports_of_their_own_and_leave_marked() {
        insta::assert_snapshot!(rules([10, 244, 0, 32].into()));
    }
}
