// SPDX-License-Identifier: Apache-2.0
//! The clocks of several machines made one, by the packets that went between them. Pure.
//!
//! Each kernel has a CLOCK_MONOTONIC of its own. A packet that leaves one machine at `t` by its clock
//! and reaches another at `u` by its own says that the clocks are at most `u - t` apart, whatever the
//! way took; one on the way back says the same of the other side. Between the quickest of both lies the
//! truth, and the middle is wrong by half their sum at most (as in NTP: RFC 5905, section 8). What a
//! way takes there and what it takes back cannot be told apart beyond that, ever; their sum can.
//!
//! Clocks drift against each other. One offset has to do for a window, or there is none; what the halves
//! of the window leave open, each by itself, is the error.

use std::collections::HashMap;

use record::Leg;

use super::packet::Segment;
use super::path::Host;
use super::{Direction, Packet, Path, Site, TapInfo};

/// How far a kernel's clock is from the first one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Its clock less the first one's, nanoseconds.
    pub ns: i64,
    /// How far that may be from the truth, nanoseconds.
    pub error_ns: u64,
}

impl Offset {
    /// A time of this clock by the first one.
    pub fn to_first(self, time_ns: u64) -> u64 {
        // Nothing that was seen was before the first clock began.
        (time_ns as i64).saturating_sub(self.ns).max(0) as u64
    }
}

/// Clocks cannot be aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlignError {
    /// Nothing that was seen went both ways, by whatever machines between.
    #[error("failed to align the clocks of kernels {first} and {second}: no packets both ways")]
    NoWay {
        /// Index of a kernel.
        first: usize,
        /// Index of the other.
        second: usize,
    },
    /// They go so differently that the order of events cannot be told.
    #[error(
        "failed to align the clocks of kernels {first} and {second}: they drift apart by more than \
         packets take, {by_ns} ns"
    )]
    Drift {
        /// Index of a kernel.
        first: usize,
        /// Index of the other.
        second: usize,
        /// How much more.
        by_ns: u64,
    },
}

/// A packet on its way between two kernels. Of two, the one with the lower index is the first.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    /// When, by the first's clock.
    at_ns: u64,
    /// The most, or with `back` the least, that the second's clock is ahead.
    bound_ns: i64,
    /// Whether it went to the first.
    back: bool,
}

/// Offsets of `kernels` clocks from the first one's; `kernel_of` says whose each tap's is. Packets are
/// those of one window.
///
/// # Errors
/// The packets do not say.
pub fn align(
    path: &Path,
    taps: &[TapInfo],
    kernel_of: &[usize],
    kernels: usize,
    packets: &[Packet],
) -> Result<Vec<Offset>, AlignError> {
    if kernels <= 1 {
        return Ok(vec![Offset::default(); kernels]);
    }
    let mut between: HashMap<(usize, usize), Vec<Crossing>> = HashMap::new();
    for passages in passages(path, taps, packets).into_values() {
        for pair in passages.windows(2) {
            let [(_, from, from_ns), (_, to, to_ns)] =
                [pair[0], pair[1]].map(|(hop, tap, ns)| (hop, kernel_of[usize::from(tap)], ns));
            if from == to {
                continue;
            }
            let ns = to_ns as i64 - from_ns as i64;
            let crossing = match from < to {
                true => Crossing { at_ns: from_ns, bound_ns: ns, back: false },
                false => Crossing { at_ns: to_ns, bound_ns: -ns, back: true },
            };
            between.entry((from.min(to), from.max(to))).or_default().push(crossing);
        }
    }
    let mut known = vec![None; kernels];
    known[0] = Some(Offset::default());
    let mut drift = None;
    // At most one kernel is learned a round, or all are that can be.
    for _ in 1..kernels {
        for (&(first, second), crossings) in &between {
            let (from, to, sign) = match (known[first], known[second]) {
                (Some(offset), None) => (offset, second, 1),
                (None, Some(offset)) => (offset, first, -1),
                _ => continue,
            };
            match offset(crossings) {
                Ok(Some(step)) => {
                    known[to] = Some(Offset {
                        ns: from.ns.saturating_add(sign * step.ns),
                        error_ns: from.error_ns.saturating_add(step.error_ns),
                    });
                }
                Ok(None) => {}
                Err(by_ns) => drift = Some(AlignError::Drift { first, second, by_ns }),
            }
        }
    }
    let unknown = |second| drift.unwrap_or(AlignError::NoWay { first: 0, second });
    known.iter().enumerate().map(|(kernel, offset)| offset.ok_or(unknown(kernel))).collect()
}

