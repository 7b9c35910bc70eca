// SPDX-License-Identifier: Apache-2.0
//! What joining yields: a distribution per stage, what the stages leave unexplained, and what
//! could not be joined.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use record::{Leg, Residual, StageRecord};
use workloads::protocol::{Mark, Sample};

use super::handshake::Handshake;
use super::timeline::{Point, Source};
use super::{JoinError, Story};

/// Single requests kept with all their times.
pub const WALKS_KEPT: usize = 16;
/// Longest time told apart, nanoseconds; longer ones count as this.
const MAX_NS: u64 = 3_600_000_000_000;
/// Significant digits of the distributions.
const DIGITS: u8 = 3;

/// Why a sampled request has no stages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unjoined {
    /// The SYN of its connection was not seen at the client's interface.
    ConnectionNotSeen,
    /// The proxy process's connection that belongs to it was not seen.
    RelayNotSeen,
    /// It was not seen at this point of the path.
    NotSeen(String),
    /// It was sent again, and the taps lost its first copy somewhere.
    FirstCopyLost,
}

impl fmt::Display for Unjoined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionNotSeen => f.write_str("connection not seen at client"),
            Self::RelayNotSeen => f.write_str("proxy process's connection not seen"),
            Self::NotSeen(point) => write!(f, "not seen: {point}"),
            Self::FirstCopyLost => f.write_str("sent again, first copy lost by a tap"),
        }
    }
}

/// A distribution of nanoseconds, and its exact sum.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    sum_ns: u64,
}

impl Default for Times {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("constant bounds are valid");
        Self { histogram, sum_ns: 0 }
    }
}

impl Times {
    pub(super) fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Adds another distribution's values.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Their sum, nanoseconds; exact.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// For the record.
    pub fn histogram(&self) -> record::Histogram {
        record::Histogram::from_pairs(
            self.histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())),
        )
    }
}

/// How long messages were on their way: from the write of their first byte to the read of their last one at
/// the other end.
#[derive(Clone, Debug, Default)]
pub struct LegTimes {
    /// Requests, from client to server.
    pub request: Times,
    /// Responses, back.
    pub response: Times,
}

impl LegTimes {
    /// Adds a request whose stages were found, and which therefore is in order at both ends.
    pub(super) fn record(&mut self, sample: &Sample, mark: &Mark) {
        let legs = [
            (&mut self.request, mark.received_ns.checked_sub(sample.sent_ns)),
            (&mut self.response, sample.last_byte_ns.checked_sub(mark.written_ns)),
        ];
        for (times, ns) in legs {
            if let Some(ns) = ns {
                times.record(ns);
            }
        }
    }
}

/// One stage on one leg.
#[derive(Clone, Debug)]
pub struct StageTimes {
    /// Direction of travel.
    pub leg: Leg,
    /// Its name; stages no tap lies between are joined by `+`.
    pub name: String,
    /// How long it took.
    pub times: Times,
    /// Point where it ends, for the order.
    place: usize,
}

impl StageTimes {
    /// For the record; `None` when nothing was joined.
    pub fn record(&self) -> Option<StageRecord> {
        let quantiles = self.times.histogram().quantiles()?;
        Some(StageRecord {
            name: self.name.clone(),
            leg: self.leg,
            count: quantiles.count,
            p50_ns: quantiles.p50,
            p99_ns: quantiles.p99,
            mean_ns: self.times.sum_ns as f64 / quantiles.count as f64,
        })
    }
}

/// One request with all its times, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Source of its connection.
    pub client: SocketAddr,
    /// Its place in the connection's stream.
    pub request_offset: u64,
    /// Point and time, CLOCK_MONOTONIC nanoseconds, in order.
    pub times: Vec<(String, u64)>,
}

/// The joined requests of a window.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    /// Stages in path order, request leg first.
    pub stages: Vec<StageTimes>,
    /// Start (resolving, connect, or write on an open connection) to last byte minus the sum of the stages,
    /// per joined request, nanoseconds.
    pub residual_ns: Vec<i64>,
    /// Requests there was a sample of.
    pub sampled: u64,
    /// Requests whose every stage was found.
    pub joined: u64,
    /// Joined requests with a byte that some tap saw more than once.
    pub retransmitted: u64,
    /// The others, by reason.
    pub unjoined: BTreeMap<Unjoined, u64>,
    /// SYN at the entry node's first interface to SYN at the pod, new connections only.
    pub first_packet: Times,
    /// How long requests and responses were on their way, to their last bytes.
    pub legs: LegTimes,
    /// The first few joined requests.
    pub walks: Vec<Walk>,
    /// The slowest joined requests, slowest first: as many as were asked for.
    pub stories: Vec<Story>,
}

