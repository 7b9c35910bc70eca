// SPDX-License-Identifier: Apache-2.0
//! Probes on a case's path, and an iteration's packets turned into walks.

use std::collections::BTreeMap;

use record::{Histogram, Probe};
use workloads::protocol::{Mark, Sample};

use super::engine::{Capture, Engine, Seen};
use super::{NetnsLab, points, road};
#[cfg(feature = "bpf")]
use crate::bpf::StatsOn;
use crate::capture::{Joiner, Observations, Path, TapOptions, Taps, pcap};
use crate::lab::{LabError, StageTimes, Walks};
use crate::plan::{Case, Road};
use crate::proxy::Relay;

/// Frames kept of one iteration for a capture file, bytes.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A case's probes and what is known of connections so far.
#[derive(Debug)]
pub(super) struct Follower {
    capture: Capture,
    joiner: Joiner,
    path: Path,
    road: Road,
    backends: Vec<usize>,
    /// Why the engine is not the one that was asked for.
    reason: Option<String>,
    cost: Option<ProgramCost>,
    /// Bytes kept of a frame when there is to be a capture file, and the taps that keep them.
    pcap_snap_bytes: Option<u32>,
    frames: Option<Taps>,
}

/// What the programs cost while the kernel counted.
#[derive(Clone, Copy, Debug)]
struct ProgramCost {
    runs: u64,
    time_ns: u64,
    ns_per_event: f64,
    told: bool,
}

fn capture_error(error: impl std::error::Error) -> LabError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    LabError::Capture(text)
}

impl Follower {
    /// Probes on every site of the case's path, off. `None` for an engine without probes.
    pub(super) fn new(
        engine: &Engine,
        lab: &NetnsLab,
        case: &Case,
        backends: &[usize],
        pcap_snap_bytes: Option<u32>,
    ) -> Result<Option<Self>, LabError> {
        let path = Path::of(case.mode, case.cni, road::walked(case));
        let road = case.route.road;
        let capture = Capture::of(engine, lab, &path, road, backends).map_err(capture_error)?;
        let Some(capture) = capture else { return Ok(None) };
        let joiner = Joiner::new(&path, capture.infos()).map_err(capture_error)?;
        let reason = match engine {
            Engine::Tap(Some(instead)) => Some(instead.to_string()),
            _ => None,
        };
        Ok(Some(Self {
            capture,
            joiner,
            path,
            road,
            backends: backends.to_vec(),
            reason,
            cost: None,
            pcap_snap_bytes,
            frames: None,
        }))
    }

    /// Switches the probes on.
    pub(super) fn on(&mut self, lab: &NetnsLab) -> Result<(), LabError> {
        if let Some(snap_bytes) = self.pcap_snap_bytes {
            self.frames = Some(self.frame_taps(lab, snap_bytes)?);
        }
        self.capture.on(lab, &self.path, self.road, &self.backends).map_err(capture_error)
    }

    /// Whole frames for a capture file, whatever engine joins.
    fn frame_taps(&self, lab: &NetnsLab, snap_bytes: u32) -> Result<Taps, LabError> {
        let mut options = TapOptions::default();
        options.snap_bytes = snap_bytes.max(options.snap_bytes);
        options.frame_bytes_max = FRAME_BYTES_MAX;
        options.keep_acks = true;
        Taps::start(&points::taps(lab, &self.path, self.road), options).map_err(capture_error)
    }

    /// Switches the probes off.
    pub(super) fn off(&mut self) {
        self.capture.off();
        self.frames = None;
    }

    /// Has the kernel count what the programs cost while `load` runs; for a block whose times do
    /// not count. The probes have to be on.
    #[cfg(feature = "bpf")]
    pub(super) fn costed<T>(
        &mut self,
        load: impl FnOnce() -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        let Some(before) = self.capture.cost().map_err(capture_error)? else { return load() };
        let counting = StatsOn::begin().map_err(capture_error)?;
        let outcome = load()?;
        let after = self.capture.cost().map_err(capture_error)?.unwrap_or(before);
        drop(counting);
        let events = self.capture.drain().map_err(capture_error)?.events;
        let time_ns = after.time_ns - before.time_ns;
        self.cost = (events > 0).then(|| ProgramCost {
            runs: after.runs - before.runs,
            time_ns,
            ns_per_event: time_ns as f64 / events as f64,
            told: false,
        });
        Ok(outcome)
    }

    /// Without programs there is nothing to count.
    #[cfg(not(feature = "bpf"))]
    pub(super) fn costed<T>(
        &mut self,
        load: impl FnOnce() -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        load()
    }

    /// Joins what passed since the probes were switched on. `sample_every` is what the load was
    /// told.
    pub(super) fn walks(
        &mut self,
        samples: &[Sample],
        marks: &[Mark],
        relays: &[Relay],
        sample_every: u32,
    ) -> Result<Walks, LabError> {
        let seen = self.capture.drain().map_err(capture_error)?;
        let pcap = self.pcap()?;
        let probe = self.probe(&seen, sample_every);
        let Seen { packets, dropped, .. } = seen;
        let observations = Observations { packets, dropped, samples, marks, relays };
        let joined = self.joiner.join(observations).map_err(capture_error)?;
        let mut residual = BTreeMap::new();
        for &value in &joined.residual_ns {
            *residual.entry(value).or_insert(0) += 1;
        }
        let first_packet = joined.first_packet.histogram();
        Ok(Walks {
            stages: joined.stages.iter().map(stage).collect(),
            residual: residual.into_iter().collect(),
            first_packet,
            sampled: joined.sampled,
            joined: joined.joined,
            unjoined: joined.unjoined.iter().map(|(why, n)| (why.to_string(), *n)).collect(),
            probe,
            counts: None,
            slowest: Vec::new(),
            pcap,
        })
    }

    fn probe(&mut self, seen: &Seen, sample_every: u32) -> Probe {
        let mut probe = Probe {
            engine: self.capture.name().to_owned(),
            reason: self.reason.clone(),
            events: seen.events,
            dropped: seen.dropped,
            ns_per_event: (seen.events > 0).then(|| seen.reader_ns as f64 / seen.events as f64),
            runs: None,
            ns_per_run: None,
            effect: None,
            sample_every,
        };
        if let Some(cost) = &mut self.cost {
            probe.ns_per_event = Some(cost.ns_per_event);
            // Counted once, so told once.
            if !std::mem::replace(&mut cost.told, true) {
                probe.runs = Some(cost.runs);
                probe.ns_per_run = Some(cost.time_ns as f64 / cost.runs.max(1) as f64);
            }
        }
        probe
    }

    fn pcap(&mut self) -> Result<Option<Vec<u8>>, LabError> {
        let (Some(snap_bytes), Some(taps)) = (self.pcap_snap_bytes, &mut self.frames) else {
            return Ok(None);
        };
        let capture = taps.drain().map_err(capture_error)?;
        let mut file = Vec::new();
        pcap::write(&mut file, taps.infos(), &capture, snap_bytes).map_err(capture_error)?;
        Ok(Some(file))
    }
}

fn stage(stage: &crate::capture::join::StageTimes) -> StageTimes {
    let times: Histogram = stage.times.histogram();
    StageTimes { name: stage.name.clone(), leg: stage.leg, times }
}
