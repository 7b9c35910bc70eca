// SPDX-License-Identifier: Apache-2.0
//! Network namespaces and what is done inside them.

pub mod addresses;
mod netns;
mod process;

pub use netns::Netns;
pub use process::{Agent, Tool, ToolError};

/// Failure of an operation on a host's network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused.
    #[error("failed to {op} {subject}: {source}")]
    Os {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// The kernel's word.
        source: std::io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("failed to {op} {subject}: {source}")]
    Netlink {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// The kernel's word.
        source: rtnetlink::Error,
    },
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl NetError {
    /// Shorthand for [`NetError::Os`], for `map_err`.
    pub fn os(op: &'static str, subject: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Os { op, subject: subject.into(), source }
    }
}
