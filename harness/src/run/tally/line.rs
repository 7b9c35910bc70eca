// SPDX-License-Identifier: Apache-2.0
//! The record's line of a case, and its files, of what was added up.

use std::collections::BTreeMap;

use record::{
    CaseFiles, CaseRecord, Failure, Histogram, Leg, LegRecord, Legs, Probe, Queries, Residual,
    StageRecord, Status, Tuples,
};

use super::Tally;
use crate::lab::{LabError, Ready, StageTimes};
use crate::plan::Case;

impl Tally {
    /// The probes of all iterations.
    pub(super) fn probe(&self) -> Option<Probe> {
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
    pub(in crate::run) fn into_record(
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

    pub(super) fn notes(&self, ready: Option<&Ready>) -> Vec<String> {
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

pub(in crate::run) fn stage_record(stage: &StageTimes) -> Option<StageRecord> {
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
