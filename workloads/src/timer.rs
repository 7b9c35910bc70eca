// SPDX-License-Identifier: Apache-2.0
//! Waiting for a moment to within microseconds.
//!
//! The runtime's own timers tick in milliseconds, and make it read the clock twice each time it waits
//! for a socket: a system call where there is no vDSO, as in User-Mode Linux. A timerfd is an hrtimer without slack
//! (fs/timerfd.c), and the runtime waits for it as for any socket. What remains is the time an idle
//! processor takes to wake, tens of microseconds: the timer is set that much early, and the rest is
//! spent polling sockets. Polling all the time would be later, not sooner, wherever the load client
//! shares its cores: the scheduler takes the processor from whoever never gives it back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock::now_ns;

/// How much early the timer is set, nanoseconds.
const POLLED_NS: u64 = 60_000;

#[derive(Debug)]
struct Fd(TimerFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A timer of CLOCK_MONOTONIC.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: AsyncFd<Fd>,
}

impl Timer {
    /// Makes a timer; needs a runtime.
    #[expect(unsafe_code, reason = "the runtime takes descriptors it does not own on trust only")]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // SAFETY: `Fd` owns the timerfd, names the same one every time, and closes it only when
        // the `AsyncFd` that owns it is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(Fd(fd), Interest::READABLE) }?;
        Ok(Self { fd })
    }

    /// Waits until `due_ns`; returns at once when that is past.
    pub(crate) async fn until(&self, due_ns: u64) -> io::Result<()> {
        while let Some(wait_ns @ 1..) = due_ns.checked_sub(now_ns()) {
            if wait_ns <= POLLED_NS {
                tokio::task::yield_now().await;
                continue;
            }
            let due = Duration::from_nanos(due_ns - POLLED_NS);
            self.expire(due, TimerSetTimeFlags::TFD_TIMER_ABSTIME).await?;
        }
        Ok(())
    }

    /// Waits that long, and the time that waking takes.
    pub(crate) async fn rest(&self, duration: Duration) -> io::Result<()> {
        // A duration of zero would disarm the timer.
        self.expire(duration.max(Duration::from_nanos(1)), TimerSetTimeFlags::empty()).await
    }

    async fn expire(&self, time: Duration, flags: TimerSetTimeFlags) -> io::Result<()> {
        self.fd.get_ref().0.set(Expiration::OneShot(TimeSpec::from(time)), flags)?;
        // Setting the timer resets its count of expirations, so that it need not be read.
        self.fd.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_after_its_moment_and_not_a_tick_later() {
        let timer = Timer::new().unwrap();
        let mut least_late_ns = u64::MAX;
        for _ in 0..20 {
            let due_ns = now_ns() + 300_000;
            timer.until(due_ns).await.unwrap();
            let now_ns = now_ns();
            assert!(now_ns >= due_ns);
            least_late_ns = least_late_ns.min(now_ns - due_ns);
        }
        // The best of twenty, so that a busy machine does not matter; a millisecond timer would
        // be late by 700 microseconds each time.
        assert!(least_late_ns < 500_000, "late by {least_late_ns} ns at best");
    }

    #[tokio::test]
    async fn a_rest_is_as_long_as_asked_or_longer() {
        let timer = Timer::new().unwrap();
        for rest in [Duration::ZERO, Duration::from_millis(2), Duration::from_millis(1)] {
            let start_ns = now_ns();
            timer.rest(rest).await.unwrap();
            assert!(now_ns() - start_ns >= rest.as_nanos() as u64);
        }
    }

    #[tokio::test]
    async fn a_past_moment_is_not_waited_for() {
        let timer = Timer::new().unwrap();
        timer.until(0).await.unwrap();
        timer.until(now_ns()).await.unwrap();
    }
}
