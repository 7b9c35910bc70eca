// SPDX-License-Identifier: Apache-2.0
//! A cluster's API server, spoken to from inside of the node it runs on: the machine's own network
//! is not entered, and no port of it is needed.

use super::node::{self, Node};
use crate::kube::{Api, KubeError};
use crate::lab::LabError;
use crate::net::Netns;

/// Where an API server listens on its node (`--secure-port`, kubeadm's `bindPort`).
const SERVER: &str = "https://127.0.0.1:6443";

/// A connection to an API server, and the thread on its node that drives it.
#[derive(Debug)]
pub(super) struct Control {
    // Before the thread whose runtime it lives on.
    api: Api,
    host: Netns,
}

impl Control {
    /// Connects; `kubeconfig` has the credentials.
    pub(super) fn connect(node: &Node, kubeconfig: &str) -> Result<Self, LabError> {
        let host = node::enter(&node.name, node.pid)?;
        let kubeconfig = kubeconfig.to_owned();
        let api = host
            .block_on(move || async move { Api::from_yaml(&kubeconfig, None, Some(SERVER)).await })
            .map_err(super::ClusterError::from)?;
        Ok(Self { api, host })
    }

    /// Runs a future on the node.
    pub(super) fn run<T, F>(
        &self,
        work: impl FnOnce(Api) -> F + Send + 'static,
    ) -> Result<T, LabError>
    where
        F: Future<Output = Result<T, KubeError>>,
        T: Send + 'static,
    {
        let api = self.api.clone();
        self.host
            .block_on(move || work(api))
            .map_err(|error| super::ClusterError::from(error).into())
    }

    /// The API server.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }
}
