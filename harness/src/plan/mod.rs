// SPDX-License-Identifier: Apache-2.0
//! From a profile to the list of cases it asks for. Pure: no host is looked at here.

mod balancer;
mod case;
mod cni;
mod cni_files;
mod conflist;
mod ingress;
mod ipvs_scheduler;
mod kernel;
mod matrix;
mod nftables_transactions;
mod profile;
mod reverse_path;
mod service;
mod source;
mod wire;
mod workload;

pub use balancer::BalancerKind;
pub use case::{Case, CniKind, IpFamily, IpStack, Mode, Place, Position, Proxy, Road, Route};
pub use cni::CniChoice;
pub use cni_files::CniFiles;
pub use conflist::{CNI_VERSIONS, Conflist, Plugin};
pub use ingress::{IngressKind, IngressTls};
pub use ipvs_scheduler::IpvsScheduler;
pub use kernel::{HOST_KERNEL, KernelChoice};
pub use matrix::{CASES_MAX, Group, Plan, PlanError};
pub use nftables_transactions::{CHOICES_PER_TRANSACTION, NftablesTransactions};
pub use profile::{Engine, FakeSettings, LabSettings, MatrixSettings, Profile, RunSettings};
pub use reverse_path::ReversePath;
pub use service::{AffinityKind, IptablesBackend, PolicyKind, ServiceSettings};
pub use source::{DEFAULT_PROFILE, PROFILES, ProfileError};
pub use wire::WireSettings;
pub use workload::{ArrivalKind, WorkloadSettings};
