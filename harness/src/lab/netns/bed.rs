// SPDX-License-Identifier: Apache-2.0
//! One case on hosts that are namespaces, whoever made them: proved, loaded, followed, left.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use record::{Conntrack, Counts, Proof, Walk};
use workloads::protocol::{
    Arrival, Connection, LoadCommand, LoadSpec, Mark, PhaseReport, TargetCommand, TargetReply,
};

use super::beds::Ground;
use super::datapath::{self, Datapath, Met};
use super::engine::Engine;
use super::follow::Follower;
use super::measured::Measured;
use super::second::Second;
use super::site::Site;
use super::{Emulation, Hosts, NetnsLab, Topology, ingress, names, road};
use crate::Cancel;
use crate::capture::join::{QueryStory, Story};
use crate::lab::{Bed, Down, Iteration, LabError, Ready, Walks};
use crate::net::{Agent, Netns, ToolError, conntrack};
use crate::plan::{
    ArrivalKind, CHOICES_PER_TRANSACTION, Case, Mode, Profile, Proxy, Road, WorkloadSettings,
};
use crate::proxy::Matched;
use crate::relay::Relay;

/// What an agent may take beyond the time it was told to work.
const SLACK: Duration = Duration::from_secs(20);
/// How often a stop is looked for while an agent works.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a single request may take to start.
const ONE_REQUEST: Duration = Duration::from_secs(2);
/// Connections made to see which rules lead to one endpoint.
const MET_MAX: u16 = 64;
/// Load before a single request is followed.
const WARM: Duration = Duration::from_millis(500);
/// Samples kept of one iteration.
const SAMPLES_MAX: u64 = 200_000;

/// One case, up.
#[derive(Debug)]
pub(in crate::lab) struct NetnsBed {
    ground: Rc<Ground>,
    workload: WorkloadSettings,
    ready: Ready,
    sample_every: u32,
    iterations: u32,
    case: Case,
    measured: Measured,
    met: Met,
    counts: Option<Counts>,
    // Ended in this order: load, taps, proxy process, hosts.
    load: Agent,
    follower: Option<Follower>,
    datapath: Datapath,
    second: Option<Second>,
    site: Box<dyn Site>,
}

/// One request that was followed.
#[derive(Debug)]
struct One {
    story: Story,
    /// Queries for names before it.
    queries: Vec<QueryStory>,
    relays: Vec<Relay>,
}

/// A case's hosts with its mode on them, not yet proved.
#[derive(Debug)]
pub(in crate::lab) struct Stand {
    /// The hosts.
    pub(in crate::lab) site: Box<dyn Site>,
    /// Its Services.
    pub(in crate::lab) measured: Measured,
    /// The mode.
    pub(in crate::lab) datapath: Datapath,
    /// The mode for a second family, where hosts have one.
    pub(in crate::lab) second: Option<Second>,
    /// Evidence of the wiring, which took this long to find, milliseconds.
    pub(in crate::lab) wiring: (Vec<String>, f64),
    /// Texts by which it is wired, for the record.
    pub(in crate::lab) files: Vec<(String, Vec<u8>)>,
    /// Hosts, wiring and servers, milliseconds.
    pub(in crate::lab) lab_up_ms: f64,
}

impl NetnsBed {
    /// Builds hosts, wiring and mode, proves both, starts the load generator.
    pub(super) fn up(
        ground: Rc<Ground>,
        engine: &Engine,
        emulation: Option<Emulation>,
        question: &Netns,
        case: &Case,
        cancel: &Cancel,
    ) -> Result<Self, LabError> {
        let profile = &ground.profile;
        let attachment = ground.attachment(case, question)?;
        let start = Instant::now();
        let topology = topology(profile, emulation, case);
        let mut lab = match attachment {
            Some(attachment) => {
                // A plugin gives a pod one address.
                let topology = Topology { pod_extra_addresses: 0, ..topology };
                NetnsLab::up_by_plugins(&topology, attachment)?
            }
            None => NetnsLab::up(&topology, case.cni)?,
        };
        let certificates = ground.certificates_for(case)?;
        lab.proxied = profile.lab.proxy_protocol && case.route.road == Road::Loadbalancer;
        lab.start_targets(&ground.program, &["agent", "target"], certificates)?;
        let mut lab_up_ms = ms(start);
        stop_if(cancel)?;

        let measured = Measured::of(&lab, case, profile)?;
        let mut datapath =
            Datapath::install(&ground, &lab, (case.mode, case.proxy), &measured.table)?;
        let mut second = Second::install(&ground, &lab, case)?;
        if let Some(second) = &mut second {
            datapath.stand_beside(second.datapath());
        }
        let start = Instant::now();
        let also = second.as_ref().map(Second::services);
        lab.start_dns(&ground.program, &["agent", "dns"], case, &measured, also)?;
        lab.start_between(&ground, case, &measured)?;
        lab_up_ms += ms(start);
        stop_if(cancel)?;

        let start = Instant::now();
        let wiring = (lab.prove()?, ms(start));
        let files = lab.files();
        let site = Box::new(lab);
        Self::on(
            ground,
            engine,
            Stand { site, measured, datapath, second, wiring, files, lab_up_ms },
            case,
        )
    }

