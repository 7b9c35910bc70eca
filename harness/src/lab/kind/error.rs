// SPDX-License-Identifier: Apache-2.0
//! Failures of a lab in Docker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::docker::kind::KindError;
use crate::docker::{DockerError, ImageError};
use crate::kube::KubeError;

/// A cluster could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Docker refused.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// kind could not make the cluster.
    #[error(transparent)]
    Kind(KindError),
    /// The agents do not make an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The cluster's API server refused.
    #[error(transparent)]
    Kube(#[from] KubeError),
    /// A file of a node's, or of a process's, cannot be had.
    #[error("failed to {op} {}: {source}", path.display())]
    File {
        /// What was done to it.
        op: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Something was not so in time.
    #[error("failed to wait for {what}: after {} s {found}", waited.as_secs())]
    NotInTime {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was so instead.
        found: String,
    },
    /// Something that every cluster has is not there.
    #[error("failed to find {what} of {host}")]
    NotThere {
        /// What.
        what: &'static str,
        /// Node, pod or container.
        host: String,
    },
}
