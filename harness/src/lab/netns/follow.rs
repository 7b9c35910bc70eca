// SPDX-License-Identifier: Apache-2.0
//! Probes on a case's path, and an iteration's packets turned into walks.

use std::net::SocketAddr;

use record::{Counts, Probe, Walk};
use workloads::protocol::{Lookup, Mark, Sample};

use super::beds::Ground;
use super::engine::{Capture, Engine, Seen};
use super::{Hosts, Measured, names, points, road};
#[cfg(feature = "bpf")]
use crate::bpf::StatsOn;
use crate::capture::join::{QueryStory, Story};
use crate::capture::{
    Joiner, Observations, Path, ProgramCost, QueryJoiner, TapOptions, Taps, pcap,
};
use crate::lab::tell::Teller;
use crate::lab::walks::{self, capture_error};
use crate::lab::{LabError, QueryWalks, Walks};
use crate::plan::{Case, IngressTls, Road};
use crate::relay::Relay;

/// Frames kept of one iteration for a capture file, bytes.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A case's probes and what is known of connections so far.
#[derive(Debug)]
pub(super) struct Follower {
    capture: Capture,
    joiner: Joiner,
    /// Joins queries for names, where there are any.
    queries: Option<QueryJoiner>,
    /// That of requests, and behind it that of queries.
    paths: Vec<Path>,
    road: Road,
    backends: Vec<usize>,
    /// Port that they answer at.
    port: u16,
    case: String,
    client: String,
    destination: SocketAddr,
    /// Whether single requests are looked at as such.
    thorough: bool,
    /// Why the engine is not the one that was asked for, or not all of it.
    reason: Option<String>,
    cost: Option<ProgramCost>,
    /// Bytes kept of a frame when there is to be a capture file, and the taps that keep them.
    pcap_snap_bytes: Option<u32>,
    frames: Option<Taps>,
    running: bool,
}

impl Follower {
    /// Probes on every site of the case's path, off. `None` for an engine without probes.
    pub(super) fn new(
        engine: &Engine,
        lab: &Hosts,
        case: &Case,
        measured: &Measured,
        ground: &Ground,
    ) -> Result<Option<Self>, LabError> {
        let Ground { thorough, ref profile, pcap, .. } = *ground;
        let path = match road::is_routed(lab) {
            true => Path::routed(case.mode, lab.walked, case.route.place),
            false => Path::of(case.mode, lab.walked, road::walked(case)),
        };
        let path = path.entered_by(lab.entries());
        let proxy = case.route.road.is_ingress().then(|| lab.pods()[road::CLIENT_POD].address);
        let body = profile.workload[&case.workload].request_bytes > 0;
        let passes_tls = profile.lab.ingress_tls == IngressTls::Passthrough;
        let mut paths = vec![path.by_ingress(proxy).passing_tls(passes_tls).with_body(body)];
        paths.extend(lab.dns.map(|_| Path::of(case.mode, lab.walked, names::route(case))));
        let road = case.route.road;
        let backends = &measured.backends;
        let capture =
            Capture::of(engine, lab, &paths, road, backends, thorough).map_err(capture_error)?;
        let Some(capture) = capture else { return Ok(None) };
        let joiner = Joiner::new(&paths[0], capture.infos()).map_err(capture_error)?;
        let queries = paths.get(1).map(|path| QueryJoiner::new(path, capture.infos()));
        let queries = queries.transpose().map_err(capture_error)?;
        let kept = if thorough { 1 } else { profile.run.trace_slowest };
        let reason = match engine {
            Engine::Client | Engine::Tap(None) => None,
            Engine::Tap(Some(instead)) => Some(instead.to_string()),
            #[cfg(feature = "bpf")]
            Engine::Bpf(loaded) => loaded.iter().find_map(|(_, probes)| probes.interpreted()),
        };
        Ok(Some(Self {
            capture,
            joiner: joiner.keeping(kept),
            case: case.id(ground.lab),
            client: road::origin(lab, road).name().to_owned(),
            destination: road::destination(lab, case, measured),
            thorough,
            queries,
            paths,
            road,
            backends: backends.clone(),
            port: measured.port,
            reason,
            cost: None,
            pcap_snap_bytes: pcap.then_some(profile.run.pcap_snap_bytes),
            frames: None,
            running: false,
        }))
    }

    /// Switches the probes on, and the empty program beside them, for a block in which costs are
    /// counted.
    pub(super) fn on_costed(&mut self, lab: &Hosts) -> Result<(), LabError> {
        self.on(lab)?;
        #[cfg(feature = "bpf")]
        self.capture.add_empty(lab, self.road).map_err(capture_error)?;
        Ok(())
    }

    /// Switches the probes on, if they are off.
    pub(super) fn on(&mut self, lab: &Hosts) -> Result<(), LabError> {
        if self.running {
            return Ok(());
        }
        if let Some(snap_bytes) = self.pcap_snap_bytes {
            self.frames = Some(self.frame_taps(lab, snap_bytes)?);
        }
        self.capture.on(lab, &self.paths, self.road, &self.backends).map_err(capture_error)?;
        self.running = true;
        Ok(())
    }

