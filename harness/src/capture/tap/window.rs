// SPDX-License-Identifier: Apache-2.0
//! What is captured between two drains, in bounded memory.

use super::block::Frame as RingFrame;
use super::{ClockOffset, TapCapture};
use crate::capture::packet::{Direction, Packet, Segment};

/// What one tap saw and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapCounts {
    /// Frames read from its ring.
    pub frames: u64,
    /// Frames its ring had no room for.
    pub dropped: u64,
    /// Times its ring was full.
    pub freezes: u64,
    /// Frames whose time was taken before they reached this tap, because some program on the
    /// machine has receive timestamps switched on: on devices above another (bridge, VXLAN), time
    /// is then missing from the stage that ends there and added to the next.
    pub stamped_before: u64,
}

/// Whole frames, back to back.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    index: Vec<FrameAt>,
}

#[derive(Clone, Copy, Debug)]
struct FrameAt {
    end: usize,
    wire_bytes: u32,
    time_ns: u64,
    tap: u16,
    direction: Direction,
}

/// A frame as it passed a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub wire_bytes: u32,
    /// When it passed, CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Index of the tap.
    pub tap: u16,
    /// Which way it went.
    pub direction: Direction,
}

impl Frames {
    /// The frames, tap by tap.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        let starts = std::iter::once(0).chain(self.index.iter().map(|frame| frame.end));
        self.index.iter().zip(starts).map(|(frame, start)| Frame {
            bytes: &self.bytes[start..frame.end],
            wire_bytes: frame.wire_bytes,
            time_ns: frame.time_ns,
            tap: frame.tap,
            direction: frame.direction,
        })
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

/// The store the reader fills. Times are the wall clock's until it is closed.
#[derive(Debug)]
pub(super) struct Window {
    packets_max: usize,
    frame_bytes_max: usize,
    packets: Vec<Packet>,
    frames: Frames,
    overflowed: u64,
    unparsed: u64,
    frames_not_kept: u64,
}

/// A finished window and the counts that belong to it.
#[derive(Debug)]
pub(super) struct Closed {
    window: Window,
    pub(super) taps: Vec<TapCounts>,
    pub(super) cpu_ns: u64,
}

impl Window {
    pub(super) fn new(packets_max: usize, frame_bytes_max: usize) -> Self {
        Self {
            packets_max,
            frame_bytes_max,
            packets: Vec::new(),
            frames: Frames::default(),
            overflowed: 0,
            unparsed: 0,
            frames_not_kept: 0,
        }
    }

    pub(super) fn add(&mut self, tap: u16, frame: &RingFrame<'_>) {
        let Some(segment) = Segment::parse(frame.bytes, frame.wire_bytes) else {
            self.unparsed += 1;
            return;
        };
        if self.packets.len() == self.packets_max {
            self.overflowed += 1;
            return;
        }
        let (time_ns, direction) = (frame.realtime_ns, frame.direction);
        self.packets.push(Packet { time_ns, segment, tap, direction });
        let end = self.frames.bytes.len() + frame.bytes.len();
        if self.frame_bytes_max == 0 {
            return;
        }
        if end > self.frame_bytes_max {
            self.frames_not_kept += 1;
            return;
        }
        self.frames.bytes.extend_from_slice(frame.bytes);
        let wire_bytes = frame.wire_bytes;
        self.frames.index.push(FrameAt { end, wire_bytes, time_ns, tap, direction });
    }

    /// Hands out what is there and starts anew.
    pub(super) fn close(&mut self, taps: Vec<TapCounts>, cpu_ns: u64) -> Closed {
        let new = Self::new(self.packets_max, self.frame_bytes_max);
        Closed { window: std::mem::replace(self, new), taps, cpu_ns }
    }
}

impl Closed {
    pub(super) fn into_capture(self, clock: ClockOffset) -> TapCapture {
        let Self { window, taps, cpu_ns } = self;
        let (mut packets, mut frames) = (window.packets, window.frames);
        for packet in &mut packets {
            packet.time_ns = clock.monotonic_ns(packet.time_ns);
        }
        for frame in &mut frames.index {
            frame.time_ns = clock.monotonic_ns(frame.time_ns);
        }
        TapCapture {
            packets,
            frames,
            events: taps.iter().map(|tap| tap.frames).sum(),
            dropped: taps.iter().map(|tap| tap.dropped).sum::<u64>() + window.overflowed,
            taps,
            unparsed: window.unparsed,
            frames_not_kept: window.frames_not_kept,
            cpu_ns,
            clock,
        }
    }
}
