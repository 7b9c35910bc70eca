// SPDX-License-Identifier: Apache-2.0
//! From what all taps saw to the stages of each request. Pure.
//!
//! A request is the byte at [`Sample::request_offset`] of its connection's stream, its response the
//! byte at [`Sample::response_offset`] of the other stream; it was at a tap when that byte first
//! was. Behind a load balancer or a reverse proxy it is the byte that the server says the request of this id began with, on
//! whichever connection the server had it from ([`Mark::id`]). A byte that was sent again counts where it was first seen, at every tap: these times are in
//! order whatever was lost on the way, and the stage the loss happened in holds the wait for it.
//!
//! Cost: one sort of the packets by time, one by connection, and a binary search per request and
//! tap: O(n log n).

mod connections;
mod course;
mod handshake;
mod joined;
mod queries;
mod sightings;
mod story;
#[cfg(test)]
pub(in crate::capture) mod synthetic;
#[cfg(test)]
mod tests;
mod timeline;

/// What the synthetic scenes are made of; the benchmark has a module of the same name.
#[cfg(test)]
mod world {
    pub(super) use record::Leg;
    pub(super) use workloads::protocol::{Mark, Sample};

    pub(super) use crate::capture::Site;
    pub(super) use crate::capture::packet::{Packet, Segment, flags};
    pub(super) use crate::capture::path::{Host, Path};
    pub(super) use crate::capture::tap::TapInfo;
    pub(super) use crate::relay::Relay;
}

use std::net::SocketAddr;

use record::Leg;
use workloads::protocol::{Mark, Sample};

use super::{Packet, Path, Site, TapInfo};
use crate::relay::Relay;
use connections::{Connections, SYN_OFFSET};
use course::{Course, Marks};
use handshake::Handshake;
use joined::Sums;
use sightings::Sightings;
use story::Wanted;
use timeline::{HopTable, Point, Source, points};

pub use joined::{Joined, LegTimes, StageTimes, Times, Unjoined, WALKS_KEPT, Walk};
pub use queries::{QUERY_PREFIX, QueryJoiner, QueryStory};
pub use story::{Opening, Passage, Story};

/// What was seen cannot be true, or cannot be joined at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The taps do not show connections being opened.
    #[error(
        "failed to join: no tap at the client's interface, or none at the device by which the own \
         connections of a proxy process or a load balancer leave its host"
    )]
    NoOrigin,
    /// A packet names a tap that there is none of.
    #[error("failed to join: a packet was seen at tap {tap}, of {taps}")]
    NoSuchTap {
        /// Its index.
        tap: u16,
        /// Number of taps.
        taps: usize,
    },
    /// A stage ended before it began: a bug in the path, a probe or a clock. The times are not to
    /// be used.
    #[error(
        "failed to join the request of {client} at byte {request_offset}: {leg:?} stage `{stage}` \
         ends {} ns before it begins: {from} at {from_ns} ns, {to} at {to_ns} ns",
        from_ns - to_ns
    )]
    NegativeStage {
        /// Source of the request's connection.
        client: SocketAddr,
        /// Its place in the connection's stream.
        request_offset: u64,
        /// Leg of the stage.
        leg: Leg,
        /// Name of the stage.
        stage: Box<str>,
        /// Point where it begins.
        from: Box<str>,
        /// When that was, CLOCK_MONOTONIC.
        from_ns: u64,
        /// Point where it ends.
        to: Box<str>,
        /// When that was, CLOCK_MONOTONIC.
        to_ns: u64,
    },
}

/// What one window of a capture and the two ends say about it.
#[derive(Debug)]
pub struct Observations<'a> {
    /// Packets of all taps, in any order.
    pub packets: Vec<Packet>,
    /// Packets the taps lost.
    pub dropped: u64,
    /// The client's view of each sampled request.
    pub samples: &'a [Sample],
    /// The server's view; may be empty.
    pub marks: &'a [Mark],
    /// Connections that a proxy process joined, in the order it accepted them.
    pub relays: &'a [Relay],
}

