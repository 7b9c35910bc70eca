// SPDX-License-Identifier: Apache-2.0
//! From what all taps saw to the stages of each query for a name and its answer. Pure.
//!
//! A message is known by its id, which NAT does not change, among those that pass a hop between its being
//! sent and its answer being read: of two that have the same id at the same time (one in 65,536) one may
//! be taken for the other. Its addresses are not asked for, because masquerading changes them and a
//! datagram has no SYN that would teach them.

use std::collections::HashMap;
use std::net::SocketAddr;

use record::Leg;
use workloads::protocol::{Answer, Lookup, Sample};

use super::joined::{Joined, Sums, Unjoined};
use super::timeline::{HopTable, Point, Source, points};
use super::{JoinError, Packet, Passage, Path, Site, TapInfo};

/// What stands before the names of a query's stages.
pub const QUERY_PREFIX: &str = "dns_";
/// From the pod's `eth0`, in, to out: a server of names says nothing of its own.
const SERVER: &str = "server";

/// Joins queries window by window.
#[derive(Debug)]
pub struct QueryJoiner {
    hops: HopTable,
    points: Vec<Point>,
}

/// One query and all that was seen of it, from its being sent to its answer's being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStory {
    /// Which of the names that were tried it asked for, from 0.
    pub name: usize,
    /// What of it: `A` or `AAAA`.
    pub kind: &'static str,
    /// What was answered.
    pub answer: Answer,
    /// Its source as the client bound it.
    pub source: SocketAddr,
    /// Just before it was sent, nanoseconds.
    pub sent_ns: u64,
    /// Just after the answer was read, nanoseconds.
    pub answered_ns: u64,
    /// In the order of time; stages without what stands before their names.
    pub passages: Vec<Passage>,
    /// Why it has not all its stages, where it has not.
    pub unjoined: Option<Unjoined>,
}

/// What is asked for by the two queries of a lookup.
const KINDS: [&str; 2] = ["A", "AAAA"];

/// When messages of an id passed a hop, ascending.
type Passages = HashMap<(u16, u16), Vec<u64>>;

impl QueryJoiner {
    /// For taps on the path of queries.
    ///
    /// # Errors
    /// [`JoinError::NoOrigin`].
    pub fn new(path: &Path, taps: &[TapInfo]) -> Result<Self, JoinError> {
        let hops = HopTable::new(path, taps).ok_or(JoinError::NoOrigin)?;
        let points = points(path, &hops).into_iter().filter_map(|point| of_query(point, &hops));
        Ok(Self { points: points.collect(), hops })
    }

    /// Joins one window: every query of `lookups` by itself.
    ///
    /// # Errors
    /// [`JoinError::NegativeStage`]: the window must not be used.
    pub fn join(&self, packets: &[Packet], lookups: &[Lookup]) -> Result<Joined, JoinError> {
        let passages = self.passages(packets);
        let mut sums = Sums::new(&self.points, false);
        for lookup in lookups {
            for (query, id) in queries(lookup) {
                sums.joined.sampled += 1;
                match self.timeline(&query, id, &passages) {
                    Ok(timeline) => sums.add(&query, &timeline, None, &self.points)?,
                    Err(reason) => sums.unjoined(reason),
                }
            }
        }
        let mut joined = sums.finish();
        for stage in &mut joined.stages {
            let parts = stage.name.split('+').map(|part| format!("{QUERY_PREFIX}{part}"));
            stage.name = parts.collect::<Vec<_>>().join("+");
        }
        Ok(joined)
    }

    /// The stories of the queries of one resolution, whose lookups these are, from packets in the order of time.
    pub fn stories(&self, packets: &[Packet], lookups: &[Lookup]) -> Vec<QueryStory> {
        let passages = self.passages(packets);
        let mut stories = Vec::with_capacity(KINDS.len() * lookups.len());
        for (name, lookup) in lookups.iter().enumerate() {
            let of_both = queries(lookup).into_iter().zip(KINDS).zip(lookup.answers);
            for (((query, id), kind), answer) in of_both {
                let Sample { sent_ns, last_byte_ns: answered_ns, .. } = query;
                let during = |packet: &&Packet| (sent_ns..=answered_ns).contains(&packet.time_ns);
                let seen = packets.iter().filter(during);
                stories.push(QueryStory {
                    name,
                    kind,
                    answer,
                    source: lookup.source,
                    sent_ns,
                    answered_ns,
                    passages: seen.filter_map(|packet| self.passage(packet, id)).collect(),
                    unjoined: self.timeline(&query, id, &passages).err(),
                });
            }
        }
        stories
    }

    /// A packet as a passage of the message of this id; `None` where it is another.
    fn passage(&self, packet: &Packet, id: u16) -> Option<Passage> {
        let names = packet.segment.names.filter(|names| names.id == id)?;
        let leg = if names.answers { Leg::Response } else { Leg::Request };
        let hop = self.hops.at(packet, leg, 0, 0);
        let ends = |point: &&Point| hop.is_some_and(|hop| point.source == Source::Hop(hop));
        Some(Passage {
            time_ns: packet.time_ns,
            tap: packet.tap,
            direction: packet.direction,
            leg,
            segment: packet.segment,
            stage: self.points.iter().find(ends).map(|point| point.stage),
            opening: None,
        })
    }

