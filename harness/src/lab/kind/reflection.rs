// SPDX-License-Identifier: Apache-2.0
//! Following queries through a server of others, for as long as a case lasts.
//!
//! Which queries are followed is said by their type-of-service byte, and a server of others answers all with the same.
//! Rules in its pod have conntrack keep it, and give it to the answer. Beyond the byte nothing about a packet is changed.

use workloads::protocol::SAMPLE_TOS;

use crate::net::{Netns, Tool, ToolError};

/// A table in the namespace of a pod that stays. Dropped, it goes, and nothing is said.
#[derive(Debug)]
pub(super) struct Reflection {
    pod: Netns,
    /// There until `down`.
    there: bool,
}

/// Its table, of the addresses that kind's clusters have here.
const TABLE: &str = "ip nic2pod-names";

/// Whether there is an nft to make it.
pub(super) fn is_possible(host: &Netns) -> bool {
    Tool::new("nft").args(["--version"]).run_on(host).is_ok()
}

impl Reflection {
    /// Has answers from the port carry the byte of their queries.
    ///
    /// # Errors
    /// There is no nft, or it refuses.
    pub(super) fn up(pod: Netns, port: u16) -> Result<Self, ToolError> {
        nft(&pod, rules(port))?;
        Ok(Self { pod, there: true })
    }

    /// Lets answers be as the server sends them.
    ///
    /// # Errors
    /// nft refuses.
    pub(super) fn down(mut self) -> Result<(), ToolError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ToolError> {
        match std::mem::take(&mut self.there) {
            true => nft(&self.pod, format!("delete table {TABLE}\n")),
            false => Ok(()),
        }
    }
}

impl Drop for Reflection {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.end();
    }
}

fn nft(pod: &Netns, text: String) -> Result<(), ToolError> {
    Tool::new("nft").args(["-f", "-"]).stdin(text).run_on(pod).map(drop)
}

/// Made anew, whatever a run before that was killed has left.
fn rules(port: u16) -> String {
    let dscp = SAMPLE_TOS >> 2;
    format!(
        "add table {TABLE}\ndelete table {TABLE}\n\
         table {TABLE} {{\n\
         chain in {{ type filter hook prerouting priority mangle; udp dport {port} ct mark set 0; \
         udp dport {port} ip dscp {dscp} ct mark set {dscp}; }}\n\
         chain out {{ type filter hook output priority mangle; \
         udp sport {port} ct mark {dscp} ip dscp set {dscp}; }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_what_conntrack_kept_of_the_query() {
        insta::assert_snapshot!(rules(53));
    }
}
