// SPDX-License-Identifier: Apache-2.0
//! Why a request was not answered.

use std::fmt;
use std::io;

/// A kind of failure. Kinds are counted; their words are the keys of a report's `errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// A RST answered the SYN.
    ConnectRefused,
    /// A RST came while connecting, after the first answer.
    ConnectReset,
    /// No connection within the timeout.
    ConnectTimeout,
    /// ICMP said so, or there is no route.
    ConnectUnreachable,
    /// A RST came before the answer was complete.
    Reset,
    /// The stream ended before the answer was complete.
    Closed,
    /// No complete answer within the timeout.
    Timeout,
    /// Answered with a status other than 200.
    Status(u16),
    /// Answered with a body of another length.
    Length,
    /// Due while as many requests as may be were in flight.
    Overload,
    /// No source tuple was left to open a connection from.
    TuplesExhausted,
    /// None of these.
    Other,
}

impl Failure {
    /// What an error of `connect()` means.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::ConnectionReset => Self::ConnectReset,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Self::ConnectUnreachable
            }
            _ => Self::Other,
        }
    }

    /// What an error of a read or write means.
    pub(super) fn of_stream(error: &io::Error) -> Self {
        match error.kind() {
            // A write after the peer's RST was taken note of is EPIPE: tcp(7).
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectReset => "connect_reset",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Status(code) => return write!(f, "status_{code}"),
            Self::Length => "length",
            Self::Overload => "overload",
            Self::TuplesExhausted => "tuples_exhausted",
            Self::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_become_ours() {
        let connect = |errno| Failure::of_connect(&io::Error::from(errno)).to_string();
        assert_eq!(connect(nix::errno::Errno::ECONNREFUSED), "connect_refused");
        assert_eq!(connect(nix::errno::Errno::ECONNRESET), "connect_reset");
        assert_eq!(connect(nix::errno::Errno::ETIMEDOUT), "connect_timeout");
        assert_eq!(connect(nix::errno::Errno::EHOSTUNREACH), "connect_unreachable");
        assert_eq!(connect(nix::errno::Errno::ENETUNREACH), "connect_unreachable");
        assert_eq!(connect(nix::errno::Errno::EPERM), "other");
        let stream = |errno| Failure::of_stream(&io::Error::from(errno)).to_string();
        assert_eq!(stream(nix::errno::Errno::EPIPE), "reset");
        assert_eq!(stream(nix::errno::Errno::ECONNRESET), "reset");
        assert_eq!(Failure::Status(503).to_string(), "status_503");
    }
}