    /// Proves that the mode carries what it has to carry, and starts the load generator.
    pub(in crate::lab) fn on(
        ground: Rc<Ground>,
        engine: &Engine,
        stand: Stand,
        case: &Case,
    ) -> Result<Self, LabError> {
        let Stand { mut site, measured, mut datapath, mut second, wiring, files, lab_up_ms } =
            stand;
        let start = Instant::now();
        let (mut evidence, wiring_ms) = wiring;
        evidence.extend(datapath.prove(&ground, site.hosts(), case, &measured)?);
        evidence.extend(names::prove(site.hosts(), case, &measured)?);
        if let Some(second) = &mut second {
            evidence.extend(second.prove(&ground, site.hosts())?);
        }
        let family = site.hosts().family();
        if let Some(balancer) = &mut site.hosts_mut().balancer {
            evidence.push(balancer.prove(family)?);
        }
        if let Some(ingress) = &mut site.hosts_mut().ingress {
            evidence.push(ingress.prove()?);
        }
        let (lab, profile) = (site.hosts(), &ground.profile);
        let prove_ms = wiring_ms + ms(start);
        let met = datapath.met(&ground, lab, case, &measured, 0)?;

        let sources = road::sources(lab, case.route.road);
        let workload = profile.workload[&case.workload].clone();
        let ready = Ready {
            proof: Proof { mode: case.mode_label(), evidence },
            fidelity: None,
            files: datapath
                .texts
                .iter()
                .map(|t| (t.name.to_owned(), t.text.clone().into()))
                .chain(second.iter().flat_map(Second::files))
                .chain(files)
                .collect(),
            rules: datapath.texts.iter().map(|text| text.rules).sum(),
            notes: notes(lab, case, profile)
                .into_iter()
                .chain(datapath.note.clone())
                .chain(second.as_ref().map(Second::note))
                .collect(),
            tuple_budget: names::budget(road::tuple_budget(&sources), workload.resolve),
            lab_up_ms,
            install_ms: datapath.install_ms,
            prove_ms,
        };
        let spec = LoadSpec {
            target: road::destination(lab, case, &measured),
            host: case.route.road.is_ingress().then(|| ingress::HOST.to_owned()),
            request_ids: case.route.road.is_ingress()
                || case.route.road == Road::Loadbalancer && !road::is_routed(lab),
            resolve: names::resolve(lab, case, &measured),
            arrival: arrival(&workload),
            connection: workload.connection,
            protocol: workload.protocol,
            tls: ground.load_tls(case.route.road, &workload)?,
            request_bytes: workload.request_bytes,
            response_bytes: workload.response_bytes,
            server_work_ns: workload.server_work.nanos(),
            sources,
            timeout_ms: workload.timeout.millis(),
            seed: profile.seed,
        };
        let mut load = road::load(lab, case.route.road, &ground.program)?;
        load.tell(&spec)?;
        let follower = Follower::new(engine, lab, case, &measured, &ground)?;
        Ok(Self {
            ground,
            workload,
            ready,
            sample_every: 1,
            iterations: 0,
            case: case.clone(),
            measured,
            met,
            counts: None,
            load,
            follower,
            datapath,
            second,
            site,
        })
    }

    /// Runs one phase of load and hears its report.
    fn load(
        &mut self,
        duration: Duration,
        sample_every: u32,
        cancel: &Cancel,
    ) -> Result<PhaseReport, LabError> {
        self.load_up_to(None, duration, sample_every, cancel)
    }

    /// The same, with so many requests at most.
    fn load_up_to(
        &mut self,
        max_requests: Option<u64>,
        duration: Duration,
        sample_every: u32,
        cancel: &Cancel,
    ) -> Result<PhaseReport, LabError> {
        self.load.tell(&LoadCommand::Run {
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            max_requests,
            sample_every,
            max_samples: SAMPLES_MAX,
        })?;
        let deadline = Instant::now() + duration + self.workload.timeout.0 + SLACK;
        loop {
            match self.load.hear(GLANCE) {
                Err(ToolError::Silent { .. }) if cancel.requested() => {
                    return Err(LabError::Cancelled);
                }
                Err(ToolError::Silent { .. }) if Instant::now() < deadline => {}
                report => return Ok(report?),
            }
        }
    }

