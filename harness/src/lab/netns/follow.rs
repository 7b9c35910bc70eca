// SPDX-License-Identifier: Apache-2.0
//! Taps on a case's path, and an iteration's packets turned into walks.

use std::collections::BTreeMap;

use record::{Histogram, Probe};
use workloads::protocol::{Mark, Sample};

use super::{NetnsLab, road};
use crate::capture::{
    Host, Joiner, Observations, Path, Site, TapInfo, TapOptions, TapPoint, Taps, pcap,
};
use crate::lab::{LabError, StageTimes, Walks};
use crate::plan::{Case, Road};
use crate::proxy::Relay;

/// Frames kept of one iteration for a capture file, bytes.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Open taps and what is known of connections so far.
#[derive(Debug)]
pub(super) struct Follower {
    taps: Taps,
    joiner: Joiner,
    /// Bytes kept of a frame when there is to be a capture file.
    pcap_snap_bytes: Option<u32>,
}

fn capture_error(error: impl std::error::Error) -> LabError {
    LabError::Capture(error.to_string())
}

impl Follower {
    /// Opens taps on every interface that the case's path has.
    pub(super) fn start(
        lab: &NetnsLab,
        case: &Case,
        pcap_snap_bytes: Option<u32>,
    ) -> Result<Self, LabError> {
        let path = Path::of(case.mode, case.cni, road::walked(case));
        let points: Vec<_> =
            points(lab, case.route.road).into_iter().filter(|point| passes(&path, point)).collect();
        let mut options = TapOptions::default();
        if let Some(bytes) = pcap_snap_bytes {
            options.snap_bytes = bytes.max(options.snap_bytes);
            options.frame_bytes_max = FRAME_BYTES_MAX;
            options.keep_acks = true;
        }
        let taps = Taps::start(&points, options).map_err(capture_error)?;
        let joiner = Joiner::new(&path, taps.infos()).map_err(capture_error)?;
        Ok(Self { taps, joiner, pcap_snap_bytes })
    }

    /// Forgets what passed since the last call.
    pub(super) fn forget(&mut self) -> Result<(), LabError> {
        self.taps.drain().map(drop).map_err(capture_error)
    }

    /// Joins what passed since the last call. `sample_every` is what the load was told.
    pub(super) fn walks(
        &mut self,
        samples: &[Sample],
        marks: &[Mark],
        relays: &[Relay],
        sample_every: u32,
    ) -> Result<Walks, LabError> {
        let mut capture = self.taps.drain().map_err(capture_error)?;
        let pcap = self.pcap_snap_bytes.map(|snap_bytes| {
            let mut file = Vec::new();
            pcap::write(&mut file, self.taps.infos(), &capture, snap_bytes)
                .map(|_| file)
                .map_err(capture_error)
        });
        let probe = Probe {
            engine: "tap".to_owned(),
            reason: None,
            events: capture.events,
            dropped: capture.dropped,
            ns_per_event: (capture.events > 0)
                .then(|| capture.cpu_ns as f64 / capture.events as f64),
            runs: None,
            ns_per_run: None,
            effect: None,
            sample_every,
        };
        let packets = std::mem::take(&mut capture.packets);
        let observations =
            Observations { packets, dropped: capture.dropped, samples, marks, relays };
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
            pcap: pcap.transpose()?,
        })
    }
}

fn stage(stage: &crate::capture::join::StageTimes) -> StageTimes {
    let times: Histogram = stage.times.histogram();
    StageTimes { name: stage.name.clone(), leg: stage.leg, times }
}

/// Every interface of the lab, from the road's point of view: the one that requests start from is
/// the client's.
fn points(lab: &NetnsLab, road: Road) -> Vec<TapPoint<'_>> {
    let origin = road::origin(lab, road).name();
    lab.tap_points()
        .into_iter()
        .filter_map(|point| match point.kind {
            Site::ClientEth if point.netns.name() != origin => None,
            Site::PodEth if point.netns.name() == origin => {
                Some(TapPoint { kind: Site::ClientEth, ..point })
            }
            _ => Some(point),
        })
        .collect()
}

/// Whether a path has a hop at a tap's interface.
fn passes(path: &Path, point: &TapPoint<'_>) -> bool {
    let info = TapInfo::of(point);
    let host = Host::of(&info);
    path.hops().iter().any(|hop| hop.host == host && hop.site == point.kind)
}
