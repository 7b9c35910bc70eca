// SPDX-License-Identifier: Apache-2.0
//! Clusters that exist, by their containers.

use std::collections::BTreeSet;

use super::{KindError, NAME_PREFIX};
use crate::docker::{Container, DockerError, Engine};

/// kind's label with the cluster's name.
const CLUSTER: &str = "io.x-k8s.kind.cluster";
/// kind's label with the node's role.
const ROLE: &str = "io.x-k8s.kind.role";
/// Role of the nodes that the API server runs on.
const CONTROL_PLANE: &str = "control-plane";
/// Looks for nodes that appear while a cluster is being removed: an order to the Engine outlives who
/// gave it.
const ROUNDS_MAX: usize = 5;
/// Where kubeadm leaves the administrator's kubeconfig.
const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// How long reading it may take.
const READ_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its nodes, the control plane first, then the workers by name.
    pub nodes: Vec<Container>,
}

impl Cluster {
    /// The node the API server runs on.
    pub fn control_plane(&self) -> &Container {
        &self.nodes[0]
    }

    /// The administrator's kubeconfig as the nodes have it: its certificates are good for
    /// `https://127.0.0.1:6443` in the control plane's network namespace, and its server is named as
    /// Docker's network knows it. [`super::Kind::kubeconfig`] is for this machine.
    ///
    /// # Errors
    /// The node does not run, or has none yet.
    pub fn admin_kubeconfig(&self, engine: &Engine) -> Result<String, DockerError> {
        let node = &self.control_plane().id;
        let read = engine.exec(node, &["cat", ADMIN_CONF], &[], READ_PATIENCE)?;
        if read.code != 0 {
            let op = "read the kubeconfig of";
            return Err(DockerError::command(
                op,
                &self.control_plane().name,
                read.code,
                &read.stderr,
            ));
        }
        Ok(String::from_utf8_lossy(&read.stdout).into_owned())
    }
}

/// Names of the clusters that are this project's, sorted.
///
/// # Errors
/// The Engine does not answer.
pub fn list(engine: &Engine) -> Result<Vec<String>, DockerError> {
    let nodes = engine.by_label(CLUSTER)?;
    let names: BTreeSet<_> =
        nodes.into_iter().filter_map(|mut node| node.labels.remove(CLUSTER)).collect();
    Ok(names.into_iter().filter(|name| name.starts_with(NAME_PREFIX)).collect())
}

/// A cluster by its name.
///
/// # Errors
/// There is none, or the Engine does not answer.
pub fn find(engine: &Engine, name: &str) -> Result<Cluster, KindError> {
    look(engine, name)?.ok_or_else(|| KindError::Unknown { name: name.to_owned() })
}

/// A cluster by its name; `None` if it has no control plane: it is not there, or is being made or removed
/// by somebody else, as one that was listed a moment ago may be.
///
/// # Errors
/// The Engine does not answer.
pub fn look(engine: &Engine, name: &str) -> Result<Option<Cluster>, DockerError> {
    let nodes = nodes(engine, name)?;
    let whole = nodes.first().is_some_and(is_control_plane);
    Ok(whole.then(|| Cluster { name: name.to_owned(), nodes }))
}

/// Removes a cluster: its containers, with their volumes, which is all that there is of it. Returns
/// how many there were.
///
/// # Errors
/// The Engine refuses; what could be removed is.
pub fn delete(engine: &Engine, name: &str) -> Result<usize, DockerError> {
    let mut gone = 0;
    for _ in 0..ROUNDS_MAX {
        let nodes = nodes(engine, name)?;
        if nodes.is_empty() {
            break;
        }
        let removed: Vec<_> = std::thread::scope(|scope| {
            let removing: Vec<_> = nodes
                .iter()
                .map(|node| scope.spawn(move || engine.remove(&node.id, true)))
                .collect();
            let ended = removing.into_iter().map(|thread| thread.join());
            ended.map(|result| result.expect("removing a container does not panic")).collect()
        });
        removed.into_iter().collect::<Result<(), _>>()?;
        gone += nodes.len();
    }
    Ok(gone)
}

/// A cluster's nodes, whatever state they are in, the control plane first.
pub(super) fn nodes(engine: &Engine, name: &str) -> Result<Vec<Container>, DockerError> {
    let mut nodes = engine.by_label(&format!("{CLUSTER}={name}"))?;
    nodes.sort_by_key(|node| !is_control_plane(node));
    Ok(nodes)
}

fn is_control_plane(node: &Container) -> bool {
    node.labels.get(ROLE).is_some_and(|role| role == CONTROL_PLANE)
}