    /// The servers' marks since the last call.
    fn marks(&mut self) -> Result<Vec<Mark>, LabError> {
        let mut all = Vec::new();
        for &index in &self.measured.backends {
            let pod = &mut self.site.hosts_mut().pods_mut()[index];
            let Some(target) = &mut pod.target else { continue };
            target.tell(&TargetCommand::Drain)?;
            match target.hear(SLACK)? {
                TargetReply::Marks { marks, .. } => all.extend(marks),
                other => return Err(LabError::Unsound(format!("{} answered {other:?}", pod.name))),
            }
        }
        Ok(all)
    }

    /// Connections that proxy processes joined since the last call.
    fn take_relays(&mut self) -> Result<Vec<Relay>, LabError> {
        Ok(self.datapath.take_relays()?)
    }

    fn conntrack(&self) -> Result<Conntrack, LabError> {
        let entry = &self.site.hosts().nodes()[0].netns;
        Ok(Conntrack { max: conntrack::max(entry)?, peak: conntrack::count(entry)? })
    }
}

impl Bed for NetnsBed {
    fn ready(&self) -> &Ready {
        &self.ready
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), LabError> {
        let warm_up = self.ground.profile.run.warm_up.0;
        if warm_up.is_zero() {
            return Ok(());
        }
        // Every connection is followed, so that the probes' cost is counted on many events.
        let report = match self.follower.take() {
            Some(mut follower) => {
                follower.on_costed(self.site.hosts())?;
                let report = follower.costed(|| self.load(warm_up, 1, cancel))?;
                self.counts = self.count(&mut follower, cancel)?;
                if self.ground.profile.run.unprobed {
                    follower.off();
                }
                self.follower = Some(follower);
                report
            }
            None => self.load(warm_up, 0, cancel)?,
        };
        let rate = report.requests as f64 / (report.elapsed_ns as f64 / 1e9).max(1e-9);
        let asked = f64::from(self.ground.profile.run.samples_per_second);
        let every = (rate / asked).ceil().max(1.0) as u32;
        self.sample_every = match self.workload.connection {
            Connection::Newconn => every,
            // The first of each k connections is followed: beyond their number, k changes nothing.
            Connection::Keepalive => every.min(self.workload.connections),
        };
        self.note_budget(rate);
        Ok(())
    }

    fn iterate(&mut self, cancel: &Cancel) -> Result<Iteration, LabError> {
        self.iterations += 1;
        // Off on, on off, ...: a drift falls on both alike.
        let off_first = self.iterations % 2 == 1;
        let before = if off_first { self.unprobed(cancel)? } else { None };
        let (load, walks) = self.probed(cancel)?;
        let behind = if off_first { None } else { self.unprobed(cancel)? };
        let unprobed = before.or(behind);
        let conntrack = self.conntrack()?;
        if conntrack.peak * 10 > conntrack.max * 8 {
            self.note(format!(
                "conntrack on the entry node was {} % full: entries may have been dropped early",
                conntrack.peak * 100 / conntrack.max.max(1)
            ));
        }
        Ok(Iteration { load, unprobed, walks, conntrack: Some(conntrack) })
    }

    fn down(self: Box<Self>) -> Down {
        let Self { ground, case, load, follower, mut datapath, second, site, measured, .. } = *self;
        let mut errors = Vec::new();
        let mut add_one_ms = None;
        // Hosts that outlive the case would keep the Service.
        let programs = ground.profile.run.add_one && case.mode != Mode::None;
        if programs && site.hosts().turn.is_none() {
            match datapath.add_one(&ground, site.hosts(), &measured) {
                Ok(took_ms) => add_one_ms = took_ms,
                Err(error) => errors.push(format!("failed to program one Service more: {error}")),
            }
        }
        // The time of taking down does not hold what was done for the record.
        let start = Instant::now();
        if let Err(error) = load.down() {
            errors.push(format!("failed to end the load generator: {error}"));
        }
        drop((follower, second));
        errors.extend(datapath.down(&ground, site.hosts()));
        let mut released = site.release();
        errors.append(&mut released.errors);
        Down { ms: ms(start), add_one_ms, errors, settle: released.settle }
    }
}

