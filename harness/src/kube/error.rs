// SPDX-License-Identifier: Apache-2.0
//! Failures of a cluster, in the words of its API server.

use std::error::Error as _;
use std::time::Duration;

use kube::config::KubeconfigError;

use crate::Unavailable;

/// Something could not be done with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The kubeconfig does not say how to reach the cluster.
    #[error("failed to read {subject}: {source}")]
    Config {
        /// Which kubeconfig, and which context of it.
        subject: String,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// The API server refused, or could not be reached.
    #[error("failed to {op} {subject}: {}", refusal(source))]
    Api {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// The server's word, or that of the way to it.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("failed to {op} {subject}: no answer within {} s", waited.as_secs())]
    Silent {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Something did not become what it was to become in time.
    #[error("failed to see {subject} within {} s: {found}", waited.as_secs())]
    Late {
        /// What was awaited: `all pods ready`.
        subject: String,
        /// How long it was waited for.
        waited: Duration,
        /// How things stand.
        found: String,
    },
    /// It will never become what it was to become.
    #[error("failed to see {subject}: {found}")]
    Never {
        /// What was awaited.
        subject: String,
        /// How things stand.
        found: String,
    },
    /// The cluster lacks something.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// What was to be put into the cluster cannot be.
    #[error("failed to write {subject} as a Kubernetes object: {problem}")]
    Value {
        /// Which object.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The cluster says something that cannot be understood.
    #[error("failed to understand {subject}: {problem}")]
    Answer {
        /// What was read.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A component did not answer on its own port.
    #[error("failed to ask {subject}: {source}")]
    Port {
        /// Which address and path.
        subject: String,
        /// The system's word.
        source: std::io::Error,
    },
}

impl KubeError {
    /// Shorthand for [`KubeError::Api`], for `map_err`.
    pub(super) fn api(
        op: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { op, subject: subject.into(), source: Box::new(source) }
    }
}

/// The server's message alone, or the whole chain of causes of a failed exchange: the client's own
/// first sentence says little more than that there was one.
fn refusal(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() {
            format!("the API server answered {} {}", status.code, status.reason)
        } else {
            status.message.clone()
        };
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_servers_own_sentence() {
        let status = kube::core::Status::failure("services \"web\" is forbidden", "Forbidden");
        let error = KubeError::api("create", "Service web")(kube::Error::Api(status.boxed()));
        let sentence = "failed to create Service web: services \"web\" is forbidden";
        assert_eq!(error.to_string(), sentence);
    }
}
