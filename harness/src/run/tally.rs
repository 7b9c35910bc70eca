// SPDX-License-Identifier: Apache-2.0
//! A case's iterations added up.

mod line;

use std::collections::BTreeMap;

pub(super) use line::stage_record;
use record::{
    BlockRecord, Conntrack, Counts, Handshakes, Histogram, IterationRecord, Probe, Queries, Walk,
};

use super::block::{Block, merge_stages};
use super::effect::Effect;
use crate::lab::{Iteration, LegWalks, Ready, StageTimes, Walks};

/// Figures of the iterations so far. Histograms merge exactly; memory does not grow with requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    iterations: Vec<IterationRecord>,
    block: Block,
    blocks: Vec<BlockRecord>,
    errors: BTreeMap<String, u64>,
    distributions: BTreeMap<&'static str, Histogram>,
    stages: Vec<StageTimes>,
    residual: BTreeMap<i64, u64>,
    first_packet: Histogram,
    legs: LegWalks,
    /// Bodies of requests and of responses, bytes.
    bodies: (u64, u64),
    sampled: u64,
    joined: u64,
    unjoined: BTreeMap<String, u64>,
    probe: Option<Probe>,
    effect: Effect,
    observer_ns: f64,
    programs_ns: f64,
    counts: Option<Counts>,
    /// Whether an iteration counted otherwise than one before it.
    counts_vary: bool,
    trace_slowest: usize,
    slowest: Vec<Walk>,
    conntrack: Option<Conntrack>,
    queries: Option<Queries>,
    query_stages: Vec<StageTimes>,
    query_residual: BTreeMap<i64, u64>,
    queries_sampled: u64,
    queries_joined: u64,
    queries_unjoined: BTreeMap<String, u64>,
    handshakes: Option<Handshakes>,
    tuples_spent: u64,
    load_peak_rss_bytes: u64,
    pcaps: Vec<(String, Vec<u8>)>,
}

impl Tally {
    /// Keeps the walks of the `trace_slowest` slowest requests of all iterations. `bodies` are those of
    /// requests and of responses, bytes.
    pub(super) fn new(trace_slowest: u32, bodies: (u64, u64)) -> Self {
        Self { trace_slowest: trace_slowest as usize, bodies, ..Self::default() }
    }

    /// Whether no iteration was added.
    pub(super) fn is_empty(&self) -> bool {
        self.iterations.is_empty()
    }

    /// Ends a block: what is added from here on belongs to the next one.
    pub(super) fn end_block(&mut self, ready: &Ready) {
        let block = std::mem::take(&mut self.block);
        if !block.is_empty() {
            self.blocks.push(block.record(ready));
        }
    }

    /// Blocks that have ended.
    pub(super) fn blocks(&self) -> &[BlockRecord] {
        &self.blocks
    }

    /// Adds an iteration; `sequence` is its place among all iterations of the group.
    pub(super) fn add(&mut self, sequence: u32, iteration: Iteration) {
        self.block.add(&iteration);
        let Iteration { load, unprobed, walks, conntrack } = iteration;
        if let Some(unprobed) = unprobed {
            self.tuples_spent += unprobed.tuples_spent;
            self.effect.add(&load, &unprobed);
        }
        let seconds = load.elapsed_ns as f64 / 1e9;
        let latency = Histogram::from_pairs(load.latency.iter().copied());
        self.iterations.push(IterationRecord {
            sequence,
            requests: load.requests,
            errors: load.errors.values().sum(),
            seconds,
            throughput_rps: if seconds > 0.0 { load.requests as f64 / seconds } else { 0.0 },
            latency_ns: latency.quantiles(),
            first_packet_ns: walks.as_ref().and_then(|walks| walks.first_packet.quantiles()),
        });
        for (kind, count) in load.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        for (name, pairs) in [
            ("latency", load.latency),
            ("service_time", load.service_time),
            ("dns", load.dns),
            ("connect", load.connect),
            ("tls", load.tls),
            ("upgrade", load.upgrade),
            ("first_byte", load.first_byte),
            ("last_byte", load.last_byte),
            ("lateness", load.lateness),
        ] {
            self.distributions.entry(name).or_default().merge(&Histogram::from_pairs(pairs));
        }
        let asked = load.queries;
        if asked.asked > 0 {
            let sum = self.queries.get_or_insert_default();
            sum.asked += asked.asked;
            sum.addresses += asked.addresses;
            sum.no_data += asked.no_data;
            sum.nxdomain += asked.nxdomain;
            sum.failed += asked.failed;
            sum.ignored += asked.ignored;
        }
        let shaken = load.handshakes;
        if shaken.full + shaken.resumed > 0 {
            let sum = self.handshakes.get_or_insert_default();
            sum.full += shaken.full;
            sum.resumed += shaken.resumed;
        }
        self.tuples_spent += load.tuples_spent;
        self.load_peak_rss_bytes = self.load_peak_rss_bytes.max(load.peak_rss_bytes);
        if let Some(now) = conntrack {
            let peak = self.conntrack.map_or(0, |before| before.peak).max(now.peak);
            self.conntrack = Some(Conntrack { max: now.max, peak });
        }
        if let Some(walks) = walks {
            self.add_walks(walks);
        }
    }

