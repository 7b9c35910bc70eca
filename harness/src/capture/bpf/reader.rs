// SPDX-License-Identifier: Apache-2.0
//! The thread that empties the ring.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::time::{ClockId, clock_gettime};

use super::event::Event;
use super::probes::ProbeCapture;
use super::ring::{Ring, Slot};
use crate::bpf::BpfError;
use crate::capture::CaptureError;

/// How often the ring is looked at. Probes wake nobody; at half a million events a second the ring
/// has room for a quarter of a second.
const LOOK: Duration = Duration::from_millis(5);
/// How long an event may be claimed and not written: a probe takes less than a microsecond, but the
/// host may stop its processor in the middle.
const PENDING_LIMIT: Duration = Duration::from_secs(2);
/// Events kept between two drains, 64 bytes each; more are counted as dropped.
const EVENTS_MAX: usize = 8_000_000;

type Reply = mpsc::SyncSender<Result<ProbeCapture, CaptureError>>;

/// A ring and the thread that reads it.
#[derive(Debug)]
pub(super) struct Reader {
    asks: Option<mpsc::Sender<Reply>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts to read `ring`; `variables` are the programs' own, the count of events first.
    pub(super) fn start(
        ring: Ring,
        variables: MapHandle,
        events_max: Option<usize>,
    ) -> Result<Self, CaptureError> {
        let (asks, queue) = mpsc::channel();
        let events_max = events_max.unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
        let tail = Tail { ring, variables, next: 0, events: Vec::new(), events_max, dropped: 0 };
        let thread = std::thread::Builder::new()
            .name("probes".to_owned())
            .spawn(move || tail.follow(&queue))
            .map_err(CaptureError::os("start the thread of", "probes"))?;
        Ok(Self { asks: Some(asks), thread: Some(thread) })
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

/// The end of the ring that is read.
#[derive(Debug)]
struct Tail {
    ring: Ring,
    variables: MapHandle,
    /// Number of the next event to read.
    next: u64,
    events: Vec<Event>,
    events_max: usize,
    dropped: u64,
}

impl Tail {
    fn follow(mut self, asks: &mpsc::Receiver<Reply>) {
        let mut cpu_before_ns = 0;
        loop {
            match asks.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // An error is told to the next one who asks: it will be the same.
                    let _ = self.read();
                }
                Ok(reply) => {
                    let answer = self.read_all().map(|()| {
                        let cpu_ns = thread_cpu_ns();
                        ProbeCapture {
                            events: std::mem::take(&mut self.events),
                            dropped: std::mem::take(&mut self.dropped),
                            reader_ns: cpu_ns - std::mem::replace(&mut cpu_before_ns, cpu_ns),
                        }
                    });
                    // Whoever asked may have given up.
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// Reads what is claimed by now, and waits for what is not yet written.
    fn read_all(&mut self) -> Result<(), CaptureError> {
        let claimed = self.claimed()?;
        let deadline = Instant::now() + PENDING_LIMIT;
        while self.next < claimed {
            self.read_to(claimed);
            if self.next < claimed && Instant::now() > deadline {
                return Err(CaptureError::Stalled {
                    tap: "the ring of events".to_owned(),
                    missing: claimed - self.next,
                    waited_ms: PENDING_LIMIT.as_millis() as u64,
                });
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), CaptureError> {
        let claimed = self.claimed()?;
        self.read_to(claimed);
        Ok(())
    }

    fn read_to(&mut self, claimed: u64) {
        // What lies a whole ring back is gone.
        let oldest = claimed.saturating_sub(self.ring.slots());
        self.dropped += oldest.saturating_sub(self.next);
        self.next = self.next.max(oldest);
        while self.next < claimed {
            match self.ring.read(self.next) {
                Slot::Pending => return,
                Slot::Overwritten => self.dropped += 1,
                Slot::Event(bytes) => match Event::read(&bytes[..self.ring.event_bytes()]) {
                    Some(event) if self.events.len() < self.events_max => self.events.push(event),
                    _ => self.dropped += 1,
                },
            }
            self.next += 1;
        }
    }

    /// Events claimed so far.
    fn claimed(&self) -> Result<u64, CaptureError> {
        let value = self
            .variables
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(BpfError::map("variables"))?;
        let eight = value.as_deref().and_then(|value| value.first_chunk::<8>());
        let eight = eight.ok_or_else(|| BpfError::NoSuch("variable `claimed`".to_owned()))?;
        Ok(u64::from_ne_bytes(*eight))
    }
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
