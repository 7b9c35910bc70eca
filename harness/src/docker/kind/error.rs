// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a cluster.

use std::time::Duration;

use crate::docker::DockerError;

/// A cluster could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// A file for kind could not be written, or what it wrote not be read.
    #[error("failed to {op} of cluster {name}: {source}")]
    File {
        /// What was being done.
        op: &'static str,
        /// The cluster.
        name: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// kind could not be run.
    #[error("failed to run {program}: {source}")]
    Start {
        /// Path of kind.
        program: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// kind ended with a failure.
    #[error("failed to {op} cluster {name}: kind {ended}{}", aftermath(last_words))]
    Failed {
        /// What was being done.
        op: &'static str,
        /// The cluster.
        name: String,
        /// How kind ended.
        ended: String,
        /// What was said last, and what was left behind.
        last_words: Box<LastWords>,
    },
    /// It was not up in time.
    #[error("failed to create cluster {name}: not up within {} s{}", waited.as_secs(), aftermath(last_words))]
    Late {
        /// The cluster.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// What was said last, and what was left behind.
        last_words: Box<LastWords>,
    },
    /// A stop was asked for.
    #[error("failed to create cluster {name}: stopped{}", left_behind(left))]
    Stopped {
        /// The cluster.
        name: String,
        /// What could not be removed.
        left: Vec<String>,
    },
    /// A cluster of that name exists.
    #[error("failed to create cluster {name}: a cluster of that name exists")]
    Taken {
        /// The name.
        name: String,
    },
    /// There is no such cluster.
    #[error("failed to find cluster {name}: no container of Docker's is its node")]
    Unknown {
        /// The name.
        name: String,
    },
    /// What kind would need is not there.
    #[error(transparent)]
    Unavailable(#[from] crate::Unavailable),
    /// Docker.
    #[error(transparent)]
    Docker(#[from] DockerError),
}

/// The end of a cluster that did not come to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// kind's last lines.
    pub kind: Vec<String>,
    /// The end of the control plane's log.
    pub node: String,
    /// What could not be removed, and why.
    pub left: Vec<String>,
}

fn aftermath(last_words: &LastWords) -> String {
    let mut text = String::new();
    if !last_words.kind.is_empty() {
        text.push_str(&format!("; it said last:\n{}", indented(&last_words.kind.join("\n"))));
    }
    if !last_words.node.trim().is_empty() {
        text.push_str(&format!("\nthe node's log ends with:\n{}", indented(&last_words.node)));
    }
    text + &left_behind(&last_words.left)
}

fn left_behind(left: &[String]) -> String {
    match left {
        [] => String::new(),
        left => format!("\nleft behind: {}", left.join("; ")),
    }
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_was_said_last_and_what_is_left() {
        let last_words = LastWords {
            kind: vec!["Creating cluster".to_owned(), "ERROR: no space".to_owned()],
            node: "systemd: freezing\n".to_owned(),
            left: vec!["failed to remove container x: busy".to_owned()],
        };
        let error = KindError::Failed {
            op: "create",
            name: "c".to_owned(),
            ended: "ended with exit status: 1".to_owned(),
            last_words: Box::new(last_words),
        };
        assert_eq!(
            error.to_string(),
            "failed to create cluster c: kind ended with exit status: 1; it said last:\n  \
             Creating cluster\n  ERROR: no space\nthe node's log ends with:\n  systemd: freezing\n\
             left behind: failed to remove container x: busy"
        );
    }
}