    fn add_walks(&mut self, walks: Walks) {
        merge_stages(&mut self.stages, &walks.stages);
        for (value, count) in walks.residual {
            *self.residual.entry(value).or_default() += count;
        }
        if let Some(queries) = walks.queries {
            merge_stages(&mut self.query_stages, &queries.stages);
            for (value, count) in queries.residual {
                *self.query_residual.entry(value).or_default() += count;
            }
            self.queries_sampled += queries.sampled;
            self.queries_joined += queries.joined;
            for (kind, count) in queries.unjoined {
                *self.queries_unjoined.entry(kind).or_default() += count;
            }
        }
        self.first_packet.merge(&walks.first_packet);
        self.legs.request.merge(&walks.legs.request);
        self.legs.response.merge(&walks.legs.response);
        self.sampled += walks.sampled;
        self.joined += walks.joined;
        for (kind, count) in walks.unjoined {
            *self.unjoined.entry(kind).or_default() += count;
        }
        self.add_probe(walks.probe);
        self.counts_vary |= matches!((self.counts, walks.counts), (Some(a), Some(b)) if a != b);
        self.counts = self.counts.or(walks.counts);
        self.slowest.extend(walks.slowest);
        // Stable: of equally slow requests the earlier iteration's are kept.
        self.slowest.sort_by_key(|walk| std::cmp::Reverse(walk.total_ns));
        self.slowest.truncate(self.trace_slowest);
        if let Some(pcap) = walks.pcap {
            self.pcaps.push((format!("packets-{}.pcapng", self.iterations.len()), pcap));
        }
    }

    /// Means over events and runs are weighted by them.
    fn add_probe(&mut self, new: Probe) {
        self.observer_ns += new.ns_per_event.unwrap_or(0.0) * new.events as f64;
        self.programs_ns += new.ns_per_run.unwrap_or(0.0) * new.runs.unwrap_or(0) as f64;
        let Some(before) = self.probe.take() else {
            self.probe = Some(new);
            return;
        };
        self.probe = Some(Probe {
            events: before.events + new.events,
            dropped: before.dropped + new.dropped,
            runs: before.runs.map_or(new.runs, |runs| Some(runs + new.runs.unwrap_or(0))),
            ns_per_run: new.ns_per_run.or(before.ns_per_run),
            ns_per_empty_run: new.ns_per_empty_run.or(before.ns_per_empty_run),
            reason: new.reason.or(before.reason),
            clock_error_ns: new.clock_error_ns.max(before.clock_error_ns),
            ..new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(total_ns: u64) -> Walk {
        Walk {
            case: String::new(),
            kept: "slowest".to_owned(),
            engine: "fake".to_owned(),
            client: String::new(),
            destination: String::new(),
            backend: String::new(),
            total_ns,
            steps: Vec::new(),
            rules_walked: None,
            queries: Vec::new(),
            conntrack: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn iteration(totals_ns: &[u64], events: u64, ns: f64, rules_walked: u64) -> Iteration {
        let walks = Walks {
            stages: Vec::new(),
            residual: Vec::new(),
            first_packet: Histogram::default(),
            legs: LegWalks::default(),
            sampled: 0,
            joined: 0,
            unjoined: Vec::new(),
            queries: None,
            probe: Probe {
                engine: "bpf".to_owned(),
                reason: None,
                events,
                dropped: 1,
                ns_per_event: Some(ns),
                runs: Some(2 * events),
                ns_per_run: Some(ns),
                ns_per_empty_run: None,
                effect: None,
                sample_every: 1,
                clock_error_ns: None,
            },
            counts: Some(Counts { rules_walked: Some(rules_walked), ..Counts::default() }),
            slowest: totals_ns.iter().map(|&ns| walk(ns)).collect(),
            pcap: None,
        };
        Iteration { walks: Some(walks), ..Iteration::default() }
    }

    #[test]
    fn the_slowest_walks_of_all_iterations_are_kept_slowest_first() {
        let mut tally = Tally::new(3, (0, 0));
        tally.add(0, iteration(&[50, 20], 1, 1.0, 7));
        tally.add(1, iteration(&[90, 40, 10], 1, 1.0, 7));
        let kept: Vec<_> = tally.slowest.iter().map(|walk| walk.total_ns).collect();
        assert_eq!(kept, [90, 50, 40]);
        assert_eq!(tally.notes(None), Vec::<String>::new());
    }

    #[test]
    fn costs_are_means_over_all_events_and_runs_not_over_iterations() {
        let mut tally = Tally::new(0, (0, 0));
        tally.add(0, iteration(&[], 100, 50.0, 7));
        tally.add(1, iteration(&[], 300, 90.0, 7));
        let probe = tally.probe().unwrap();
        assert_eq!((probe.events, probe.runs, probe.dropped), (400, Some(800), 2));
        assert_eq!((probe.ns_per_event, probe.ns_per_run), (Some(80.0), Some(80.0)));
    }

    #[test]
    fn counts_that_differ_between_iterations_are_said_to() {
        let mut tally = Tally::new(0, (0, 0));
        tally.add(0, iteration(&[], 1, 1.0, 7));
        tally.add(1, iteration(&[], 1, 1.0, 8));
        assert_eq!(tally.counts.unwrap().rules_walked, Some(7));
        assert_eq!(tally.notes(None).len(), 1);
    }
}
