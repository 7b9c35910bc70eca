// SPDX-License-Identifier: Apache-2.0
//! Removes what the programs take for absent already: entries past their timeout.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::connection::Connection;
use super::kernel::Tables;
use super::{Ebpf, entry};
use crate::bpf::BpfError;

/// A thread that sweeps until this is dropped.
#[derive(Debug)]
pub(super) struct Sweeper {
    /// Hung up, the thread ends.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<(), BpfError>>>,
}

impl Sweeper {
    pub(super) fn start(options: &Ebpf, tables: Tables) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let (every, timeouts_ns) = (options.sweep_every, entry::timeouts_ns(options));
        let thread = std::thread::Builder::new()
            .name("ebpf sweeper".to_owned())
            .spawn(move || sweep_until(&stopped, every, &tables, timeouts_ns))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the thread and says what went wrong in it.
    pub(super) fn down(mut self) -> Result<(), BpfError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), BpfError> {
        self.stop.take();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // Whoever wants to know calls `down`.
        self.stop.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn sweep_until(
    stopped: &Receiver<()>,
    every: Duration,
    tables: &Tables,
    timeouts_ns: [u64; 8],
) -> Result<(), BpfError> {
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        sweep(tables, timeouts_ns)?;
    }
    Ok(())
}

/// A new connection may take the place of an ended one between the look at it and its removal. It
/// would have to come from the same port within microseconds, and the SYN's repetition mends it.
fn sweep(tables: &Tables, timeouts_ns: [u64; 8]) -> Result<(), BpfError> {
    let now_ns = monotonic_ns();
    for (key, value) in tables.connections.entries()? {
        let over = Connection::from_bytes(&value).is_none_or(|connection| {
            now_ns.saturating_sub(connection.seen_ns) >= timeouts_ns[connection.state as usize]
        });
        if over {
            tables.connections.remove(&key)?;
        }
    }
    for (key, value) in tables.affinities.entries()? {
        if entry::affinity(&value).is_none_or(|(until_ns, _)| now_ns >= until_ns) {
            tables.affinities.remove(&key)?;
        }
    }
    Ok(())
}

/// The programs' clock, `bpf_ktime_get_coarse_ns()`, is this one as of the last tick.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has this clock");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec()).unwrap_or(0)
}
