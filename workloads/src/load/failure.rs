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
    /// Answered with a code of gRPC's other than 0.
    Grpc(u16),
    /// An upgrade to WebSocket was answered otherwise than it has to be.
    WsAccept,
    /// It was not answered within the timeout.
    WsTimeout,
    /// What the server sent is no message of bytes that was asked for.
    WsProtocol,
    /// The server closed, and gave a code for it.
    WsClose(u16),
    /// Due while as many requests as may be were in flight.
    Overload,
    /// No source tuple was left to open a connection from.
    TuplesExhausted,
    /// The server's certificate is not valid any more.
    TlsExpired,
    /// The server's certificate is not valid yet.
    TlsNotYetValid,
    /// Nobody who is trusted has signed the server's certificate.
    TlsUnknownAuthority,
    /// The server's certificate is for another name.
    TlsWrongName,
    /// The two sides have no version of TLS in common.
    TlsVersion,
    /// The two sides have no version of HTTP in common.
    TlsProtocol,
    /// The stream ended during the handshake.
    TlsClosed,
    /// A RST came during the handshake.
    TlsReset,
    /// The handshake was not over within the timeout.
    TlsTimeout,
    /// The handshake failed otherwise.
    TlsOther,
    /// No name of the search path exists, or none of them has an address.
    DnsNxdomain,
    /// The name was not resolved within the timeout.
    DnsTimeout,
    /// The server of names could not say.
    DnsServfail,
    /// The server of names does not serve such names.
    DnsRefused,
    /// ICMP said that the server of names is not there, or there is no route to it.
    DnsUnreachable,
    /// The name has another address than it should have.
    DnsAddress,
    /// The name was not resolved for another reason.
    DnsOther,
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

    /// What an error of sending a query or of receiving its answer means.
    pub(super) fn of_query(error: &io::Error) -> Self {
        match error.kind() {
            // A connected socket of datagrams is told of an ICMP error at its next call: udp(7).
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::DnsUnreachable,
            _ => Self::DnsOther,
        }
    }

    /// What an error of a read or write means.
    pub(super) fn of_stream(error: &io::Error) -> Self {
        match error.kind() {
            // A write after the peer's RST was taken note of is EPIPE: tcp(7).
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::Timeout,
            // A stream of TLS that ends without saying so.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Other,
        }
    }

    /// What an error of a TLS handshake means.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = of_tls {
            return Self::of_tls(error);
        }
        match Self::of_stream(error) {
            Self::Reset => Self::TlsReset,
            Self::Closed => Self::TlsClosed,
            Self::Timeout => Self::TlsTimeout,
            _ => Self::TlsOther,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
        match error {
            Error::InvalidCertificate(wrong) => match wrong {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::TlsExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::TlsNotYetValid
                }
                // A certificate of an authority of the same name and another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::TlsUnknownAuthority
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::TlsWrongName,
                _ => Self::TlsOther,
            },
            Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::TlsVersion,
            Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::TlsProtocol,
            _ => Self::TlsOther,
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
            Self::Grpc(code) => return write!(f, "grpc_{code}"),
            Self::WsAccept => "ws_accept",
            Self::WsTimeout => "ws_timeout",
            Self::WsProtocol => "ws_protocol",
            Self::WsClose(code) => return write!(f, "ws_close_{code}"),
            Self::Overload => "overload",
            Self::TuplesExhausted => "tuples_exhausted",
            Self::TlsExpired => "tls_expired",
            Self::TlsNotYetValid => "tls_not_yet_valid",
            Self::TlsUnknownAuthority => "tls_unknown_authority",
            Self::TlsWrongName => "tls_wrong_name",
            Self::TlsVersion => "tls_version",
            Self::TlsProtocol => "tls_protocol",
            Self::TlsClosed => "tls_closed",
            Self::TlsReset => "tls_reset",
            Self::TlsTimeout => "tls_timeout",
            Self::TlsOther => "tls_other",
            Self::DnsNxdomain => "dns_nxdomain",
            Self::DnsTimeout => "dns_timeout",
            Self::DnsServfail => "dns_servfail",
            Self::DnsRefused => "dns_refused",
            Self::DnsUnreachable => "dns_unreachable",
            Self::DnsAddress => "dns_address",
            Self::DnsOther => "dns_other",
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
