// SPDX-License-Identifier: Apache-2.0
//! A block under way: what its iterations gave, added up.

use record::{BlockRecord, Counts, Histogram};

use super::tally::stage_record;
use crate::lab::{Iteration, Ready, StageTimes};

/// Figures of one block's iterations so far.
#[derive(Debug, Default)]
pub(super) struct Block {
    requests: u64,
    errors: u64,
    seconds: f64,
    latency: Histogram,
    first_packet: Histogram,
    stages: Vec<StageTimes>,
    counts: Option<Counts>,
}

impl Block {
    /// Adds an iteration.
    pub(super) fn add(&mut self, iteration: &Iteration) {
        let load = &iteration.load;
        self.requests += load.requests;
        self.errors += load.errors.values().sum::<u64>();
        self.seconds += load.elapsed_ns as f64 / 1e9;
        self.latency.merge(&Histogram::from_pairs(load.latency.iter().copied()));
        let Some(walks) = &iteration.walks else { return };
        self.first_packet.merge(&walks.first_packet);
        merge_stages(&mut self.stages, &walks.stages);
        self.counts = self.counts.or(walks.counts);
    }

    /// Whether no request was answered or failed.
    pub(super) fn is_empty(&self) -> bool {
        self.requests + self.errors == 0
    }

    /// The block's line of the record.
    pub(super) fn record(&self, ready: &Ready) -> BlockRecord {
        BlockRecord {
            requests: self.requests,
            errors: self.errors,
            throughput_rps: (self.seconds > 0.0).then(|| self.requests as f64 / self.seconds),
            latency_ns: self.latency.quantiles(),
            first_packet_ns: self.first_packet.quantiles(),
            stages: self.stages.iter().filter_map(stage_record).collect(),
            counts: self.counts,
            install_ms: Some(ready.install_ms),
        }
    }
}

/// Adds stages to those known, by name and leg; new ones come behind, in path order.
pub(super) fn merge_stages(known: &mut Vec<StageTimes>, more: &[StageTimes]) {
    for stage in more {
        match known.iter_mut().find(|s| s.name == stage.name && s.leg == stage.leg) {
            Some(known) => known.times.merge(&stage.times),
            None => known.push(stage.clone()),
        }
    }
}