impl NetnsBed {
    /// A block of load with the probes on, and what they saw.
    fn probed(&mut self, cancel: &Cancel) -> Result<(PhaseReport, Option<Walks>), LabError> {
        let duration = self.ground.profile.run.duration.0;
        let Some(mut follower) = self.follower.take() else {
            return Ok((self.load(duration, 0, cancel)?, None));
        };
        self.marks()?;
        let relays = self.take_relays()?;
        follower.on(self.site.hosts())?;
        // Where they have stayed on, they have seen what answered the block before to its end.
        follower.forget(&relays)?;
        let mut load = self.load(duration, self.sample_every, cancel)?;
        let samples = std::mem::take(&mut load.samples);
        let lookups = std::mem::take(&mut load.lookups);
        let (marks, relays) = (self.marks()?, self.take_relays()?);
        let walks = follower.walks(
            (&samples, &lookups),
            &marks,
            &relays,
            self.sample_every,
            self.site.hosts(),
        )?;
        // On and off takes longer than a short block does: only for the sake of one without them.
        if self.ground.profile.run.unprobed {
            follower.off();
        }
        self.follower = Some(follower);
        let walks = Walks { counts: self.counts, ..walks };
        Ok((load, Some(walks)))
    }

    /// Follows one request by itself and counts what it is made of. The probes have to be on.
    fn count(
        &mut self,
        follower: &mut Follower,
        cancel: &Cancel,
    ) -> Result<Option<Counts>, LabError> {
        let Some(one) = self.one_request(follower, cancel)? else { return Ok(None) };
        let counts = follower.counts(&one.story);
        // HPACK writes some digits shorter than others (RFC 7541, appendix B), and an answer has the
        // time of day in it: over HTTP/2 its length is not the same every time. Neither is a
        // handshake's, which has signatures in it (RFC 3279, section 2.2.3: two integers of no fixed
        // length).
        let shakes_hands =
            self.workload.tls.is_some() && self.workload.connection == Connection::Newconn;
        let exact = !self.workload.protocol.is_http2() && !shakes_hands;
        Ok(Some(Counts {
            bytes: counts.bytes.filter(|_| exact),
            rules_walked: Some(self.met.matched.walked),
            rules_walked_beyond: self.met.walked_beyond,
            conntrack_entries: Some(self.met.conntrack_entries),
            ..counts
        }))
    }

    /// Makes one request, followed, and nothing beside it. `None` where it could not be joined.
    fn one_request(
        &mut self,
        follower: &mut Follower,
        cancel: &Cancel,
    ) -> Result<Option<One>, LabError> {
        self.marks()?;
        let relays = self.take_relays()?;
        follower.forget(&relays)?;
        let load = self.load_up_to(Some(1), ONE_REQUEST, 1, cancel)?;
        let (marks, relays) = (self.marks()?, self.take_relays()?);
        let story = follower.story((&load.samples, &load.lookups), &marks, &relays)?;
        Ok(story.map(|(story, queries)| One { story, queries, relays }))
    }

    /// Which rules a connection meets that is sent to an endpoint. Endpoints are chosen by chance:
    /// connections are made until one is sent there.
    fn met_on_the_way_to(&mut self, endpoint: Option<SocketAddr>) -> Result<Matched, LabError> {
        for nth in 1..=MET_MAX {
            let Self { ground, site, case, measured, .. } = self;
            let met = self.datapath.met(ground, site.hosts(), case, measured, nth)?;
            let chosen = met.matched.endpoint;
            if chosen.is_none() || endpoint.is_none() || chosen == endpoint {
                return Ok(met.matched);
            }
        }
        Err(LabError::Unsound(format!(
            "none of {MET_MAX} connections was sent to {endpoint:?}, as the one before"
        )))
    }