impl Joined {
    /// Adds another window's requests.
    pub fn merge(&mut self, other: Self) {
        for stage in other.stages {
            let same = |s: &&mut StageTimes| s.leg == stage.leg && s.name == stage.name;
            match self.stages.iter_mut().find(same) {
                Some(mine) => mine.times.merge(&stage.times),
                None => self.stages.push(stage),
            }
        }
        self.stages.sort_by_key(|stage| stage.place);
        self.residual_ns.extend(other.residual_ns);
        self.sampled += other.sampled;
        self.joined += other.joined;
        self.retransmitted += other.retransmitted;
        for (reason, count) in other.unjoined {
            *self.unjoined.entry(reason).or_insert(0) += count;
        }
        self.first_packet.merge(&other.first_packet);
        self.legs.request.merge(&other.legs.request);
        self.legs.response.merge(&other.legs.response);
        let room = WALKS_KEPT - self.walks.len().min(WALKS_KEPT);
        self.walks.extend(other.walks.into_iter().take(room));
    }

    /// Percentiles of the residual; `None` when nothing was joined.
    pub fn residual(&self) -> Option<Residual> {
        let mut sorted = self.residual_ns.clone();
        sorted.sort_unstable();
        let at = |q: f64| {
            let rank = (q * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied()
        };
        Some(Residual { p50: at(0.50)?, p99: at(0.99)? })
    }

    /// Share of sampled requests that were joined, 0 to 1; `None` without samples.
    pub fn ratio(&self) -> Option<f64> {
        (self.sampled > 0).then(|| self.joined as f64 / self.sampled as f64)
    }
}

/// A [`Joined`] in the making.
pub(super) struct Sums {
    pub(super) joined: Joined,
    /// Stage of the way from one point to another, where it was walked: an index into `stages`.
    between: Vec<Option<usize>>,
    points: usize,
    /// Where the server has a request, to its last byte where that is seen.
    has_request: Source,
    /// What a handshake is called whose server's part is not known.
    handshake: &'static str,
}

impl Sums {
    /// `ends_before` the pod is where a handshake may end: at the ingress controller.
    pub(super) fn new(points: &[Point], ends_before: bool) -> Self {
        let body = points.iter().any(|point| point.source == Source::Received);
        let has_request = if body { Source::Received } else { Source::Written };
        let points = points.len();
        let handshake = if ends_before { "tls+ingress_tls" } else { "tls+pod_tls" };
        Self {
            joined: Joined::default(),
            between: vec![None; points * points],
            points,
            has_request,
            handshake,
        }
    }

    pub(super) fn unjoined(&mut self, reason: Unjoined) {
        *self.joined.unjoined.entry(reason).or_insert(0) += 1;
    }

    /// Adds a request whose times are complete.
    pub(super) fn add(
        &mut self,
        sample: &Sample,
        times: &[(usize, u64)],
        handshake: Option<Handshake>,
        points: &[Point],
    ) -> Result<(), JoinError> {
        let negative =
            |leg, stage: &str, from: &str, from_ns, to: &str, to_ns| JoinError::NegativeStage {
                client: sample.client,
                request_offset: sample.request_offset,
                leg,
                stage: stage.into(),
                from: from.into(),
                from_ns,
                to: to.into(),
                to_ns,
            };
        let mut stages: Vec<(usize, u64)> = Vec::with_capacity(times.len() + 1);
        if let (Some(from_ns), Some(to_ns)) = (sample.resolve_ns, sample.connect_ns) {
            let ns = to_ns.checked_sub(from_ns).ok_or_else(|| {
                negative(Leg::Request, "dns", "resolving", from_ns, "connect called", to_ns)
            })?;
            stages.push((self.stage(Leg::Request, "dns", 0), ns));
        }
        if let (Some(from_ns), Some(to_ns)) = (sample.connect_ns, sample.connected_ns) {
            let ns = to_ns.checked_sub(from_ns).ok_or_else(|| {
                negative(Leg::Request, "connect", "connect called", from_ns, "connected", to_ns)
            })?;
            stages.push((self.stage(Leg::Request, "connect", 0), ns));
            let mut open = ("connected", to_ns);
            if let Some(secured_ns) = sample.secured_ns {
                let ns = secured_ns.checked_sub(to_ns).ok_or_else(|| {
                    negative(Leg::Request, "tls", "connected", to_ns, "secured", secured_ns)
                })?;
                match handshake {
                    Some(Handshake { served_ns, before_read_ns, behind_read_ns }) => {
                        stages.push((self.stage(Leg::Request, "tls", 0), ns - served_ns));
                        let pod_ns = served_ns + before_read_ns + behind_read_ns;
                        stages.push((self.stage(Leg::Request, "pod_tls", 0), pod_ns));
                    }
                    None => stages.push((self.stage(Leg::Request, self.handshake, 0), ns)),
                }
                open = ("secured", secured_ns);
            }
            if let Some(upgraded_ns) = sample.upgraded_ns {
                let (from, from_ns) = open;
                let ns = upgraded_ns.checked_sub(from_ns).ok_or_else(|| {
                    negative(Leg::Request, "upgrade", from, from_ns, "upgraded", upgraded_ns)
                })?;
                stages.push((self.stage(Leg::Request, "upgrade", 0), ns));
                open = ("upgraded", upgraded_ns);
            }
            let (from, from_ns) = open;
            let sent_ns = sample.sent_ns;
            let ns = sent_ns.checked_sub(from_ns).ok_or_else(|| {
                negative(Leg::Request, "handover", from, from_ns, "request sent", sent_ns)
            })?;
            stages.push((self.stage(Leg::Request, "handover", 0), ns));
        }
        for pair in times.windows(2) {
            let [(from, from_ns), (to, to_ns)] = [pair[0], pair[1]];
            let stage = self.stage_between(from, to, points);
            let ns = to_ns.checked_sub(from_ns).ok_or_else(|| {
                let StageTimes { leg, name, .. } = &self.joined.stages[stage];
                negative(*leg, name, &points[from].label, from_ns, &points[to].label, to_ns)
            })?;
            // What is left of the server's handshake is in its own stage.
            let elsewhere_ns = handshake.map_or(0, |handshake| match points[to].source {
                Source::Read => handshake.before_read_ns,
                source if source == self.has_request => handshake.behind_read_ns,
                _ => 0,
            });
            let ns = ns - elsewhere_ns;
            // A stage may be passed in two parts with another between them.
            match stages.iter_mut().find(|(passed, _)| *passed == stage) {
                Some((_, sum_ns)) => *sum_ns += ns,
                None => stages.push((stage, ns)),
            }
        }
        self.record(sample, &stages);
        self.walk(sample, times, points);
        Ok(())
    }