    /// Whole frames for a capture file, whatever engine joins.
    fn frame_taps(&self, lab: &Hosts, snap_bytes: u32) -> Result<Taps, LabError> {
        let mut options = TapOptions::default();
        options.snap_bytes = snap_bytes.max(options.snap_bytes);
        options.frame_bytes_max = FRAME_BYTES_MAX;
        options.keep_acks = true;
        Taps::start(&points::taps(lab, &self.paths, self.road), options).map_err(capture_error)
    }

    /// Switches the probes off.
    pub(super) fn off(&mut self) {
        self.capture.off();
        self.frames = None;
        self.running = false;
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
        self.capture.remove_empty();
        let Seen { events, packets, .. } = self.capture.drain().map_err(capture_error)?;
        self.joiner.learn(packets, &[]).map_err(capture_error)?;
        self.cost = ProgramCost::of(after - before, events);
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
        (samples, lookups): (&[Sample], &[Lookup]),
        marks: &[Mark],
        relays: &[Relay],
        sample_every: u32,
        lab: &Hosts,
    ) -> Result<Walks, LabError> {
        let seen = self.capture.drain().map_err(capture_error)?;
        let pcap = self.pcap()?;
        let probe = self.probe(&seen, sample_every);
        let Seen { packets, dropped, .. } = seen;
        let queries = self.queries.as_ref().map(|queries| queries.join(&packets, lookups));
        let queries = queries.transpose().map_err(capture_error)?;
        let observations = Observations { packets, dropped, samples, marks, relays };
        let joined = self.joiner.join(observations).map_err(capture_error)?;
        let slowest = joined.stories.iter().map(|story| self.walk(story, lab)).collect();
        let queries = queries.as_ref().map(QueryWalks::of);
        Ok(Walks { pcap, queries, ..Walks::of(&joined, probe, slowest) })
    }

    /// Forgets what passed since the probes were switched on, but for the connections that are open, and
    /// those that processes have joined meanwhile.
    pub(super) fn forget(&mut self, relays: &[Relay]) -> Result<(), LabError> {
        let Seen { packets, .. } = self.capture.drain().map_err(capture_error)?;
        self.joiner.learn(packets, relays).map_err(capture_error)
    }

    /// The story of the one request that passed, and those of the queries before it; `None` where it could not be
    /// joined.
    pub(super) fn story(
        &mut self,
        (samples, lookups): (&[Sample], &[Lookup]),
        marks: &[Mark],
        relays: &[Relay],
    ) -> Result<Option<(Story, Vec<QueryStory>)>, LabError> {
        let Seen { packets, dropped, .. } = self.capture.drain().map_err(capture_error)?;
        let queries = self.queries.as_ref().map(|queries| queries.stories(&packets, lookups));
        let observations = Observations { packets, dropped, samples, marks, relays };
        let joined = self.joiner.join_keeping(observations, 1).map_err(capture_error)?;
        Ok(joined.stories.into_iter().next().map(|story| (story, queries.unwrap_or_default())))
    }

    /// What a request is made of, as far as probes see it.
    pub(super) fn counts(&self, story: &Story) -> Counts {
        walks::counts(story, self.capture.infos(), self.capture.name() == "bpf")
    }

    /// Tells a story in full.
    fn walk(&self, story: &Story, lab: &Hosts) -> Walk {
        self.teller(story, lab).walk(story)
    }

    /// Who tells the story of a request of this case.
    pub(super) fn teller<'a>(&'a self, story: &Story, lab: &'a Hosts) -> Teller<'a> {
        let pods = lab.pods();
        let answered =
            story.mark.and_then(|mark| pods.iter().find(|pod| pod.address == mark.local.ip()));
        let pod = answered.unwrap_or(&pods[self.backends[0]]);
        Teller {
            case: &self.case,
            kept: if self.thorough { "trace" } else { "slowest" },
            engine: self.capture.name(),
            probes: self.capture.infos(),
            client: &self.client,
            pod: (pod.netns.name(), SocketAddr::new(pod.address, self.port).to_string()),
            entry: &lab.nodes()[0].name,
            destination: self.destination.to_string(),
        }
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
            ns_per_empty_run: None,
            effect: None,
            sample_every,
            clock_error_ns: None,
        };
        if let Some(cost) = &mut self.cost {
            cost.tell(&mut probe);
        }
        probe
    }

    pub(super) fn pcap(&mut self) -> Result<Option<Vec<u8>>, LabError> {
        let (Some(snap_bytes), Some(taps)) = (self.pcap_snap_bytes, &mut self.frames) else {
            return Ok(None);
        };
        let capture = taps.drain().map_err(capture_error)?;
        let mut file = Vec::new();
        pcap::write(&mut file, taps.infos(), &capture, snap_bytes).map_err(capture_error)?;
        Ok(Some(file))
    }
}
