// SPDX-License-Identifier: Apache-2.0
//! A case's iterations added up into its line of the record.

use std::collections::BTreeMap;

use record::{
    BlockRecord, CaseFiles, CaseRecord, Conntrack, Counts, Failure, Handshakes, Histogram,
    IterationRecord, Leg, LegRecord, Legs, Probe, Queries, Residual, StageRecord, Status, Tuples,
    Walk,
};

use super::block::{Block, merge_stages};
use super::effect::Effect;
use crate::lab::{Iteration, LabError, LegWalks, Ready, StageTimes, Walks};
use crate::plan::Case;

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

    /// The probes of all iterations.
    fn probe(&self) -> Option<Probe> {
        let probe = self.probe.clone()?;
        let mean = |total_ns: f64, n: u64| (n > 0).then(|| total_ns / n as f64);
        Some(Probe {
            ns_per_event: probe.ns_per_event.and(mean(self.observer_ns, probe.events)),
            ns_per_run: probe.ns_per_run.and(mean(self.programs_ns, probe.runs.unwrap_or(0))),
            effect: self.effect.record(),
            ..probe
        })
    }

    /// The case's line and files.
    pub(super) fn into_record(
        self,
        id: String,
        lab: &str,
        case: &Case,
        ready: Option<Ready>,
        down: Option<(f64, Option<f64>)>,
        error: Option<LabError>,
    ) -> (CaseRecord, CaseFiles) {
        let (status, reason, failure) = outcome(error);
        let files = self.files(ready.as_ref());
        let seconds: f64 = self.iterations.iter().map(|i| i.seconds).sum();
        let requests = self.iterations.iter().map(|i| i.requests).sum();
        let quantiles = |name: &str| self.distributions.get(name).and_then(Histogram::quantiles);
        let record = CaseRecord {
            id,
            lab: lab.to_owned(),
            kernel: case.kernel.clone(),
            fidelity: ready.as_ref().and_then(|ready| ready.fidelity),
            mode: case.mode_label(),
            cni: case.cni_label(),
            route: case.route.to_string(),
            services: case.services,
            workload: case.workload.clone(),
            status,
            reason,
            failure,
            proof: ready.as_ref().map(|ready| ready.proof.clone()),
            requests,
            errors: self.errors.values().sum(),
            throughput_rps: (seconds > 0.0).then(|| requests as f64 / seconds),
            latency_ns: quantiles("latency"),
            service_time_ns: quantiles("service_time"),
            dns_ns: quantiles("dns"),
            queries: self.queries.clone().map(|queries| Queries {
                stages: self.query_stages.iter().filter_map(stage_record).collect(),
                residual_ns: residual(&self.query_residual),
                joined_ratio: (self.queries_sampled > 0)
                    .then(|| self.queries_joined as f64 / self.queries_sampled as f64),
                ..queries
            }),
            connect_ns: quantiles("connect"),
            tls_ns: quantiles("tls"),
            upgrade_ns: quantiles("upgrade"),
            handshakes: self.handshakes,
            first_byte_ns: quantiles("first_byte"),
            last_byte_ns: quantiles("last_byte"),
            lateness_ns: quantiles("lateness"),
            first_packet_ns: self.first_packet.quantiles(),
            legs: self.legs(),
            stages: self.stages.iter().filter_map(stage_record).collect(),
            residual_ns: residual(&self.residual),
            joined_ratio: (self.sampled > 0).then(|| self.joined as f64 / self.sampled as f64),
            probe: self.probe(),
            counts: self.counts,
            notes: self.notes(ready.as_ref()),
            tuples: ready
                .as_ref()
                .map(|ready| Tuples { budget: ready.tuple_budget, spent: self.tuples_spent }),
            conntrack: self.conntrack,
            rules: ready.as_ref().map(|ready| ready.rules),
            load_peak_rss_bytes: Some(self.load_peak_rss_bytes).filter(|&bytes| bytes > 0),
            lab_up_ms: ready.as_ref().map(|ready| ready.lab_up_ms),
            install_ms: ready.as_ref().map(|ready| ready.install_ms),
            prove_ms: ready.as_ref().map(|ready| ready.prove_ms),
            down_ms: down.map(|(ms, _)| ms),
            add_one_ms: down.and_then(|(_, add_one_ms)| add_one_ms),
            errors_by_kind: self.errors,
            iterations: self.iterations,
            // A single block says nothing that the case does not.
            blocks: if self.blocks.len() > 1 { self.blocks } else { Vec::new() },
        };
        (record, files)
    }

    fn legs(&self) -> Option<Legs> {
        let leg = |body_bytes, times: &Histogram| {
            Some(LegRecord { body_bytes, time_ns: times.quantiles()? })
        };
        let (request, response) = self.bodies;
        Some(Legs {
            request: leg(request, &self.legs.request)?,
            response: leg(response, &self.legs.response)?,
        })
    }

    fn notes(&self, ready: Option<&Ready>) -> Vec<String> {
        let mut notes = ready.map_or_else(Vec::new, |ready| ready.notes.clone());
        for (kind, count) in &self.unjoined {
            notes.push(format!("{count} sampled requests not joined: {kind}"));
        }
        for (kind, count) in &self.queries_unjoined {
            notes.push(format!("{count} sampled queries not joined: {kind}"));
        }
        if self.counts_vary {
            notes.push(
                "counts of one request differed between iterations; the first one's are shown"
                    .to_owned(),
            );
        }
        notes
    }

    fn files(&self, ready: Option<&Ready>) -> CaseFiles {
        let named = self.distributions.iter().map(|(name, h)| ((*name).to_owned(), h.clone()));
        let first = [
            ("first_packet", &self.first_packet),
            ("leg-request", &self.legs.request),
            ("leg-response", &self.legs.response),
        ]
        .map(|(name, histogram)| (name.to_owned(), histogram.clone()));
        let stages = self.stages.iter().chain(&self.query_stages).map(|stage| {
            (format!("stage-{}-{}", leg_word(stage.leg), stage.name), stage.times.clone())
        });
        CaseFiles {
            histograms: named.chain(first).chain(stages).filter(|(_, h)| !h.is_empty()).collect(),
            files: ready
                .map_or_else(Vec::new, |ready| ready.files.clone())
                .into_iter()
                .chain(self.pcaps.iter().cloned())
                .collect(),
            walks: self.slowest.clone(),
        }
    }
}

