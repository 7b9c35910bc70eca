// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster through its API: what it is, and the pods and Services that a lab puts there.
//!
//! Only objects of core v1 are used, and what apps/v1 and batch/v1 have had since Kubernetes 1.9, so that
//! clusters of all ages will do; manifests hold what they hold. Functions are futures of
//! the caller's runtime: the connections of an [`Api`] belong to the one it was made on.

mod api;
mod changes;
mod daemons;
mod error;
mod jobs;
mod manifest;
mod names;
mod namespace;
mod node;
mod pod;
mod pods;
mod privileged;
mod proxy;
mod render;
mod secret;
mod services;
mod version;
mod watch;

pub use api::Api;
pub use daemons::Daemon;
pub use error::KubeError;
pub use jobs::Jobs;
pub use manifest::Manifest;
pub use namespace::Namespace;
pub use node::Node;
pub use pod::{PodSpec, PullPolicy, RunningPod, SecretVariable};
pub use pods::Pods;
pub use privileged::Privileged;
pub use proxy::{KubeProxy, ProxyLog};
pub use render::{Addresses, Rendered, render};
pub use secret::create_secret;
pub use services::{Placed, Services, Synced};
pub use version::ServerVersion;
