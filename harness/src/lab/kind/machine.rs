// SPDX-License-Identifier: Apache-2.0
//! The containers of a cluster, held until they are let go.

use crate::docker::kind::{self, Cluster};
use crate::docker::{Container, DockerError, Engine};

/// A cluster's containers. Dropped, they are removed, and nothing is said.
#[derive(Debug)]
pub(super) struct Machine {
    engine: Engine,
    cluster: Cluster,
    held: bool,
}

impl Machine {
    /// Takes hold of them.
    pub(super) fn of(engine: &Engine, cluster: Cluster) -> Self {
        Self { engine: engine.clone(), cluster, held: true }
    }

    /// The cluster's name.
    pub(super) fn name(&self) -> &str {
        &self.cluster.name
    }

    /// Its nodes, the control plane's first.
    pub(super) fn nodes(&self) -> &[Container] {
        &self.cluster.nodes
    }

    /// Credentials for its API server.
    pub(super) fn kubeconfig(&self) -> Result<String, DockerError> {
        self.cluster.admin_kubeconfig(&self.engine)
    }

    /// Leaves them up.
    pub(super) fn keep(mut self) {
        self.held = false;
    }

    /// Removes them.
    pub(super) fn down(mut self) -> Result<(), DockerError> {
        self.held = false;
        kind::delete(&self.engine, &self.cluster.name).map(drop)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.held {
            // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
            let _ = kind::delete(&self.engine, &self.cluster.name);
        }
    }
}
