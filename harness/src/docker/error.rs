// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with Docker.

use std::io;
use std::time::Duration;

use bollard::errors::Error;

/// Docker refused, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The Engine refused.
    #[error("failed to {op} {subject}: {}", said(source))]
    Refused {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// The Engine's word.
        source: Box<Error>,
    },
    /// The Engine's disk, or a container's, is full.
    #[error("failed to {op} {subject}: the disk is full: {message}")]
    DiskFull {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// The words it was recognised by.
        message: String,
    },
    /// The Engine did not answer in time.
    #[error("failed to {op} {subject}: no answer from Docker within {} s", waited.as_secs())]
    Silent {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The Engine's answer lacks something.
    #[error("failed to {op} {subject}: Docker's answer has no {what}")]
    Incomplete {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// What the answer lacks.
        what: &'static str,
    },
    /// A command in a container wrote more than is read.
    #[error("failed to {op} {subject}: it wrote more than {limit} bytes")]
    TooMuch {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// The bound.
        limit: usize,
    },
    /// A command in a container ended with something else than success.
    #[error("failed to {op} {subject}: exit code {code}: {message}")]
    Command {
        /// What was being done.
        op: &'static str,
        /// To what.
        subject: String,
        /// How it ended.
        code: i64,
        /// What it wrote to standard error.
        message: String,
    },
    /// A host outside the cluster did not come up.
    #[error("failed to start host {subject}: {source}{}", and_left(left.as_deref()))]
    Host {
        /// Its name.
        subject: String,
        /// The word of what starts it, with the container's log.
        source: Box<testcontainers::TestcontainersError>,
        /// Why the container could not be removed again, if so.
        left: Option<String>,
    },
    /// A container of that name exists.
    #[error("failed to start host {name}: a container of that name exists")]
    Taken {
        /// The name.
        name: String,
    },
}

impl DockerError {
    /// Shorthand for `map_err`; tells a full disk from other refusals by the words of the kernel,
    /// which is all that the Engine passes on.
    pub(super) fn refused(
        op: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(Error) -> Self {
        move |source| {
            let (subject, message) = (subject.into(), said(&source));
            if message.contains("no space left on device") {
                return Self::DiskFull { op, subject, message };
            }
            Self::Refused { op, subject, source: Box::new(source) }
        }
    }

    /// A command that ended with an exit code other than 0.
    pub(crate) fn command(
        op: &'static str,
        subject: impl Into<String>,
        code: i64,
        said: &[u8],
    ) -> Self {
        let (subject, message) =
            (subject.into(), String::from_utf8_lossy(said).trim_end().to_owned());
        if message.contains("no space left on device") {
            return Self::DiskFull { op, subject, message };
        }
        Self::Command { op, subject, code, message }
    }

    /// Whether the Engine does not know what was asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if status(source) == Some(404))
    }

    /// Whether a disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

/// HTTP status the Engine answered with.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The Engine's own words, or the innermost cause: what lies around it tells of HTTP libraries.
fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim_end().to_owned(),
        Error::DockerStreamError { error } => error.trim_end().to_owned(),
        other => innermost(other).to_string(),
    }
}

/// The kind of the system's refusal among an error's causes.
pub(super) fn system(error: &Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// The cause of causes.
pub(super) fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a dyn std::error::Error {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

fn and_left(left: Option<&str>) -> String {
    left.map(|why| format!("; and {why}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_refusals() {
        let answer = |message: &str| Error::DockerResponseServerError {
            status_code: 500,
            message: message.to_owned(),
        };
        let full = DockerError::refused("load image", "a")(answer(
            "write /var/lib/docker/tmp/x: no space left on device",
        ));
        assert!(full.is_disk_full());
        assert_eq!(
            full.to_string(),
            "failed to load image a: the disk is full: \
             write /var/lib/docker/tmp/x: no space left on device"
        );
        let other = DockerError::refused("load image", "a")(answer("unexpected EOF\n"));
        assert!(!other.is_disk_full());
        assert_eq!(other.to_string(), "failed to load image a: unexpected EOF");
        let command = DockerError::command("import image into", "n", 1, b"no space left on device");
        assert!(command.is_disk_full());
    }

    #[test]
    fn what_docker_does_not_know_is_recognised() {
        let answer = Error::DockerResponseServerError {
            status_code: 404,
            message: "No such container".into(),
        };
        assert!(DockerError::refused("inspect container", "a")(answer).is_not_found());
    }
}