/// Joins window after window of one capture; connections that stay open are known in the next.
#[derive(Debug)]
pub struct Joiner {
    hops: HopTable,
    points: Vec<Point>,
    taps: usize,
    connections: Connections,
    stories: usize,
}

/// When a request was where.
struct Timeline {
    /// Index of a point, and its time.
    times: Vec<(usize, u64)>,
    /// Whether one of its bytes was seen twice at some tap.
    retransmitted: bool,
    mark: Option<Mark>,
    handshake: Option<Handshake>,
    connections: Vec<u32>,
}

impl Joiner {
    /// For taps on a path. An interface of the path without a tap is a boundary that is not seen:
    /// the stages beside it are merged.
    ///
    /// # Errors
    /// [`JoinError::NoOrigin`].
    pub fn new(path: &Path, taps: &[TapInfo]) -> Result<Self, JoinError> {
        let hops = HopTable::new(path, taps).ok_or(JoinError::NoOrigin)?;
        let points = points(path, &hops);
        let connections = Connections::default();
        Ok(Self { hops, points, taps: taps.len(), connections, stories: 0 })
    }

    /// Keeps of each window the stories of the `stories` slowest joined requests.
    pub fn keeping(self, stories: u32) -> Self {
        Self { stories: stories as usize, ..self }
    }

    /// Learns of connections from a window of which nothing is to be joined: those that stay open are known
    /// in the next.
    ///
    /// # Errors
    /// [`JoinError::NoSuchTap`].
    pub fn learn(&mut self, packets: Vec<Packet>, relays: &[Relay]) -> Result<(), JoinError> {
        let nothing = Observations { packets, dropped: 0, samples: &[], marks: &[], relays };
        self.join(nothing).map(drop)
    }

    /// Joins one window.
    ///
    /// # Errors
    /// [`JoinError::NegativeStage`]: the window must not be used, and neither must the joiner.
    pub fn join(&mut self, observations: Observations<'_>) -> Result<Joined, JoinError> {
        self.join_keeping(observations, self.stories)
    }

    /// The same, with the stories of so many requests.
    ///
    /// # Errors
    /// As [`Joiner::join`].
    pub fn join_keeping(
        &mut self,
        observations: Observations<'_>,
        stories: usize,
    ) -> Result<Joined, JoinError> {
        let Observations { mut packets, dropped, samples, marks, relays } = observations;
        if let Some(packet) = packets.iter().find(|p| usize::from(p.tap) >= self.taps) {
            return Err(JoinError::NoSuchTap { tap: packet.tap, taps: self.taps });
        }
        // Stable, because it is fast on what is sorted tap by tap.
        packets.sort_by_key(|packet| packet.time_ns);
        let seen = packets.iter().filter_map(|p| self.connections.place(p, &self.hops)).collect();
        let sightings = Sightings::new(seen);
        self.connections.pair(relays);
        let marks = Marks::new(marks, self.hops.beyond);

        let mut sums = Sums::new(&self.points, self.hops.ends_tls);
        let mut wanted = Vec::new();
        for sample in samples {
            sums.joined.sampled += 1;
            let course = Course::of(sample, &marks, &self.connections, &self.hops);
            let first_packet =
                |course: &Course<'_>| self.first_packet_ns(course, sample, &sightings);
            if let Some(ns) = course.as_ref().ok().and_then(first_packet) {
                sums.joined.first_packet.record(ns);
            }
            match course.and_then(|course| self.timeline(&course, sample, &sightings, &marks)) {
                Ok(timeline) if self.lost_the_first_copy(&timeline, dropped) => {
                    sums.unjoined(Unjoined::FirstCopyLost);
                }
                Ok(timeline) => {
                    sums.joined.retransmitted += u64::from(timeline.retransmitted);
                    sums.add(sample, &timeline.times, timeline.handshake, &self.points)?;
                    if let Some(mark) = &timeline.mark {
                        sums.joined.legs.record(sample, mark);
                    }
                    if stories > 0 {
                        wanted.push(Wanted {
                            sample: *sample,
                            mark: timeline.mark,
                            connections: timeline.connections,
                        });
                    }
                }
                Err(reason) => sums.unjoined(reason),
            }
        }
        let mut joined = sums.finish();
        let wanted = story::slowest(wanted, stories);
        joined.stories = story::tell(wanted, &packets, &self.connections, &self.hops);
        self.connections.forget_closed();
        Ok(joined)
    }

