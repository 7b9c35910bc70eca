// SPDX-License-Identifier: Apache-2.0
//! In how many pieces the kernel is given an nftables ruleset.

use serde::{Deserialize, Serialize};

/// Choices of an endpoint that one transaction adds, where there are several; a Service has one or two.
pub const CHOICES_PER_TRANSACTION: usize = 250;

/// The same rules come of both; how long the kernel takes does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NftablesTransactions {
    /// One, as kube-proxy's first sync is; and what records mean that do not say. The kernel's time grows with the
    /// square of its Services: each has an anonymous map, which is bound by a walk over the transaction so far
    /// (`__nft_set_trans_bind`, net/netfilter/nf_tables_api.c).
    #[default]
    Whole,
    /// Where there are more Services than [`CHOICES_PER_TRANSACTION`], everything but their choices of an endpoint in
    /// one, and then at most so many choices in each.
    Parts,
}

impl NftablesTransactions {
    /// Whether there are several for so many Services.
    pub fn are_parts(self, services: usize) -> bool {
        self == Self::Parts && services > CHOICES_PER_TRANSACTION
    }
}
