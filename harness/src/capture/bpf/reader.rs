// SPDX-License-Identifier: Apache-2.0
//! The thread that empties the ring.

use std::cell::RefCell;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle, RingBufferBuilder};
use nix::time::{ClockId, clock_gettime};

use super::event::Event;
use super::probes::ProbeCapture;
use crate::bpf::BpfError;
use crate::capture::CaptureError;

/// How often the ring is looked at. Probes wake nobody; at half a million events a second the ring
/// has room for half a second.
const LOOK: Duration = Duration::from_millis(5);
/// Events kept between two drains, 64 bytes each; more are counted as dropped.
const EVENTS_MAX: usize = 8_000_000;

type Reply = mpsc::SyncSender<Result<ProbeCapture, CaptureError>>;

/// A ring and the thread that reads it.
#[derive(Debug)]
pub(super) struct Reader {
    asks: Option<mpsc::Sender<Reply>>,
    thread: Option<JoinHandle<()>>,
}

/// What was read and not yet handed out.
#[derive(Debug, Default)]
struct Store {
    events: Vec<Event>,
    overflowed: u64,
}

impl Reader {
    /// Starts to read `ring`; `variables` are the programs' own, the count of dropped events first.
    pub(super) fn start(ring: MapHandle, variables: MapHandle) -> Result<Self, CaptureError> {
        let (asks, queue) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("probes".to_owned())
            .spawn(move || read(&ring, &variables, &queue, &ready))
            .map_err(CaptureError::os("start the thread of", "probes"))?;
        let reader = Self { asks: Some(asks), thread: Some(thread) };
        started.recv().ok().ok_or_else(gone)??;
        Ok(reader)
    }

    pub(super) fn drain(&self) -> Result<ProbeCapture, CaptureError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let asks = self.asks.as_ref().expect("present until drop");
        asks.send(reply).ok().ok_or_else(gone)?;
        answer.recv().ok().ok_or_else(gone)?
    }
}

fn gone() -> CaptureError {
    CaptureError::ReaderEnded(" before it was told to".to_owned())
}

fn read(
    ring: &MapHandle,
    variables: &MapHandle,
    asks: &mpsc::Receiver<Reply>,
    ready: &mpsc::SyncSender<Result<(), CaptureError>>,
) {
    let store = RefCell::new(Store::default());
    let take = |bytes: &[u8]| {
        let mut store = store.borrow_mut();
        match Event::read(bytes) {
            Some(event) if store.events.len() < EVENTS_MAX => store.events.push(event),
            _ => store.overflowed += 1,
        }
        0
    };
    let mut builder = RingBufferBuilder::new();
    let built = builder
        .add(ring, take)
        .map_err(BpfError::map("events"))
        .map(drop)
        .and_then(|()| builder.build().map_err(BpfError::map("events")));
    let rings = match built {
        Ok(rings) => rings,
        Err(error) => {
            // Whoever started this thread is waiting for exactly this.
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let (mut dropped_before, mut cpu_before_ns) = (0, 0);
    loop {
        match asks.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // Our own callback never fails.
                let _ = rings.consume();
            }
            Ok(reply) => {
                let _ = rings.consume();
                let Store { events, overflowed } = store.take();
                let answer = dropped(variables).map(|dropped| {
                    let cpu_ns = thread_cpu_ns();
                    ProbeCapture {
                        events,
                        dropped: dropped - std::mem::replace(&mut dropped_before, dropped)
                            + overflowed,
                        reader_ns: cpu_ns - std::mem::replace(&mut cpu_before_ns, cpu_ns),
                    }
                });
                // Whoever asked may have given up.
                let _ = reply.send(answer.map_err(CaptureError::from));
            }
        }
    }
}

/// Events dropped by the programs so far.
fn dropped(variables: &MapHandle) -> Result<u64, BpfError> {
    let value = variables
        .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(BpfError::map("variables"))?
        .ok_or_else(|| BpfError::NoSuch("variable `dropped`".to_owned()))?;
    let eight = value.get(..8).ok_or_else(|| BpfError::NoSuch("variable `dropped`".to_owned()))?;
    Ok(u64::from_ne_bytes(eight.try_into().expect("eight bytes")))
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every thread has a clock of its own processor time");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.asks.take();
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, was told to whoever asked it.
            let _ = thread.join();
        }
    }
}