    fn passages(&self, packets: &[Packet]) -> Passages {
        let mut passages = Passages::new();
        for packet in packets {
            let Some(names) = packet.segment.names else { continue };
            let leg = if names.answers { Leg::Response } else { Leg::Request };
            if let Some(hop) = self.hops.at(packet, leg, 0, 0) {
                passages.entry((hop, names.id)).or_default().push(packet.time_ns);
            }
        }
        passages.values_mut().for_each(|times| times.sort_unstable());
        passages
    }

    /// When a query was where.
    fn timeline(
        &self,
        query: &Sample,
        id: u16,
        passages: &Passages,
    ) -> Result<Vec<(usize, u64)>, Unjoined> {
        let mut timeline = Vec::with_capacity(self.points.len());
        for (index, point) in self.points.iter().enumerate() {
            let time_ns = match point.source {
                Source::Sent => Some(query.sent_ns),
                Source::Hop(hop) => {
                    let times = passages.get(&(hop, id)).map_or(&[][..], Vec::as_slice);
                    let first = times.partition_point(|&time_ns| time_ns < query.sent_ns);
                    times.get(first).copied().filter(|&time_ns| time_ns <= query.last_byte_ns)
                }
                _ => Some(query.first_byte_ns),
            };
            match time_ns {
                Some(time_ns) => timeline.push((index, time_ns)),
                None if point.optional => {}
                None => return Err(Unjoined::NotSeen(format!("query: {}", point.label))),
            }
        }
        Ok(timeline)
    }
}

/// Both queries of a lookup with their ids, as if they were requests on a connection that was open.
fn queries(lookup: &Lookup) -> [(Sample, u16); 2] {
    [0, 1].map(|which| {
        let (sent_ns, answered_ns) = (lookup.sent_ns[which], lookup.answered_ns[which]);
        let query = Sample {
            id: None,
            client: lookup.source,
            request_offset: 0,
            response_offset: 0,
            intended_ns: sent_ns,
            resolve_ns: None,
            connect_ns: None,
            connected_ns: None,
            secured_ns: None,
            upgraded_ns: None,
            sent_ns,
            first_byte_ns: answered_ns,
            last_byte_ns: answered_ns,
        };
        (query, lookup.ids[which])
    })
}

