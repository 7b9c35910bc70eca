// SPDX-License-Identifier: Apache-2.0
//! From a profile to the list of cases it asks for. Pure: no host is looked at here.

mod case;
mod cni;
mod conflist;
mod kernel;
mod matrix;
mod nftables_transactions;
mod profile;
mod reverse_path;
mod source;
mod wire;

pub use case::{Case, CniKind, IpFamily, IpStack, Mode, Place, Position, Proxy, Road, Route};
pub use cni::CniChoice;
pub use conflist::{CNI_VERSIONS, Conflist, Plugin};
pub use kernel::{HOST_KERNEL, KernelChoice};
pub use matrix::{CASES_MAX, Group, Plan, PlanError};
pub use nftables_transactions::{CHOICES_PER_TRANSACTION, NftablesTransactions};
pub use profile::{
    AffinityKind, ArrivalKind, BalancerKind, CniFiles, Engine, FakeSettings, IngressKind,
    IngressTls, IptablesBackend, IpvsScheduler, LabSettings, MatrixSettings, PolicyKind, Profile,
    RunSettings, ServiceSettings, WorkloadSettings,
};
pub use reverse_path::ReversePath;
pub use source::{DEFAULT_PROFILE, PROFILES, ProfileError};
pub use wire::WireSettings;
