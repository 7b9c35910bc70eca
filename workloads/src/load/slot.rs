// SPDX-License-Identifier: Apache-2.0
//! A place for one request in flight, and the loop that fills it again and again.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::failure::Failure;
use super::link::Link;
use super::phase::{Phase, rest};
use crate::clock::now_ns;
use crate::protocol::{Arrival, Connection};

/// After a failure a closed loop starts its next request no sooner than this after the failed
/// one, nanoseconds: a dead target costs a thousand attempts per second and connection, no more.
const RETRY_NS: u64 = 1_000_000;

/// What the phase and a slot's own loop tell each other.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Intended start of the request to send next, set by the pacer of an open loop.
    pub(super) due_ns: Cell<Option<u64>>,
    /// When the attempt under way is given up, nanoseconds.
    deadline_ns: Cell<Option<u64>>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    /// Wakes the slot's loop.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Gives the attempt under way up if its time is over.
    pub(super) fn sweep(&self, now_ns: u64) {
        if self.deadline_ns.get().is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            self.deadline_ns.set(None);
            self.expired.set(true);
            self.wake();
        }
    }

    fn begin(&self, deadline_ns: u64) {
        self.expired.set(false);
        self.deadline_ns.set(Some(deadline_ns));
    }

    /// Awaits `work` until the deadline; `None` when that came first.
    async fn within<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.expired.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// The one loop of every workload: awaits a start, sees to a connection, exchanges, records.
pub(super) async fn work(phase: Rc<Phase>, index: usize, mut held: Option<Link>) {
    let slot = &phase.slots[index];
    poll_fn(|cx| {
        *slot.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    })
    .await;
    let mut ready_ns = phase.start_ns.get();
    let mut failed = false;
    while let Some(intended_ns) = next_start(&phase, index, ready_ns, failed, &mut held).await {
        let attempt_ns = match phase.spec.arrival {
            // It starts at once: a look at the clock is spared, a system call where there is no vDSO.
            Arrival::Closed { .. } => intended_ns,
            Arrival::Open { .. } => now_ns(),
        };
        slot.begin(attempt_ns + phase.timeout_ns);
        let requested = request(&phase, slot, intended_ns, &mut held).await;
        failed = requested.is_err();
        ready_ns = match requested {
            Ok(last_byte_ns) => last_byte_ns,
            Err(failure) => {
                let now_ns = now_ns();
                phase.failed(failure, now_ns);
                now_ns.max(attempt_ns + RETRY_NS)
            }
        };
        slot.deadline_ns.set(None);
    }
}

/// Awaits the intended start of the slot's next request; `None` when there is none. `ready_ns` is
/// when the slot became free, which lies ahead only where its last request `failed`.
async fn next_start(
    phase: &Phase,
    index: usize,
    ready_ns: u64,
    failed: bool,
    held: &mut Option<Link>,
) -> Option<u64> {
    let intended_ns = match phase.spec.arrival {
        Arrival::Closed { .. } => {
            if !phase.take_start(ready_ns) {
                return None;
            }
            while failed && let Some(wait_ns @ 1..) = ready_ns.checked_sub(now_ns()) {
                if rest(Duration::from_nanos(wait_ns)).await.is_err() {
                    // Out of files, so that there is no timer to be had.
                    tokio::task::yield_now().await;
                }
            }
            ready_ns
        }
        Arrival::Open { .. } => {
            phase.await_start(index);
            poll_fn(|cx| {
                // An idle connection still has pings to answer and an end to take note of.
                if let Some(link) = held.as_mut() {
                    link.drive(cx);
                }
                match phase.slots[index].due_ns.take() {
                    Some(due_ns) => Poll::Ready(Some(due_ns)),
                    None if phase.is_over() => Poll::Ready(None),
                    None => Poll::Pending,
                }
            })
            .await?
        }
    };
    Some(intended_ns)
}

/// Carries out one request and records it. Returns when its last byte came.
async fn request(
    phase: &Phase,
    slot: &Slot,
    intended_ns: u64,
    held: &mut Option<Link>,
) -> Result<u64, Failure> {
    let (mut link, fresh) = match held.take().filter(Link::is_open) {
        Some(link) => (link, false),
        None => {
            let opening = Cell::default();
            let opened = slot.within(phase.open(&opening)).await;
            (opened.unwrap_or_else(|| Err(phase.late(opening.get())))?, true)
        }
    };
    let exchanged = slot.within(link.exchange(&phase.template)).await;
    let answered = exchanged.unwrap_or(Err(Failure::Timeout))?;
    if answered.verdict.is_ok() {
        phase.answered(intended_ns, &link, fresh, &answered);
    }
    if phase.spec.connection == Connection::Keepalive
        && slot.within(link.settle()).await == Some(true)
    {
        *held = Some(link);
    }
    answered.verdict.map(|()| answered.last_byte_ns)
}