/// Segment by what no translation changes.
type Key = (u32, u32, Option<u32>, u32, u8);
/// Hop, tap, time.
type Passage = (usize, u16, u64);

/// Where each segment was seen, in the order of its way. One that was seen twice at a hop, as what is
/// sent again may be, tells nothing.
fn passages(path: &Path, taps: &[TapInfo], packets: &[Packet]) -> HashMap<Key, Vec<Passage>> {
    let mut seen: HashMap<Key, Vec<&Packet>> = HashMap::new();
    for packet in packets {
        let Some(tap) = taps.get(usize::from(packet.tap)) else { continue };
        // What is readable is a sum of segments.
        if tap.site != Site::Readable {
            seen.entry(key(&packet.segment)).or_default().push(packet);
        }
    }
    let mut all = HashMap::new();
    for (key, packets) in seen {
        let Some(leg) = packets.iter().find_map(|packet| leg(taps, packet)) else { continue };
        let mut passages: Vec<Passage> = packets
            .iter()
            .filter_map(|packet| Some((hop(path, taps, packet, leg)?, packet.tap, packet.time_ns)))
            .collect();
        passages.sort_unstable();
        if passages.windows(2).all(|pair| pair[0].0 != pair[1].0) {
            all.insert(key, passages);
        }
    }
    all
}

fn key(segment: &Segment) -> Key {
    let Segment { seq, ack, tsval, payload_bytes, flags, .. } = *segment;
    (seq, ack, tsval, payload_bytes, flags)
}

/// Which leg a packet is of, where that can be told by the place alone: at either end.
fn leg(taps: &[TapInfo], packet: &Packet) -> Option<Leg> {
    match (Host::of(&taps[usize::from(packet.tap)]), packet.direction) {
        (Host::Client, Direction::Out) | (Host::Pod, Direction::In) => Some(Leg::Request),
        (Host::Client, Direction::In) | (Host::Pod, Direction::Out) => Some(Leg::Response),
        _ => None,
    }
}

fn hop(path: &Path, taps: &[TapInfo], packet: &Packet, leg: Leg) -> Option<usize> {
    let tap = &taps[usize::from(packet.tap)];
    path.hops().iter().position(|hop| {
        let here = hop.host == Host::of(tap) && hop.site == tap.site && hop.leg == leg;
        here && hop.direction == packet.direction && hop.encapsulated == packet.segment.encapsulated
    })
}

/// An interval that an offset lies in. Empty where the offset changes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least_ns: i64,
    most_ns: i64,
}

impl Bounds {
    /// `None` where packets went one way only.
    fn of(crossings: &[Crossing]) -> Option<Self> {
        let ways = |back| crossings.iter().filter(move |crossing| crossing.back == back);
        Some(Self {
            least_ns: ways(true).map(|crossing| crossing.bound_ns).max()?,
            most_ns: ways(false).map(|crossing| crossing.bound_ns).min()?,
        })
    }
}

/// How far the second of two clocks is ahead of the first; by how much they drift where they do so
/// beyond use. What is said agrees with every packet, so that none arrives before it was sent; how wrong
/// it may be is asked of each half of the window.
fn offset(crossings: &[Crossing]) -> Result<Option<Offset>, u64> {
    let Some(Bounds { least_ns, most_ns }) = Bounds::of(crossings) else { return Ok(None) };
    if least_ns > most_ns {
        return Err(least_ns.abs_diff(most_ns));
    }
    let ns = least_ns + (most_ns.abs_diff(least_ns) / 2) as i64;
    let times = || crossings.iter().map(|crossing| crossing.at_ns);
    let (begin_ns, end_ns) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let middle_ns = begin_ns + (end_ns - begin_ns) / 2;
    let (before, behind): (Vec<_>, Vec<_>) =
        crossings.iter().partition(|crossing| crossing.at_ns <= middle_ns);
    let halves = [Bounds::of(&before), Bounds::of(&behind)].into_iter().flatten();
    let ends = halves.flat_map(|bounds| [bounds.least_ns, bounds.most_ns]);
    let error_ns = ends.chain([least_ns, most_ns]).map(|end_ns| end_ns.abs_diff(ns)).max();
    Ok(Some(Offset { ns, error_ns: error_ns.unwrap_or(0) }))
}

#[cfg(test)]
#[path = "align/tests.rs"]
mod tests;
