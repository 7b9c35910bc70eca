// SPDX-License-Identifier: Apache-2.0
//! Failures of a host: of its network, and of the programs run on it.

use std::process::ExitStatus;
use std::time::Duration;

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
    #[error("failed to {op} {subject}: {}", refusal(source))]
    Netlink {
        /// What was being done.
        op: &'static str,
        /// To what; a change is named by the `ip` or `bridge` command that would make it.
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

/// The errno alone: rtnetlink wraps it in words of its own.
fn refusal(error: &rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}

/// A program failed, or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No such program.
    #[error("failed to run {program} on {host}: {source}")]
    Start {
        /// Program.
        program: String,
        /// Host it was to run on.
        host: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// It ran and said no.
    #[error("{program} on {host} ended with {status}: {}", stderr.trim_end())]
    Failed {
        /// Program and its arguments.
        program: String,
        /// Host it ran on.
        host: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, at most 8 KiB.
        stderr: String,
    },
    /// Nobody listens at its socket, or may be talked to.
    #[error("failed to connect to {program} on {host}: {source}")]
    Connect {
        /// The socket's path.
        program: String,
        /// Host it runs on.
        host: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// Its input or output broke.
    #[error("failed to talk to {program} on {host}: {source}")]
    Pipe {
        /// Program.
        program: String,
        /// Host it runs on.
        host: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// It did not answer, or did not end, in time.
    #[error("{program} on {host} did not answer within {} ms{}", waited.as_millis(), last_words(stderr))]
    Silent {
        /// Program.
        program: String,
        /// Host it runs on.
        host: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it wrote to standard error so far.
        stderr: String,
    },
    /// It ended while an answer was awaited.
    #[error("{program} on {host} ended unasked{}", last_words(stderr))]
    Ended {
        /// Program.
        program: String,
        /// Host it ran on.
        host: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It answered something else.
    #[error("{program} on {host} answered {line:?}: {source}")]
    Answer {
        /// Program.
        program: String,
        /// Host it runs on.
        host: String,
        /// Start of the line.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

fn last_words(stderr: &str) -> String {
    match stderr.trim_end() {
        "" => String::new(),
        words => format!(": {words}"),
    }
}
