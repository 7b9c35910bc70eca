// SPDX-License-Identifier: Apache-2.0
//! In how many pieces the kernel is given an nftables ruleset.

use serde::{Deserialize, Serialize};

/// Services that one transaction adds, where there are several.
pub const SERVICES_PER_TRANSACTION: usize = 500;

/// The same rules come of both; how long the kernel takes does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NftablesTransactions {
    /// One, as kube-proxy's first sync is; and what records mean that do not say. The kernel's time grows with the
    /// square of its Services: each has an anonymous map, which is bound by a walk over the transaction so far
    /// (`__nft_set_trans_bind`, net/netfilter/nf_tables_api.c).
    #[default]
    Whole,
    /// Of [`SERVICES_PER_TRANSACTION`] Services each.
    Parts,
}

impl NftablesTransactions {
    /// How many there are for so many Services.
    pub fn count(self, services: usize) -> usize {
        match self {
            Self::Whole => 1,
            Self::Parts => services.div_ceil(SERVICES_PER_TRANSACTION).max(1),
        }
    }
}
