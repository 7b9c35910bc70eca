// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster through its API: what it is, and the pods and Services that a lab puts there.
//!
//! Only objects of core v1 are used, so that clusters of all ages will do. Functions are futures of
//! the caller's runtime: the connections of an [`Api`] belong to the one it was made on.

mod api;
mod changes;
mod error;
mod get;
mod namespace;
mod node;
mod pod;
mod pods;
mod proxy;
mod render;
mod services;
mod version;
mod watch;

pub use api::Api;
pub use error::KubeError;
pub use get::proxy_mode;
pub use namespace::Namespace;
pub use node::Node;
pub use pod::{PodSpec, PullPolicy, RunningPod};
pub use pods::Pods;
pub use proxy::{KubeProxy, ProxyLog};
pub use render::{Addresses, Rendered, render};
pub use services::{Placed, Services, Synced};
pub use version::ServerVersion;
