// SPDX-License-Identifier: Apache-2.0
//! A socket that an agent listens at.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};

/// Time between two looks for a listener.
const GLANCE: Duration = Duration::from_millis(10);
/// An agent that does not read for this long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// Connects, as soon as somebody listens. Nothing tells when a file appears in another mount
/// namespace, so it is looked for again and again, until `patience` is over.
pub(super) fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_write_timeout(Some(WRITE_PATIENCE))?;
                return Ok(stream);
            }
            Err(error) if may_come(&error) && Instant::now() < deadline => {
                std::thread::sleep(GLANCE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The file is not there yet, or its listener is not.
fn may_come(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Who listens, in this process's numbering (`unix(7)`, SO_PEERCRED); 0 for a process that has no
/// number in it.
pub(super) fn pid(stream: &UnixStream) -> io::Result<u32> {
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(peer.pid().try_into().unwrap_or(0))
}