    /// Where the taps lost packets, the first copy of a byte that was sent again may be among them:
    /// then it seems to pass a tap later than the next one. That is no bug and no measurement.
    fn lost_the_first_copy(&self, timeline: &Timeline, dropped: u64) -> bool {
        let in_order = timeline.times.is_sorted_by_key(|&(_, time_ns)| time_ns);
        dropped > 0 && timeline.retransmitted && !in_order
    }

    /// SYN at the entry node's first interface to SYN at the pod; new connections only.
    fn first_packet_ns(
        &self,
        course: &Course<'_>,
        sample: &Sample,
        sightings: &Sightings,
    ) -> Option<u64> {
        sample.connect_ns?;
        let (entry, pod) = self.hops.first_packet?;
        let at = |hop| {
            let connection = course.connection(&self.connections, self.hops.hop(hop).part)?;
            sightings.first(connection, hop, SYN_OFFSET).map(|(time_ns, _)| time_ns)
        };
        at(pod)?.checked_sub(at(entry)?)
    }

    fn timeline<'m>(
        &self,
        course: &Course<'m>,
        sample: &Sample,
        sightings: &Sightings,
        marks: &'m Marks,
    ) -> Result<Timeline, Unjoined> {
        let mut timeline = Timeline {
            times: Vec::with_capacity(self.points.len()),
            retransmitted: false,
            mark: None,
            handshake: None,
            connections: Vec::new(),
        };
        let mut mark = None;
        for (index, point) in self.points.iter().enumerate() {
            let time_ns = match point.source {
                Source::Sent => Some(sample.sent_ns),
                Source::FirstByte => Some(sample.first_byte_ns),
                Source::LastByte => Some(sample.last_byte_ns),
                Source::Read => {
                    let arrived_ns = timeline.times.last().map_or(0, |&(_, time_ns)| time_ns);
                    mark = course.mark(&self.connections, marks, arrived_ns);
                    mark.map(|mark| mark.read_ns)
                }
                Source::Received => mark.map(|mark| mark.received_ns),
                Source::Written => mark.map(|mark| mark.written_ns),
                Source::Hop(hop) => {
                    let part = self.hops.hop(hop).part;
                    let connection =
                        course.connection(&self.connections, part).ok_or(Unjoined::RelayNotSeen)?;
                    let found = sightings.first(connection, hop, course.offset(part, point.leg));
                    timeline.retransmitted |= found.is_some_and(|(_, repeated)| repeated);
                    found.map(|(time_ns, _)| time_ns)
                }
            };
            match time_ns {
                Some(time_ns) => timeline.times.push((index, time_ns)),
                None if point.optional => {}
                None => return Err(Unjoined::NotSeen(point.label.clone())),
            }
        }
        timeline.connections = course.connections(&self.connections);
        timeline.mark = mark.copied();
        // Where TLS ends before the server, its handshake, if it has one, is another than the client's.
        timeline.handshake = mark.filter(|_| !self.hops.ends_tls).and_then(|mark| {
            let readable = |&&(index, _): &&(usize, u64)| self.is_readable(index);
            let readable_ns = timeline.times.iter().find(readable).map(|&(_, time_ns)| time_ns);
            let times_ns = (mark.read_ns, mark.written_ns);
            Handshake::of(sample, mark.handshake.as_ref(), readable_ns, times_ns)
        });
        Ok(timeline)
    }

    /// Whether a point is the request being readable at the server's socket.
    fn is_readable(&self, point: usize) -> bool {
        let Point { source, leg, .. } = self.points[point];
        matches!(source, Source::Hop(hop) if self.hops.hop(hop).site == Site::Readable)
            && leg == Leg::Request
    }
}