    /// Follows one request and says all there is to say about it.
    pub(in crate::lab) fn trace(
        &mut self,
        cancel: &Cancel,
    ) -> Result<(Walk, Option<Vec<u8>>), LabError> {
        let Some(mut follower) = self.follower.take() else {
            return Err(LabError::Capture("an engine without probes follows nothing".to_owned()));
        };
        // Neighbours, caches and the allocator have seen such a request before.
        self.load_up_to(Some(20), WARM, 0, cancel)?;
        follower.on(self.site.hosts())?;
        let one = self.one_request(&mut follower, cancel)?;
        let pcap = follower.pcap()?;
        follower.off();
        let Some(One { story, queries, relays }) = one else {
            let why = "the request was not seen at every place of its path".to_owned();
            return Err(LabError::Capture(why));
        };
        if let Some(reason) = queries.iter().find_map(|query| query.unjoined.as_ref()) {
            return Err(LabError::Capture(format!("a query for a name cannot be told: {reason}")));
        }
        let answered = story.mark.map(|mark| mark.local);
        let matched = self.met_on_the_way_to(answered)?;
        let teller = follower.teller(&story, self.site.hosts());
        let mut walk = teller.walk(&story);
        let names = names::tried(self.site.hosts(), &self.case, &self.measured)?;
        walk.queries = teller.queries(&story, &queries, &names);
        let any_rules = !matched.rules.is_empty();
        teller.add_rules(&mut walk, matched);
        if any_rules {
            walk.notes.push(
                "the rules are those of another connection to the same endpoint: watching them would \
                 have slowed this one"
                    .to_owned(),
            );
        }
        let mut sources: Vec<_> = relays.iter().map(|relay| relay.upstream).collect();
        sources.push(story.sample.client);
        sources.extend(queries.iter().map(|query| query.source));
        // Behind a load balancer or a reverse proxy the request came by a connection of theirs.
        sources.extend(story.mark.filter(|mark| mark.id.is_some()).map(|mark| mark.peer));
        walk.conntrack = datapath::entries(self.site.hosts(), sources)?;
        self.follower = Some(follower);
        Ok((walk, pcap))
    }

    /// A block of the same load with the probes off, where there are probes. As many connections
    /// are marked, so that the two differ in the probes only.
    fn unprobed(&mut self, cancel: &Cancel) -> Result<Option<PhaseReport>, LabError> {
        let run = &self.ground.profile.run;
        if self.follower.is_none() || !run.unprobed {
            return Ok(None);
        }
        // As long as the other: a short block after a pause is a fast one.
        let duration = run.duration.0;
        let load = self.load(duration, self.sample_every, cancel)?;
        self.marks()?;
        self.take_relays()?;
        Ok(Some(PhaseReport { samples: Vec::new(), lookups: Vec::new(), ..load }))
    }

    fn note(&mut self, note: String) {
        if !self.ready.notes.contains(&note) {
            self.ready.notes.push(note);
        }
    }

    /// Says so when the iterations at the warm-up's rate need more tuples than there are.
    fn note_budget(&mut self, rate: f64) {
        let run = &self.ground.profile.run;
        if self.workload.connection == Connection::Newconn {
            let seconds = run.duration.0.as_secs_f64() * f64::from(run.iterations);
            let (needed, budget) = ((rate * seconds) as u64, self.ready.tuple_budget);
            if needed > budget {
                self.note(format!(
                    "about {needed} connections need more than the {budget} source tuples there are; raise \
                     lab.client_addresses or lab.pod_extra_addresses, or shorten the run"
                ));
            }
        }
    }
}

/// What a reader of the case's figures has to know of its lab.
fn notes(lab: &Hosts, case: &Case, profile: &Profile) -> Vec<String> {
    let mut notes = lab.notes().to_vec();
    if case.route.road == Road::Clusterip && !profile.lab.wire.is_plain() {
        notes.push(
            "road clusterip does not pass the wire: [lab.wire] does nothing to it".to_owned(),
        );
    }
    let own = case.mode == Mode::Nftables && case.proxy == Proxy::Own;
    if own && profile.service.nftables_transactions.are_parts(case.services as usize) {
        notes.push(format!(
            "install gives the kernel the choices of endpoints in transactions of at most {CHOICES_PER_TRANSACTION}; kube-proxy gives it \
             all rules in one, which takes it longer (service.nftables_transactions = \"whole\")"
        ));
    }
    notes
}

fn topology(profile: &Profile, emulation: Option<Emulation>, case: &Case) -> Topology {
    let settings = &profile.lab;
    Topology {
        nodes: settings.nodes,
        pods_per_node: settings.pods_per_node,
        mtu: settings.mtu,
        client_addresses: settings.client_addresses,
        pod_extra_addresses: settings.pod_extra_addresses,
        emulation,
        dns: names::node(profile, case),
        balanced: road::balanced(case, settings.nodes, profile.service.external_policy),
        routed: settings.balancer.routes() && case.route.road == Road::Loadbalancer,
        family: case.ip.family(),
        dual: case.ip.second().is_some(),
        rp_filter: settings.rp_filter,
    }
}

fn arrival(workload: &WorkloadSettings) -> Arrival {
    match (workload.arrival, workload.rate, workload.schedule) {
        (ArrivalKind::Open, Some(rate), Some(schedule)) => {
            Arrival::Open { rate, schedule, max_in_flight: workload.connections }
        }
        _ => Arrival::Closed { connections: workload.connections },
    }
}

fn stop_if(cancel: &Cancel) -> Result<(), LabError> {
    if cancel.requested() { Err(LabError::Cancelled) } else { Ok(()) }
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
