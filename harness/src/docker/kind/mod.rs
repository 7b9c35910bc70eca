// SPDX-License-Identifier: Apache-2.0
//! kind's clusters: made by the `kind` program, looked after by the Engine.
//!
//! kind writes a cluster's name on its containers and no label of ours, so the run's id is part of
//! the name. The user's kubeconfig is not touched.

mod cluster;
mod config;
mod create;
mod error;
mod program;

pub use cluster::{Cluster, delete, find, list, look};
pub use config::{
    ClusterConfig, KubeProxy, NAME_PREFIX, POD_SUBNET, SERVICE_SUBNET, cluster_name, version_of,
};
pub use create::Creation;
pub use error::KindError;
pub use program::Kind;