fn leg_word(leg: Leg) -> &'static str {
    match leg {
        Leg::Request => "request",
        Leg::Response => "response",
    }
}

fn outcome(error: Option<LabError>) -> (Status, Option<record::Reason>, Option<Failure>) {
    match error {
        None => (Status::Measured, None, None),
        Some(LabError::Unavailable(unavailable)) => {
            (Status::Skipped, Some(unavailable.into()), None)
        }
        Some(error) => {
            let failure = Failure { message: error.to_string(), stderr: error.stderr() };
            (Status::Failed, None, Some(failure))
        }
    }
}

pub(super) fn stage_record(stage: &StageTimes) -> Option<StageRecord> {
    let quantiles = stage.times.quantiles()?;
    Some(StageRecord {
        name: stage.name.clone(),
        leg: stage.leg,
        count: quantiles.count,
        p50_ns: quantiles.p50,
        p99_ns: quantiles.p99,
        mean_ns: quantiles.mean,
    })
}

fn residual(values: &BTreeMap<i64, u64>) -> Option<Residual> {
    let total: u64 = values.values().sum();
    let at = |q: f64| {
        let rank = ((q * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        values.iter().find_map(|(&value, count)| {
            seen += count;
            (seen >= rank).then_some(value)
        })
    };
    Some(Residual { p50: at(0.50)?, p99: at(0.99)? })
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