/// A point of a request as a query has it; `None` where it has none.
fn of_query(point: Point, hops: &HopTable) -> Option<Point> {
    let Source::Hop(hop) = point.source else {
        return matches!(point.source, Source::Sent | Source::FirstByte).then_some(point);
    };
    let hop = hops.hop(hop);
    let leaves_pod = hop.site == Site::PodEth && hop.leg == Leg::Response;
    let stage = if leaves_pod { SERVER } else { point.stage };
    (hop.site != Site::Readable).then_some(Point { stage, ..point })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::packet::{Message, Segment};
    use crate::capture::path::Host;
    use crate::plan::{CniKind, Mode, Place, Road, Route};

    fn path() -> Path {
        let route = Route { road: Road::Lbip, place: Place::Local };
        Path::of(Mode::Iptables, CniKind::Ptp, route)
    }

    /// A tap at every device of the path.
    fn taps() -> Vec<TapInfo> {
        let tap =
            |name: &str, node, site| TapInfo { name: name.to_owned(), node, site, direction: None };
        vec![
            tap("client/eth0", None, Site::ClientEth),
            tap("node1/eth0", Some(0), Site::Nic),
            tap("node1/veth", Some(0), Site::PodVeth),
            tap("dns/eth0", Some(0), Site::PodEth),
        ]
    }

    /// A query of an id that passes each hop `step_ns` after the one before, and its answer.
    fn passing(id: u16, start_ns: u64, step_ns: u64) -> (Vec<Packet>, u64) {
        let (path, taps) = (path(), taps());
        let mut now = start_ns;
        let mut packets = Vec::new();
        for hop in path.hops() {
            let here = |tap: &TapInfo| tap.site == hop.site && Host::of(tap) == hop.host;
            let Some(tap) = taps.iter().position(here) else { continue };
            now += step_ns;
            let segment = Segment {
                src: "10.8.0.1:4000".parse().unwrap(),
                dst: "10.112.0.10:53".parse().unwrap(),
                seq: 0,
                ack: 0,
                tsval: None,
                payload_bytes: 47,
                flags: 0,
                encapsulated: false,
                names: Some(Message { id, answers: hop.leg == Leg::Response }),
            };
            let (tap, direction) = (tap as u16, hop.direction);
            packets.push(Packet { time_ns: now, segment, tap, direction });
        }
        (packets, now + step_ns)
    }

    fn lookup(ids: [u16; 2], sent_ns: [u64; 2], answered_ns: [u64; 2]) -> Lookup {
        let answers = [Answer::NoData, Answer::NxDomain];
        Lookup { source: "10.8.0.1:4000".parse().unwrap(), ids, sent_ns, answered_ns, answers }
    }

    #[test]
    fn both_queries_of_a_lookup_have_stages_that_make_up_their_time() {
        let (mut packets, a_ns) = passing(7, 1000, 10);
        let (others, aaaa_ns) = passing(8, 1005, 20);
        packets.extend(others);
        // The same id long before and long after is another query.
        packets.extend(passing(7, 100, 1).0);
        packets.extend(passing(7, 9000, 1).0);
        let joiner = QueryJoiner::new(&path(), &taps()).unwrap();
        let joined = joiner.join(&packets, &[lookup([7, 8], [1000, 1005], [a_ns, aaaa_ns])]);
        let joined = joined.unwrap();
        assert_eq!((joined.sampled, joined.joined), (2, 2), "{:?}", joined.unjoined);
        assert_eq!(joined.residual_ns, [0, 0]);
        let names: Vec<_> = joined.stages.iter().map(|stage| stage.name.as_str()).collect();
        let node = "dns_nic_rx+dns_conntrack+dns_proxy+dns_route+dns_filter+dns_masq+dns_egress";
        assert_eq!(
            names,
            [
                "dns_client_tx",
                "dns_wire",
                node,
                "dns_cni",
                "dns_server",
                "dns_cni",
                node,
                "dns_wire",
                "dns_client_rx",
            ]
        );
        assert!(joined.stages.iter().all(|stage| stage.times.sum_ns() == 30));
    }

    #[test]
    fn each_query_is_told_by_itself_with_its_answer() {
        let (mut packets, a_ns) = passing(7, 1000, 10);
        let (others, aaaa_ns) = passing(8, 1005, 20);
        packets.extend(others);
        packets.extend(passing(7, 9000, 1).0);
        packets.sort_by_key(|packet| packet.time_ns);
        let joiner = QueryJoiner::new(&path(), &taps()).unwrap();
        let lookup = lookup([7, 8], [1000, 1005], [a_ns, aaaa_ns]);
        let stories = joiner.stories(&packets, &[lookup]);
        let told: Vec<_> = stories.iter().map(|s| (s.name, s.kind, s.answer)).collect();
        assert_eq!(told, [(0, "A", Answer::NoData), (0, "AAAA", Answer::NxDomain)]);
        for story in &stories {
            assert_eq!(story.unjoined, None);
            let stages: Vec<_> = story.passages.iter().filter_map(|p| p.stage).collect();
            let node = ["client_tx", "wire", "egress", "cni"];
            let back = ["server", "cni", "egress", "wire"];
            assert_eq!(stages, [node, back].concat());
            assert!(story.passages.is_sorted_by_key(|p| p.time_ns));
        }
        packets.retain(|packet| packet.time_ns != stories[0].passages[3].time_ns);
        let stories = joiner.stories(&packets, &[lookup]);
        assert!(matches!(stories[0].unjoined, Some(Unjoined::NotSeen(_))), "{stories:?}");
    }

    #[test]
    fn a_query_that_is_not_seen_everywhere_is_not_joined() {
        let (mut packets, end_ns) = passing(7, 1000, 10);
        packets.remove(3);
        let joiner = QueryJoiner::new(&path(), &taps()).unwrap();
        let joined = joiner.join(&packets, &[lookup([7, 9], [1000; 2], [end_ns; 2])]).unwrap();
        assert_eq!((joined.sampled, joined.joined), (2, 0));
        assert_eq!(joined.unjoined.values().sum::<u64>(), 2);
    }

    #[test]
    fn a_passage_before_the_one_that_comes_first_is_a_bug_that_is_said() {
        let (mut packets, end_ns) = passing(7, 1000, 10);
        let times = [packets[1].time_ns, packets[2].time_ns];
        (packets[2].time_ns, packets[1].time_ns) = (times[0], times[1]);
        let joiner = QueryJoiner::new(&path(), &taps()).unwrap();
        let error = joiner.join(&packets, &[lookup([7, 9], [1000; 2], [end_ns; 2])]).unwrap_err();
        assert!(matches!(error, JoinError::NegativeStage { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn stages_of_any_number_of_queries_add_up(
            steps in prop::collection::vec(1u64..1000, 1..40),
        ) {
            let (mut packets, mut lookups, mut start_ns) = (Vec::new(), Vec::new(), 1000);
            for (index, &step_ns) in steps.iter().enumerate() {
                let ids = [2 * index as u16, 2 * index as u16 + 1];
                let (first, a_ns) = passing(ids[0], start_ns, step_ns);
                let (second, aaaa_ns) = passing(ids[1], start_ns, step_ns + 1);
                packets.extend(first.into_iter().chain(second));
                lookups.push(lookup(ids, [start_ns; 2], [a_ns, aaaa_ns]));
                start_ns = aaaa_ns;
            }
            let joined = QueryJoiner::new(&path(), &taps()).unwrap().join(&packets, &lookups);
            let joined = joined.unwrap();
            prop_assert_eq!(joined.joined, 2 * steps.len() as u64);
            prop_assert!(joined.residual_ns.iter().all(|&ns| ns == 0));
        }
    }
}
