// SPDX-License-Identifier: Apache-2.0
//! Where a stream's bytes are on the wire, which are not those that its reader sees where TLS is
//! between.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::direction::Start;
use super::gate::Gate;

/// A stream whose bytes may be carried by others.
pub(crate) trait Carried: AsyncRead + AsyncWrite + Unpin {
    /// Where on the wire what was read last begins, and when that was read; `None` where it is what
    /// was read.
    fn arrived(&self) -> Option<Start>;

    /// Bytes that were written to the wire so far; `None` where they are those that were written.
    fn written(&self) -> Option<u64>;
}

impl Carried for TcpStream {
    fn arrived(&self) -> Option<Start> {
        None
    }

    fn written(&self) -> Option<u64> {
        None
    }
}

impl Carried for TlsStream<Gate> {
    fn arrived(&self) -> Option<Start> {
        Some(self.get_ref().0.arrived())
    }

    fn written(&self) -> Option<u64> {
        Some(self.get_ref().0.written())
    }
}
