// SPDX-License-Identifier: Apache-2.0
//! Whether nodes look for a way back to who sent them a packet.

use serde::{Deserialize, Serialize};

/// `net.ipv4.conf.*.rp_filter` (RFC 3704). Off, Linux compares a packet's source with the host's own addresses alone
/// (`fib_validate_source`, net/ipv4/fib_frontend.c); on, it looks up the route to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReversePath {
    /// 0, as the kernel comes; and what records mean that do not say.
    #[default]
    Off,
    /// 1: the way back has to lead through the interface that the packet came by.
    Strict,
    /// 2: there has to be one. As systemd sets it (since 240, `sysctl.d/50-default.conf`).
    Loose,
}

impl ReversePath {
    /// The kernel's number for it.
    pub fn value(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::Strict => "1",
            Self::Loose => "2",
        }
    }
}
