// SPDX-License-Identifier: Apache-2.0
//! The Services of a case.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{IpvsScheduler, NftablesTransactions};

/// The measured Service and the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Endpoints of each other Service.
    pub filler_endpoints: u32,
    /// Endpoints of the measured Service.
    pub endpoints: u32,
    /// Session affinity of the measured Service.
    pub affinity: AffinityKind,
    /// `externalTrafficPolicy` of the measured Service.
    pub external_policy: PolicyKind,
    /// `internalTrafficPolicy` of the measured Service.
    pub internal_policy: PolicyKind,
    /// Which iptables.
    pub iptables_backend: IptablesBackend,
    /// How ip_vs chooses an endpoint.
    pub ipvs_scheduler: IpvsScheduler,
    /// In how many pieces the kernel is given an nftables ruleset. Older records do not say: it was one.
    #[serde(default)]
    pub nftables_transactions: NftablesTransactions,
    /// kube-proxy's program, where `matrix.proxy` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<PathBuf>,
}

/// Session affinity, as a profile spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AffinityKind {
    /// Any endpoint for any connection.
    None,
    /// The same endpoint for a client address.
    ClientIp,
}

/// A traffic policy, as a profile spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// Endpoints anywhere.
    Cluster,
    /// Endpoints on the node the traffic is on.
    Local,
}

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IptablesBackend {
    /// `iptables-nft`.
    Nft,
    /// `iptables-legacy`.
    Legacy,
}