    fn record(&mut self, sample: &Sample, stages: &[(usize, u64)]) {
        for &(stage, ns) in stages {
            self.joined.stages[stage].times.record(ns);
        }
        let explained_ns: u64 = stages.iter().map(|&(_, ns)| ns).sum();
        let started_ns = sample.resolve_ns.or(sample.connect_ns).unwrap_or(sample.sent_ns);
        let service_ns = sample.last_byte_ns as i64 - started_ns as i64;
        self.joined.residual_ns.push(service_ns - explained_ns as i64);
        self.joined.joined += 1;
    }

    fn walk(&mut self, sample: &Sample, times: &[(usize, u64)], points: &[Point]) {
        if self.joined.walks.len() == WALKS_KEPT {
            return;
        }
        let label = |&(point, time_ns): &(usize, u64)| {
            let point: &Point = &points[point];
            (point.label.clone(), time_ns)
        };
        let (client, request_offset) = (sample.client, sample.request_offset);
        let times = times.iter().map(label).collect();
        self.joined.walks.push(Walk { client, request_offset, times });
    }

    /// The stage between two points: the names of all that end behind the first and up to the
    /// second, each once.
    fn stage_between(&mut self, from: usize, to: usize, points: &[Point]) -> usize {
        let at = from * self.points + to;
        if let Some(stage) = self.between[at] {
            return stage;
        }
        let mut names: Vec<&str> = Vec::new();
        for name in points[from + 1..=to].iter().flat_map(|point| point.stage.split('+')) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let stage = self.stage(points[from + 1].leg, &names.join("+"), to);
        self.between[at] = Some(stage);
        stage
    }

    fn stage(&mut self, leg: Leg, name: &str, place: usize) -> usize {
        let stages = &mut self.joined.stages;
        if let Some(stage) = stages.iter().position(|s| s.leg == leg && s.name == name) {
            return stage;
        }
        let times = Times::default();
        stages.push(StageTimes { leg, name: name.to_owned(), times, place });
        stages.len() - 1
    }

    pub(super) fn finish(mut self) -> Joined {
        self.joined.stages.retain(|stage| stage.times.count() > 0);
        self.joined.stages.sort_by_key(|stage| stage.place);
        self.joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_distribution_keeps_count_and_sum_exactly_and_values_to_a_thousandth(
            values in prop::collection::vec(0u64..100_000_000_000, 1..50),
        ) {
            let (mut times, mut other) = (Times::default(), Times::default());
            for (index, &ns) in values.iter().enumerate() {
                if index % 2 == 0 { times.record(ns) } else { other.record(ns) }
            }
            times.merge(&other);
            prop_assert_eq!(times.sum_ns(), values.iter().sum::<u64>());
            let quantiles = times.histogram().quantiles().unwrap();
            prop_assert_eq!(quantiles.count as usize, values.len());
            let max = *values.iter().max().unwrap();
            prop_assert!(quantiles.max >= max && quantiles.max <= max + max / 1000 + 1);
        }
    }

    #[test]
    fn the_residuals_percentiles_are_signed() {
        let joined = Joined { residual_ns: vec![5, -30, 0, 7], ..Joined::default() };
        assert_eq!(joined.residual(), Some(Residual { p50: 0, p99: 7 }));
        assert_eq!(Joined::default().residual(), None);
    }
}
