// SPDX-License-Identifier: Apache-2.0
//! The offset between the clock packets are stamped by and the clock everything else is timed by.

use nix::time::{ClockId, clock_gettime};

/// Readings tried; the tightest counts.
const READINGS: usize = 64;

/// CLOCK_REALTIME minus CLOCK_MONOTONIC.
///
/// Both are slewed alike (`timekeeping.c`), so the offset only changes when the wall clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// The offset, nanoseconds.
    pub offset_ns: i64,
    /// Time between the two monotonic readings around the wall clock's; the offset is wrong by at
    /// most half of it. Nanoseconds.
    pub width_ns: u64,
}

impl ClockOffset {
    /// Measures it: wall clock between two monotonic readings, the tightest of many.
    pub(super) fn measure() -> nix::Result<Self> {
        let mut best: Option<Self> = None;
        for _ in 0..READINGS {
            let before = now_ns(ClockId::CLOCK_MONOTONIC)?;
            let wall = now_ns(ClockId::CLOCK_REALTIME)?;
            let after = now_ns(ClockId::CLOCK_MONOTONIC)?;
            let width_ns = after.saturating_sub(before);
            if best.is_none_or(|best| width_ns < best.width_ns) {
                let middle = before + width_ns / 2;
                best = Some(Self { offset_ns: wall as i64 - middle as i64, width_ns });
            }
        }
        Ok(best.expect("at least one reading is made"))
    }

    /// The same instant on CLOCK_MONOTONIC.
    pub(super) fn monotonic_ns(self, realtime_ns: u64) -> u64 {
        realtime_ns.saturating_add_signed(self.offset_ns.saturating_neg())
    }

    /// The same instant on CLOCK_REALTIME.
    pub fn realtime_ns(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.offset_ns)
    }

    /// How far the wall clock was moved between this measurement and a later one, beyond what the
    /// two may be wrong by.
    pub(super) fn moved_ns(self, later: Self) -> i64 {
        let moved = later.offset_ns - self.offset_ns;
        let doubt = (self.width_ns + later.width_ns).div_ceil(2) as i64;
        moved.signum() * (moved.abs() - doubt).max(0)
    }
}

/// A clock's reading, nanoseconds.
pub(super) fn now_ns(clock: ClockId) -> nix::Result<u64> {
    let now = clock_gettime(clock)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_way_there_and_back() {
        let offset = ClockOffset { offset_ns: 1_790_000_000_000_000_123, width_ns: 40 };
        assert_eq!(
            offset.realtime_ns(offset.monotonic_ns(1_790_000_000_000_001_000)),
            1_790_000_000_000_001_000
        );
    }

    #[test]
    fn two_measurements_of_an_untouched_clock_agree() {
        let first = ClockOffset::measure().unwrap();
        let second = ClockOffset::measure().unwrap();
        assert_eq!(first.moved_ns(second), 0, "{first:?} {second:?}");
    }

    #[test]
    fn a_step_is_reported_without_its_doubt_and_with_its_sign() {
        let at = |offset_ns| ClockOffset { offset_ns, width_ns: 100 };
        assert_eq!(at(0).moved_ns(at(90)), 0);
        assert_eq!(at(0).moved_ns(at(5_100)), 5_000);
        assert_eq!(at(0).moved_ns(at(-5_100)), -5_000);
    }
}
