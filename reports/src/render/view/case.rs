// SPDX-License-Identifier: Apache-2.0
//! The evidence behind one case: proof, probes, budgets, quantiles and iterations.

use record::{CaseRecord, Leg, Quantiles, Run, StageRecord};

use crate::analysis::fidelity::{or_emulated, times_count};
use crate::analysis::kernel;
use crate::analysis::number::{
    NONE, bits, bytes, count, digits, millis, percent, time, time_or_none,
};
use crate::analysis::summary::{errors, status_word};
use crate::render::palette;
use crate::render::view::Fact;

/// Body from which on its rate says more of the road than of a request's start, bytes: several segments.
const LARGE_BYTES: u64 = 16 * 1024;
/// Iterations shown of a case; the record has them all.
const ITERATIONS_MAX: usize = 50;

/// A case that ran.
pub(crate) struct CaseView {
    pub(crate) id: String,
    pub(crate) colour: String,
    pub(crate) status: &'static str,
    /// What was proved, empty where nothing was.
    pub(crate) proved: String,
    pub(crate) evidence: Vec<String>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) notes: Vec<String>,
    /// Why its times are not shown, empty where they are.
    pub(crate) untimed: String,
    /// Name, count, p50, p90, p99, p99.9, max, mean.
    pub(crate) quantiles: Vec<[String; 8]>,
    /// Of one query for a name: leg, stage, count, p50, p99, mean.
    pub(crate) query_stages: Vec<[String; 6]>,
    /// Order, req/s, p50, p99, first packet, requests, errors, seconds.
    pub(crate) iterations: Vec<[String; 8]>,
    pub(crate) iterations_left_out: usize,
    /// Rules, lab up, install, prove, down.
    pub(crate) times: [String; 5],
}

impl CaseView {
    pub(crate) fn new(run: &Run, case: &CaseRecord, name: String) -> Self {
        let timed = times_count(run, case);
        let times = [case.lab_up_ms, case.install_ms, case.prove_ms, case.down_ms]
            .map(|ms| or_emulated(timed, millis(ms)));
        let [up, install, prove, down] = times;
        Self {
            id: name,
            colour: palette::css(palette::mode(&case.mode)),
            status: status_word(case.status),
            proved: case.proof.as_ref().map(|p| p.mode.clone()).unwrap_or_default(),
            evidence: case.proof.as_ref().map(|p| p.evidence.clone()).unwrap_or_default(),
            facts: facts(case, timed),
            untimed: if timed {
                String::new()
            } else {
                format!(
                    "No times are shown: {} has an emulated processor, and what a request takes on \
                     it is the emulator’s time. The record has them.",
                    kernel::on(&case.kernel)
                )
            },
            notes: case.notes.clone(),
            query_stages: if timed { query_stages(case) } else { Vec::new() },
            quantiles: if timed { quantiles(case) } else { Vec::new() },
            iterations: if timed {
                case.iterations.iter().take(ITERATIONS_MAX).map(iteration).collect()
            } else {
                Vec::new()
            },
            iterations_left_out: case.iterations.len().saturating_sub(ITERATIONS_MAX),
            times: [case.rules.map_or_else(|| NONE.to_owned(), count), up, install, prove, down],
        }
    }
}

