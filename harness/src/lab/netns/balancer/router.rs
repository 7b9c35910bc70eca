// SPDX-License-Identifier: Apache-2.0
//! A router as the load balancer: the kernel's own forwarding, and nothing else.

use crate::lab::netns::NetnsError;
use crate::net::{NetError, Netns};

/// What of its host's counters was already told.
#[derive(Debug)]
pub(super) struct Router {
    told: u64,
}

impl Router {
    /// Counts from now on: hosts of some labs have handed on packets of other cases.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn start(host: &Netns) -> Result<Self, NetnsError> {
        Ok(Self { told: count(host)? })
    }

    /// Packets that its host handed on since the last call.
    ///
    /// # Errors
    /// None, or the kernel does not say.
    pub(super) fn forwarded(&mut self, host: &Netns) -> Result<u64, NetnsError> {
        let now = count(host)?;
        match now - std::mem::replace(&mut self.told, now) {
            0 => Err(NetnsError::BalancerIdle),
            more => Ok(more),
        }
    }
}

/// Packets that a host has handed on so far.
fn count(host: &Netns) -> Result<u64, NetnsError> {
    let text = host
        .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .map_err(NetError::os("read", "/proc/net/snmp"))?;
    forwarded(&text)
        .ok_or_else(|| NetnsError::Balancer("/proc/net/snmp has no ForwDatagrams".to_owned()))
}

/// `ipForwDatagrams` (RFC 1213; net/ipv4/proc.c): one line names the counters, the next has their values.
fn forwarded(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut counters = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    counters.find(|(name, _)| *name == "ForwDatagrams")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_by_its_name() {
        let text = "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams\n\
                    Ip: 1 64 30 0 0 17\nIcmp: InMsgs\nIcmp: 0\n";
        assert_eq!(forwarded(text), Some(17));
        assert_eq!(forwarded("Icmp: InMsgs\nIcmp: 0\n"), None);
    }
}
