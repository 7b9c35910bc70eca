// SPDX-License-Identifier: Apache-2.0
//! How ip_vs chooses an endpoint.

use serde::{Deserialize, Serialize};

/// How ip_vs chooses an endpoint: the schedulers that kube-proxy's documents name
/// (`--ipvs-scheduler`) and that can tell its endpoints apart, all of which have weight 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvsScheduler {
    /// Round robin.
    #[default]
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
    /// By a hash of the source's address.
    Sh,
    /// Maglev hashing of the source's address and port.
    Mh,
}

impl IpvsScheduler {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc, Self::Sh, Self::Mh];

    /// Its name in the kernel.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Mh => "mh",
        }
    }

    /// The kernel option it comes with.
    pub fn kernel_option(self) -> &'static str {
        match self {
            Self::Rr => "CONFIG_IP_VS_RR",
            Self::Wrr => "CONFIG_IP_VS_WRR",
            Self::Lc => "CONFIG_IP_VS_LC",
            Self::Wlc => "CONFIG_IP_VS_WLC",
            Self::Sh => "CONFIG_IP_VS_SH",
            Self::Mh => "CONFIG_IP_VS_MH",
        }
    }
}
