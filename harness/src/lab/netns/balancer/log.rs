// SPDX-License-Identifier: Apache-2.0
//! What a load balancer writes down: one datagram for each followed connection, with the addresses of the
//! two that it joined.

use std::net::SocketAddrV4;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::netns::NetnsError;
use crate::net::{NetError, Netns};
use crate::relay::Relay;

/// Datagrams that may wait in the socket: ten unless it is said before the socket is made
/// (`net/unix/af_unix.c`, `unix_create1()`).
const QUEUE: (&str, &str) = ("net/unix/max_dgram_qlen", "65536");
/// Longest datagram, bytes: three addresses and ports.
const LINE: usize = 512;
/// Pairs of connections remembered until they are asked for.
const RELAYS: usize = 1 << 18;
/// How often the reader looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Written {
    relays: Vec<Relay>,
    not_kept: u64,
    /// The first line that is no pair.
    strange: Option<String>,
}

/// Reads what is written down. Ends when dropped.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    written: Arc<Mutex<Written>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Listens at a socket in the file system.
    pub(super) fn listen(host: &Netns, path: PathBuf) -> Result<Self, NetnsError> {
        host.write_sysctls([QUEUE])?;
        let at = path.clone();
        // The queue's length is that of the namespace the socket is made in.
        let socket = host
            .run(move || UnixDatagram::bind(at))
            .and_then(|socket| socket.set_read_timeout(Some(GLANCE)).map(|()| socket))
            .map_err(NetError::os("listen at", path.display().to_string()))?;
        let (written, over) = (Arc::<Mutex<Written>>::default(), Arc::<AtomicBool>::default());
        let (to, until) = (written.clone(), over.clone());
        let reader = std::thread::Builder::new()
            .name("balancer-log".to_owned())
            .spawn(move || read(&socket, &to, &until))
            .map_err(NetError::os("start", "a thread for the load balancer's log"))?;
        Ok(Self { path, written, over, reader: Some(reader) })
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was written since the last call.
    pub(super) fn take(&self) -> Result<Vec<Relay>, NetnsError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Written { relays, not_kept, strange } = std::mem::take(&mut *written);
        match strange {
            Some(line) => {
                Err(NetnsError::Balancer(format!("it wrote `{line}`, which is no connection")))
            }
            None if not_kept > 0 => Err(NetnsError::Balancer(format!(
                "{not_kept} sampled connections were not remembered; sample fewer (sample_every)"
            ))),
            None => Ok(relays),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It does not panic; if it did, there is nobody to tell.
            let _ = reader.join();
        }
    }
}

fn read(socket: &UnixDatagram, to: &Mutex<Written>, over: &AtomicBool) {
    let mut buffer = [0; LINE];
    while !over.load(Ordering::Relaxed) {
        // Nothing within a glance.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let line = String::from_utf8_lossy(&buffer[..length]);
        let mut written = to.lock().unwrap_or_else(PoisonError::into_inner);
        match pair(&line) {
            Some(_) if written.relays.len() >= RELAYS => written.not_kept += 1,
            Some(relay) => written.relays.push(relay),
            // The client had gone before there was a second one.
            None if line.contains("-:-") => {}
            None => {
                written.strange.get_or_insert_with(|| line.trim().to_owned());
            }
        }
    }
}

/// `client upstream backend`, each an address and a port.
fn pair(line: &str) -> Option<Relay> {
    let mut addresses = line.split_ascii_whitespace().map(str::parse::<SocketAddrV4>);
    let (client, upstream, backend) =
        (addresses.next()?.ok()?, addresses.next()?.ok()?, addresses.next()?.ok()?);
    addresses.next().is_none().then_some(Relay { client, upstream, backend })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_three_addresses_and_nothing_else() {
        let relay = pair("10.8.0.1:1024 10.8.255.253:40000 10.9.0.11:30080\n").unwrap();
        assert_eq!(relay.upstream, "10.8.255.253:40000".parse().unwrap());
        assert_eq!(relay.backend, "10.9.0.11:30080".parse().unwrap());
        for wrong in
            ["", "10.8.0.1:1024 10.8.255.253:40000", "a b c", "1.2.3.4:1 1.2.3.4:2 1.2.3.4:3 x"]
        {
            assert_eq!(pair(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_pair_or_none(line in ".{0,600}") {
            let _ = pair(&line);
        }
    }
}
