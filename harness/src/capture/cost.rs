// SPDX-License-Identifier: Apache-2.0
//! What probe programs cost the packets.

use std::ops::{AddAssign, Sub};

use record::Probe;
use serde::{Deserialize, Serialize};

/// What the programs cost the packets, by the kernel's own count while it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Times a probe ran, on whatever packet.
    pub runs: u64,
    /// Time in all of them, nanoseconds. Reading the clock for this count is in it.
    pub time_ns: u64,
    /// Runs of the empty program.
    pub empty_runs: u64,
    /// Time in them, nanoseconds: what the count itself costs.
    pub empty_time_ns: u64,
}

impl Sub for Cost {
    type Output = Self;

    /// What was added since `before`; the kernel's counts only grow.
    fn sub(self, before: Self) -> Self {
        Self {
            runs: self.runs.saturating_sub(before.runs),
            time_ns: self.time_ns.saturating_sub(before.time_ns),
            empty_runs: self.empty_runs.saturating_sub(before.empty_runs),
            empty_time_ns: self.empty_time_ns.saturating_sub(before.empty_time_ns),
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.runs = self.runs.saturating_add(other.runs);
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
        self.empty_runs = self.empty_runs.saturating_add(other.empty_runs);
        self.empty_time_ns = self.empty_time_ns.saturating_add(other.empty_time_ns);
    }
}

/// Sums of times that are multiples of this are not times but ticks. The kernel counts programs'
/// time by `sched_clock()`, which is the tick where an architecture has nothing better
/// (`kernel/sched/clock.c`): ten milliseconds at most, one at least.
const TICK_NS: u64 = 1_000_000;

/// What the programs cost while the kernel counted, for the record.
#[derive(Clone, Copy, Debug)]
pub struct ProgramCost {
    runs: u64,
    times: Option<ProgramTimes>,
    told: bool,
}

#[derive(Clone, Copy, Debug)]
struct ProgramTimes {
    ns_per_run: f64,
    ns_per_empty_run: Option<f64>,
    ns_per_event: f64,
}

impl ProgramCost {
    /// Of a block in which the kernel counted `cost` and `events` were seen; `None` without events.
    pub fn of(cost: Cost, events: u64) -> Option<Self> {
        let Cost { runs, time_ns, empty_runs, empty_time_ns } = cost;
        let ticks = time_ns.is_multiple_of(TICK_NS) && empty_time_ns.is_multiple_of(TICK_NS);
        let ns_per_empty_run = (empty_runs > 0).then(|| empty_time_ns as f64 / empty_runs as f64);
        // What counting costs is not there when nobody counts.
        let counting_ns = ns_per_empty_run.unwrap_or(0.0) * runs as f64;
        let own_ns = (time_ns as f64 - counting_ns).max(0.0);
        let times = ProgramTimes {
            ns_per_run: time_ns as f64 / runs.max(1) as f64,
            ns_per_empty_run,
            ns_per_event: own_ns / events as f64,
        };
        let times = (!ticks).then_some(times);
        (events > 0).then_some(Self { runs, times, told: false })
    }

    /// Writes it into a block's record of its probes.
    pub fn tell(&mut self, probe: &mut Probe) {
        probe.ns_per_event = self.times.map(|times| times.ns_per_event);
        // Counted once, so told once.
        if !std::mem::replace(&mut self.told, true) {
            probe.runs = Some(self.runs);
            probe.ns_per_run = self.times.map(|times| times.ns_per_run);
            probe.ns_per_empty_run = self.times.and_then(|times| times.ns_per_empty_run);
        }
    }
}
