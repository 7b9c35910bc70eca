// SPDX-License-Identifier: Apache-2.0
//! Failure of a proxy mode.

use crate::Unavailable;
use crate::net::{NetError, ToolError};
use crate::plan::Mode;

/// A mode could not be installed, proved or removed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The machine, or a program of the user's, lacks something that shows only now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A kube-proxy that was started on a node did not do what it is there for.
    #[error("failed to run kube-proxy on {host}: {what}")]
    KubeProxy {
        /// Node.
        host: String,
        /// What went wrong.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// This node's rules cannot be watched.
    #[error("failed to watch {mode} rules match: {missing}")]
    Unwatchable {
        /// Mode.
        mode: Mode,
        /// What it would take.
        missing: Unavailable,
    },
    /// What rules and connection tracking tell does not add up to the connection that was made.
    #[error(
        "failed to tell which {mode} rules matched on {host}: what was seen cannot be one \
         connection: {what}"
    )]
    NotOne {
        /// Mode.
        mode: Mode,
        /// Node.
        host: String,
        /// What does not fit.
        what: String,
    },
    /// A kernel tool failed.
    #[error("failed to {op} {mode} rules: {source}")]
    Tool {
        /// `install`, `read back`, `remove`, `add to`.
        op: &'static str,
        /// Mode.
        mode: Mode,
        /// What the tool said.
        source: ToolError,
    },
    /// The node's network refused.
    #[error("failed to set up {mode}: {source}")]
    Net {
        /// Mode.
        mode: Mode,
        /// The kernel's word.
        source: NetError,
    },
    /// BPF programs or maps refused.
    #[cfg(feature = "bpf")]
    #[error("failed to {op} ebpf: {}", with_reasons(source))]
    Bpf {
        /// `install`, `read back`, `remove`, `add to`.
        op: &'static str,
        /// The kernel's word.
        source: crate::bpf::BpfError,
    },
    /// The table asks for something the mode does not do.
    #[error("failed to run {mode} with this table: {what}")]
    Unsupported {
        /// Mode.
        mode: Mode,
        /// What it cannot do, and what to change.
        what: String,
    },
    /// The kernel's state does not show this mode carrying the packets.
    #[error("failed to prove {mode} on {host}: expected {expected}; found {found}")]
    NotProved {
        /// Mode.
        mode: Mode,
        /// Node.
        host: String,
        /// What would have proved it.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Something of the mode outlived its removal.
    #[error("failed to remove {mode} from {host}: left behind: {left}")]
    Left {
        /// Mode.
        mode: Mode,
        /// Node.
        host: String,
        /// What is left.
        left: String,
    },
}

impl ProxyError {
    pub(super) fn kube_proxy(host: &str, what: String, log: String) -> Self {
        Self::KubeProxy { host: host.to_owned(), what, log }
    }
}

/// An error and what caused it.
#[cfg(feature = "bpf")]
pub(crate) fn with_reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        text = format!("{text}: {reason}");
        next = reason.source();
    }
    text
}

/// An error as one line, for the text of a skip.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}
