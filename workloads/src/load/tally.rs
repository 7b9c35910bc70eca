// SPDX-License-Identifier: Apache-2.0
//! What a phase has seen so far; of a size that does not grow with the number of requests.

use std::collections::BTreeMap;

use super::exchange::Answered;
use super::failure::Failure;
use super::link::Link;
use super::recorder::Recorder;
use crate::protocol::{Handshakes, Lookup, PhaseReport, Sample};

/// Counts, distributions and samples of one phase.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: u64,
    errors: BTreeMap<Failure, u64>,
    latency: Recorder,
    service_time: Recorder,
    dns: Recorder,
    connect: Recorder,
    tls: Recorder,
    upgrade: Recorder,
    handshakes: Handshakes,
    first_byte: Recorder,
    last_byte: Recorder,
    lateness: Recorder,
    samples: Vec<Sample>,
    lookups: Vec<Lookup>,
    samples_max: u64,
    samples_not_kept: u64,
    first_intended_ns: Option<u64>,
    last_outcome_ns: u64,
}

impl Tally {
    /// An empty tally that will keep at most so many samples.
    pub(super) fn new(samples_max: u64) -> Self {
        Self { samples_max, ..Self::default() }
    }

    /// A request was due.
    pub(super) fn intended(&mut self, intended_ns: u64) {
        self.first_intended_ns.get_or_insert(intended_ns);
    }

    /// A connection was opened.
    pub(super) fn opened(&mut self, link: &Link) {
        match link.handshake {
            Some(handshake) if handshake.resumed => self.handshakes.resumed += 1,
            Some(_) => self.handshakes.full += 1,
            None => {}
        }
    }

    /// A request was answered as asked. `fresh` tells that its connection was opened for it.
    pub(super) fn answered(
        &mut self,
        intended_ns: u64,
        link: &Link,
        fresh: bool,
        answered: &Answered,
    ) {
        let Answered { sent, first_byte, last_byte_ns, .. } = *answered;
        let resolve_ns = link.resolve_ns.filter(|_| fresh);
        let start_ns = match (resolve_ns, fresh) {
            (Some(resolve_ns), _) => resolve_ns,
            (None, true) => link.connect_ns,
            (None, false) => sent.at_ns,
        };
        self.requests += 1;
        self.latency.record(last_byte_ns - intended_ns);
        self.service_time.record(last_byte_ns - start_ns);
        if let Some(resolve_ns) = resolve_ns {
            self.dns.record(link.connect_ns - resolve_ns);
        }
        if fresh {
            self.connect.record(link.connected_ns - link.connect_ns);
            if let Some(handshake) = link.handshake {
                self.tls.record(handshake.secured_ns - link.connected_ns);
            }
            if let Some(upgraded_ns) = link.upgraded_ns {
                self.upgrade.record(upgraded_ns - link.opened_ns());
            }
        }
        self.first_byte.record(first_byte.at_ns - sent.at_ns);
        self.last_byte.record(last_byte_ns - first_byte.at_ns);
        self.lateness.record(start_ns - intended_ns);
        self.last_outcome_ns = self.last_outcome_ns.max(last_byte_ns);
        if link.sampled {
            let lookups = resolve_ns.map_or(&[][..], |_| &link.lookups);
            self.sampled(
                lookups,
                Sample {
                    id: answered.id,
                    client: link.client,
                    request_offset: sent.offset,
                    response_offset: first_byte.offset,
                    intended_ns,
                    resolve_ns,
                    connect_ns: fresh.then_some(link.connect_ns),
                    connected_ns: fresh.then_some(link.connected_ns),
                    secured_ns: link.handshake.filter(|_| fresh).map(|shaken| shaken.secured_ns),
                    upgraded_ns: link.upgraded_ns.filter(|_| fresh),
                    sent_ns: sent.at_ns,
                    first_byte_ns: first_byte.at_ns,
                    last_byte_ns,
                },
            );
        }
    }

    fn sampled(&mut self, lookups: &[Lookup], sample: Sample) {
        if (self.samples.len() as u64) < self.samples_max {
            self.samples.push(sample);
            self.lookups.extend(lookups);
        } else {
            self.samples_not_kept += 1;
        }
    }

    /// A request was not answered, or not as asked; `at_ns` is when that was known.
    pub(super) fn failed(&mut self, failure: Failure, at_ns: u64) {
        *self.errors.entry(failure).or_insert(0) += 1;
        self.last_outcome_ns = self.last_outcome_ns.max(at_ns);
    }

    /// The tally as a report; what a phase knows besides is left at its default.
    pub(super) fn report(self) -> PhaseReport {
        let first_ns = self.first_intended_ns.unwrap_or(self.last_outcome_ns);
        PhaseReport {
            requests: self.requests,
            errors: self.errors.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            elapsed_ns: self.last_outcome_ns.saturating_sub(first_ns),
            latency: self.latency.pairs(),
            service_time: self.service_time.pairs(),
            dns: self.dns.pairs(),
            connect: self.connect.pairs(),
            tls: self.tls.pairs(),
            upgrade: self.upgrade.pairs(),
            handshakes: self.handshakes,
            first_byte: self.first_byte.pairs(),
            last_byte: self.last_byte.pairs(),
            lateness: self.lateness.pairs(),
            samples: self.samples,
            lookups: self.lookups,
            samples_not_kept: self.samples_not_kept,
            ..PhaseReport::default()
        }
    }
}
