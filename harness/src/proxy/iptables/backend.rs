// SPDX-License-Identifier: Apache-2.0
//! The two implementations of iptables.

use super::tables::Tables;
use crate::plan::IpFamily;

/// Which implementation of iptables holds the rules. The same text costs a different walk in each:
/// legacy rules are one blob that `ipt_do_table` walks, the others are nf_tables rules with
/// compatibility expressions. A result without this word says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `iptables-nft`, what Debian and kube-proxy's image run today.
    #[default]
    Nft,
    /// `iptables-legacy`.
    Legacy,
}

impl Backend {
    /// Its word in program names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// Its tables of a family.
    pub(crate) fn of(self, family: IpFamily) -> Tables {
        Tables { backend: self, family }
    }
}

impl From<crate::plan::IptablesBackend> for Backend {
    fn from(backend: crate::plan::IptablesBackend) -> Self {
        match backend {
            crate::plan::IptablesBackend::Nft => Self::Nft,
            crate::plan::IptablesBackend::Legacy => Self::Legacy,
        }
    }
}
