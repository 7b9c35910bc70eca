// SPDX-License-Identifier: Apache-2.0
//! The one clock of every time this crate reports.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, nanoseconds. All namespaces of a host share it; a time namespace (`time(7)`)
/// would shift it, and the lab makes none.
pub fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock"))
}

/// CLOCK_REALTIME since the epoch, nanoseconds: for appointments between machines only, because it may
/// be set.
pub fn unix_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::CLOCK_REALTIME).expect("every Linux has this clock"))
}

/// Processor time of the process so far, all threads, user and system, nanoseconds.
pub fn cpu_ns() -> u64 {
    nanoseconds(
        clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every Linux has this clock"),
    )
}

fn nanoseconds(time: TimeSpec) -> u64 {
    // None of the clocks is before zero, so that neither cast loses a sign.
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_the_one_instant_reads_and_never_goes_back() {
        let (first, instant) = (now_ns(), std::time::Instant::now());
        let second = now_ns();
        assert!(first <= second);
        // `Instant` is CLOCK_MONOTONIC too: over the same span the two must agree on its length.
        let spun = std::iter::repeat_with(|| instant.elapsed()).find(|e| e.as_micros() > 200);
        let elapsed_ns = now_ns() - first;
        assert!(elapsed_ns >= spun.unwrap().as_nanos() as u64);
    }

    #[test]
    fn processor_time_grows_while_the_process_computes() {
        let before = cpu_ns();
        let start = now_ns();
        while now_ns() - start < 2_000_000 {}
        assert!(cpu_ns() > before);
    }
}