fn facts(case: &CaseRecord, timed: bool) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("requests answered", count(case.requests)),
        Fact::new("requests not answered", errors(case)),
    ];
    facts.insert(0, Fact::new("kernel", kernel::on(&case.kernel)));
    if let Some(probe) = &case.probe {
        let every = match probe.sample_every {
            1 => "every connection".to_owned(),
            k => format!("one connection in {}", count(u64::from(k))),
        };
        let cost = probe.ns_per_event.filter(|_| timed).map_or_else(
            || {
                if timed { "cost per event not measured" } else { "cost per event emulated" }
                    .to_owned()
            },
            |ns| format!("{} of processor time per event", time(ns)),
        );
        let text = format!(
            "engine {}, {every}; {} events, {} dropped; {cost}",
            probe.engine,
            count(probe.events),
            count(probe.dropped)
        );
        facts.push(Fact::new("probes", text));
    }
    if let Some(joined) = case.joined_ratio {
        facts.push(Fact::new("requests joined to all their stages", percent(joined)));
    }
    if let Some(tuples) = case.tuples {
        let over =
            if tuples.spent > tuples.budget { ": over budget, tuples were reused" } else { "" };
        let text = format!("{} of {}{over}", count(tuples.spent), count(tuples.budget));
        facts.push(Fact::new("source tuples spent", text));
    }
    if let Some(asked) = &case.queries {
        let text = format!(
            "{}: {} answered with an address, {} with none of the kind, {} with NXDOMAIN, {} failed",
            count(asked.asked),
            count(asked.addresses),
            count(asked.no_data),
            count(asked.nxdomain),
            count(asked.failed),
        );
        facts.push(Fact::new("queries for names", text));
        if let Some(joined) = asked.joined_ratio {
            facts.push(Fact::new("queries joined to all their stages", percent(joined)));
        }
    }
    if let Some(legs) = case.legs.filter(|_| timed) {
        for (name, leg) in [("requests", legs.request), ("responses", legs.response)] {
            if leg.body_bytes >= LARGE_BYTES {
                let took = time(leg.time_ns.p50 as f64);
                let rate = bits(leg.bits_per_second());
                let text = format!("{} in {took}: {rate} at the median", bytes(leg.body_bytes));
                facts.push(Fact::new(name, text));
            }
        }
    }
    if let Some(shaken) = case.handshakes {
        let text = format!("{} in full, {} resumed", count(shaken.full), count(shaken.resumed));
        facts.push(Fact::new("TLS handshakes", text));
    }
    if let Some(conntrack) = case.conntrack {
        let text = format!("{} of {}", count(conntrack.peak), count(conntrack.max));
        facts.push(Fact::new("conntrack entries at the peak", text));
    }
    if let Some(rules) = case.rules {
        facts.push(Fact::new("rules or map elements", count(rules)));
    }
    if let Some(rss) = case.load_peak_rss_bytes {
        facts.push(Fact::new("load generator's memory at the peak", bytes(rss)));
    }
    facts
}

fn quantiles(case: &CaseRecord) -> Vec<[String; 8]> {
    let named = [
        ("latency", case.latency_ns),
        ("service time", case.service_time_ns),
        ("name resolved", case.dns_ns),
        ("connect", case.connect_ns),
        ("TLS handshake", case.tls_ns),
        ("upgrade", case.upgrade_ns),
        ("first byte", case.first_byte_ns),
        ("last byte", case.last_byte_ns),
        ("lateness", case.lateness_ns),
        ("first packet", case.first_packet_ns),
    ];
    let row = |(name, q): (&str, Option<Quantiles>)| {
        let q = q?;
        let [p50, p90, p99, p999, max] =
            [q.p50, q.p90, q.p99, q.p999, q.max].map(|ns| time(ns as f64));
        Some([name.to_owned(), count(q.count), p50, p90, p99, p999, max, time(q.mean)])
    };
    named.into_iter().filter_map(row).collect()
}

fn query_stages(case: &CaseRecord) -> Vec<[String; 6]> {
    let row = |stage: &StageRecord| {
        let leg = match stage.leg {
            Leg::Request => "query",
            Leg::Response => "answer",
        };
        let [p50, p99] = [stage.p50_ns, stage.p99_ns].map(|ns| time(ns as f64));
        let name = stage.name.clone();
        [leg.to_owned(), name, count(stage.count), p50, p99, time(stage.mean_ns)]
    };
    case.queries.iter().flat_map(|queries| &queries.stages).map(row).collect()
}

fn iteration(one: &record::IterationRecord) -> [String; 8] {
    [
        count(u64::from(one.sequence)),
        digits(one.throughput_rps),
        time_or_none(one.latency_ns.map(|q| q.p50)),
        time_or_none(one.latency_ns.map(|q| q.p99)),
        time_or_none(one.first_packet_ns.map(|q| q.p50)),
        count(one.requests),
        count(one.errors),
        digits(one.seconds),
    ]
}
