// SPDX-License-Identifier: Apache-2.0
//! One case on a cluster: placed, its Services made, reached, loaded.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use record::{Counts, Proof};
use workloads::protocol::{
    Arrival, Connection, Kept, LoadCommand, LoadSpec, Mark, PhaseReport, Sources,
};

use super::follow::{Ends, Follower, Seen};
use super::ground::Ground;
use super::merge::{Punctuality, merge};
use super::parts::OTHERS;
use super::placement::Placement;
use super::road;
use super::workers::{self, PORT_FIRST, Task};
use crate::lab::{Bed, Down, Iteration, LabError, Ready, Walks};
use crate::net::addresses::{POD_PORT, POD_TLS_PORT};
use crate::plan::{Case, WorkloadSettings};
use crate::{Cancel, Unavailable};

/// How long kube-proxies may take to program a table.
const PROGRAMMED: Duration = Duration::from_secs(120);
/// After how long without an answer a cluster is taken to have forgotten the Service's endpoints
/// ([`Services::touch`](crate::kube::Services::touch)).
const FORGOTTEN: Duration = Duration::from_secs(15);
/// How long one attempt to reach the target goes on.
const ATTEMPT: Duration = Duration::from_millis(300);
/// Source ports of a phase of which nothing is known yet, and the most that one can use.
const PORTS_MAX: u32 = (u16::MAX - PORT_FIRST) as u32 + 1;
/// Samples kept of one phase and worker: what an answer has room for.
const SAMPLES_MAX: u64 = 50_000;

/// What followed requests need, where there are probes.
#[derive(Debug)]
struct Probed {
    follower: Option<Follower>,
    sample_every: u32,
    counts: Option<Counts>,
    iterations: u32,
}

/// One phase of all workers.
#[derive(Clone, Copy, Debug)]
struct Phase {
    duration: Duration,
    max_requests: Option<u64>,
    /// Every k-th connection of a worker is followed; 0 for none.
    sample_every: u32,
}

/// One case, up.
#[derive(Debug)]
pub(super) struct KubeconfigBed {
    ground: Rc<Ground>,
    workload: WorkloadSettings,
    destination: SocketAddr,
    /// Places of its workers among the ground's.
    places: Vec<usize>,
    ready: Ready,
    /// The first notes, before those about the iterations.
    notes: Vec<String>,
    punctuality: Punctuality,
    renewed: usize,
    probed: Probed,
    /// Most source ports that one worker used in a second.
    ports_a_second: f64,
}

impl KubeconfigBed {
    /// Starts what is missing of pods, makes the Services, and waits until every worker reaches the
    /// target.
    pub(super) fn up(ground: Rc<Ground>, case: &Case, cancel: &Cancel) -> Result<Self, LabError> {
        let workload = ground.profile.workload[&case.workload].clone();
        // A worker without a connection would do nothing.
        let count = ground.options.load_workers.min(workload.connections).max(1);
        let placement = Placement::of(&ground.nodes, case.mode, case.route, count as usize)?;
        let start = Instant::now();
        if ground.options.probes && workload.tls.is_some() {
            return Err(Unavailable::new(
                "stages of requests over TLS in lab kubeconfig",
                "probes there that follow what is not encrypted",
                "--lab kind, or without --probes",
            )
            .into());
        }
        if ground.options.probes {
            // First, because it is what a cluster may not allow.
            ground.watchers(cancel)?;
        }
        let targets = ground.targets(&placement.backend)?;
        let port = if workload.tls.is_some() { POD_TLS_PORT } else { POD_PORT };
        let places = ground.workers_on(&placement.workers)?;
        let lab_up_ms = ms(start);

        let start = Instant::now();
        let through = road::passes_service(case.mode, case.route.road);
        let destination = if through {
            let placed =
                ground.install(case, road::service(&targets, port, &ground.profile.service))?;
            road::service_address(&placement, case.route.road, &placed)?
        } else {
            SocketAddr::new(targets[0].address, port)
        };
        let install_ms = ms(start);

        let mut evidence = ground.mode.evidence.clone();
        if !through {
            evidence.push(format!("requests go to pod {} itself", targets[0].name));
        }
        let ready = Ready {
            proof: Proof { mode: case.mode.to_string(), evidence },
            fidelity: None,
            files: Vec::new(),
            rules: if through { u64::from(case.services) } else { 0 },
            notes: Vec::new(),
            tuple_budget: u64::from(PORTS_MAX) * places.len() as u64,
            lab_up_ms,
            install_ms,
            prove_ms: 0.0,
        };
        let notes = notes(&ground, &placement, &places, count);
        let mut bed = Self {
            ground,
            workload,
            destination,
            places,
            ready,
            notes,
            punctuality: Punctuality::default(),
            renewed: 0,
            probed: Probed { follower: None, sample_every: 1, counts: None, iterations: 0 },
            ports_a_second: 0.0,
        };
        let start = Instant::now();
        let said = bed.prove(through, cancel)?;
        bed.ready.proof.evidence.push(said);
        if bed.ground.options.probes {
            let workers = bed.ground.workers(&bed.places);
            let pods = (workers.into_iter().map(|worker| worker.pod).collect(), targets);
            let follower =
                Follower::new(bed.ground.clone(), case, &placement, pods, destination, cancel)?;
            let said = bed.prove_path(follower, cancel)?;
            bed.ready.proof.evidence.push(said);
        }
        bed.ready.prove_ms = ms(start);
        // What the proof did to the workers' punctuality is not the case's.
        bed.punctuality = Punctuality::default();
        bed.tell();
        Ok(bed)
    }

    /// Has every worker ask until it is answered. A Service's address is nobody's: an answer from it
    /// has been through the cluster's proxy.
    fn prove(&mut self, through: bool, cancel: &Cancel) -> Result<String, LabError> {
        let begun = Instant::now();
        let deadline = begun + PROGRAMMED;
        let mut touched = false;
        loop {
            let one = Phase { duration: ATTEMPT, max_requests: Some(1), sample_every: 0 };
            let kept = self.phase(one, cancel)?;
            let silent = kept.iter().position(|kept| kept.report.requests == 0);
            let Some(worker) = silent else {
                let what = if through { "the Service's" } else { "the pod's" };
                return Ok(format!(
                    "each of {} workers was answered from {what} address {}",
                    kept.len(),
                    self.destination
                ));
            };
            if through && !touched && begun.elapsed() > FORGOTTEN {
                self.ground.touch()?;
                self.notes.push(format!(
                    "the cluster's controllers were pointed to the Service's endpoints again after {} s without an answer",
                    begun.elapsed().as_secs()
                ));
                touched = true;
            }
            if Instant::now() > deadline {
                let pod = self.ground.workers(&self.places)[worker].pod.clone();
                let kinds: Vec<&str> =
                    kept[worker].report.errors.keys().map(String::as_str).collect();
                return Err(LabError::Unreachable {
                    client: format!("{} on {}", pod.name, pod.node),
                    target: self.destination.to_string(),
                    found: format!("{} for {} s", kinds.join(", "), PROGRAMMED.as_secs()),
                });
            }
        }
    }

    /// Follows requests to see that they pass where the wiring says they do. Where they do not, devices
    /// and hooks are the CNI's own affair, and only the ends of its part are known.
    fn prove_path(&mut self, mut follower: Follower, cancel: &Cancel) -> Result<String, LabError> {
        let mut besides = String::new();
        loop {
            let all = Phase { duration: ATTEMPT, max_requests: None, sample_every: 1 };
            let (kept, seen, marks) = self.followed(&mut follower, all, false, cancel)?;
            let Err(found) = follower.proved(&seen, &ends(kept, marks).1)? else { break };
            if follower.cni == OTHERS {
                return Err(Unavailable::new(
                    "requests that are seen at every place of their path, for --probes",
                    found,
                    "--lab kind, or without --probes",
                )
                .into());
            }
            besides = format!("; not on that of {}: {found}", follower.cni);
            follower.wired(OTHERS)?;
        }
        self.notes.extend(follower.notes());
        self.probed.follower = Some(follower);
        Ok(format!("requests were followed at every place of their path{besides}"))
    }

    /// A phase with the probes on, what they saw, and what the servers noted.
    fn followed(
        &mut self,
        follower: &mut Follower,
        phase: Phase,
        counted: bool,
        cancel: &Cancel,
    ) -> Result<(Vec<Kept>, Seen, Vec<Mark>), LabError> {
        if self.renew(phase.duration)? > 0 {
            let workers = self.ground.workers(&self.places);
            follower.renew(workers.into_iter().map(|worker| worker.pod).collect(), cancel)?;
        }
        follower.marks()?;
        follower.on(phase.duration + self.workload.timeout.0, counted)?;
        let kept = self.phase(phase, cancel)?;
        let marks = follower.marks()?;
        Ok((kept, follower.off()?, marks))
    }

    /// One phase on all workers.
    fn phase(&mut self, phase: Phase, cancel: &Cancel) -> Result<Vec<Kept>, LabError> {
        let Phase { duration, max_requests, sample_every } = phase;
        let timeout = self.workload.timeout.0;
        self.renew(duration)?;
        let tls = match self.workload.tls {
            Some(version) => {
                let certificates = self.ground.certificates()?;
                Some(certificates.load(crate::certificates::NAME, version, self.workload.resume))
            }
            None => None,
        };
        let count = u32::try_from(self.places.len()).expect("at most 256 workers");
        let spec = |worker: u32| LoadSpec {
            host: None,
            request_ids: false,
            target: self.destination,
            resolve: None,
            arrival: match max_requests {
                // One after the other, until one is answered or the time is over.
                Some(_) => Arrival::Closed { connections: 1 },
                None => road::share(&self.workload, worker, count),
            },
            connection: self.workload.connection,
            protocol: self.workload.protocol,
            tls: tls.clone(),
            request_bytes: self.workload.request_bytes,
            response_bytes: self.workload.response_bytes,
            server_work_ns: self.workload.server_work.nanos(),
            // Each worker's own.
            sources: Sources { addresses: Vec::new(), port_first: 1, port_last: 1 },
            timeout_ms: self.workload.timeout.millis(),
            seed: self.ground.profile.seed.wrapping_add(worker.into()),
        };
        let task = Task {
            specs: (0..count).map(spec).collect(),
            command: LoadCommand::Run {
                duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                max_requests,
                sample_every,
                max_samples: if sample_every > 0 { SAMPLES_MAX } else { 0 },
            },
            duration: duration + timeout,
        };
        let (api, pods) = (self.ground.api.clone(), self.ground.pods()?);
        let (workers, cancel) = (self.ground.workers(&self.places), cancel.clone());
        let kept = self.ground.options.host.block_on(move || async move {
            workers::keep(api, pods, workers, task, cancel).await
        })?;
        self.ground.spend(&self.places, &kept);
        self.punctuality = self.punctuality.worse(Punctuality::of(&kept));
        Ok(kept)
    }

    /// Gives new pods in place of workers whose ports would not last for a phase. Where nothing is
    /// known of the rate yet, half of all ports are taken to do. Returns how many.
    fn renew(&mut self, duration: Duration) -> Result<usize, LabError> {
        let ports = match self.workload.connection {
            Connection::Keepalive => self.workload.connections * 2 + 100,
            Connection::Newconn if self.ports_a_second > 0.0 => {
                (self.ports_a_second * duration.as_secs_f64() * 1.25) as u32 + 100
            }
            Connection::Newconn => PORTS_MAX / 2,
        };
        let renewed = self.ground.renew(&self.places, ports.min(PORTS_MAX))?;
        self.renewed += renewed;
        Ok(renewed)
    }

    /// Writes the notes anew.
    fn tell(&mut self) {
        let Punctuality { skew_ns, late_ns } = self.punctuality;
        let mut notes = self.notes.clone();
        notes.push(format!(
            "{} workers started at most {:.3} ms apart, by their own clocks, and {:.3} ms late",
            self.places.len(),
            skew_ns as f64 / 1e6,
            late_ns as f64 / 1e6,
        ));
        if self.renewed > 0 {
            notes.push(format!(
                "workers were replaced {} times, because their source ports were used up",
                self.renewed
            ));
        }
        self.ready.notes = notes;
    }

    /// A phase of the workload, all workers' figures as one.
    fn load(
        &mut self,
        duration: Duration,
        sample_every: u32,
        cancel: &Cancel,
    ) -> Result<PhaseReport, LabError> {
        let kept = self.phase(Phase { duration, max_requests: None, sample_every }, cancel)?;
        Ok(self.merged(kept))
    }

    /// All workers' figures as one, noted.
    fn merged(&mut self, kept: Vec<Kept>) -> PhaseReport {
        for kept in &kept {
            let seconds = (kept.report.elapsed_ns as f64 / 1e9).max(1e-3);
            let rate = kept.report.tuples_spent as f64 / seconds;
            self.ports_a_second = self.ports_a_second.max(rate);
        }
        self.tell();
        merge(kept)
    }

    /// A warm-up in which every connection is followed, so that the probes' cost is counted on many
    /// events, and behind it one request of each worker, to count what one is made of.
    fn warm_up_followed(
        &mut self,
        mut follower: Follower,
        duration: Duration,
        cancel: &Cancel,
    ) -> Result<Follower, LabError> {
        let all = Phase { duration, max_requests: None, sample_every: 1 };
        let (kept, seen, _) = self.followed(&mut follower, all, true, cancel)?;
        follower.costed(&seen);
        let report = self.merged(kept);
        let one = Phase { duration: ATTEMPT, max_requests: Some(1), sample_every: 1 };
        let (kept, seen, marks) = self.followed(&mut follower, one, false, cancel)?;
        let counts = follower.counts(&seen, &ends(kept, marks).1)?;
        // The cluster chooses the Service's address, which a request's bytes have in them.
        self.probed.counts = counts.map(|counts| Counts { bytes: None, ..counts });
        let rate = report.requests as f64 / (report.elapsed_ns as f64 / 1e9).max(1e-9);
        let asked = f64::from(self.ground.profile.run.samples_per_second);
        let every = (rate / asked).ceil().max(1.0) as u32;
        // Of open connections the first of each k is followed: on every worker one at least.
        let share =
            self.workload.connections / u32::try_from(self.places.len()).unwrap_or(1).max(1);
        self.probed.sample_every = match self.workload.connection {
            Connection::Newconn => every,
            Connection::Keepalive => every.min(share.max(1)),
        };
        Ok(follower)
    }

    /// A block with the probes on, and what they saw.
    fn block_followed(
        &mut self,
        follower: &mut Follower,
        duration: Duration,
        cancel: &Cancel,
    ) -> Result<Iteration, LabError> {
        let sample_every = self.probed.sample_every;
        let phase = Phase { duration, max_requests: None, sample_every };
        let (kept, seen, marks) = self.followed(follower, phase, false, cancel)?;
        let (kept, ends) = ends(kept, marks);
        let walks = follower.walks(&seen, &ends, sample_every)?;
        let walks = Walks { counts: self.probed.counts, ..walks };
        let load = self.merged(kept);
        Ok(Iteration { load, unprobed: None, walks: Some(walks), conntrack: seen.conntrack })
    }

    /// An iteration with probes: a block with them on, and one with them off, if there is to be one.
    fn iterate_followed(
        &mut self,
        follower: &mut Follower,
        cancel: &Cancel,
    ) -> Result<Iteration, LabError> {
        let run = &self.ground.profile.run;
        let (duration, unprobed) = (run.duration.0, run.unprobed);
        self.probed.iterations += 1;
        // Off on, on off, ...: a drift falls on both alike.
        let off_first = self.probed.iterations % 2 == 1;
        let sample_every = self.probed.sample_every;
        let off = |bed: &mut Self, now: bool| -> Result<Option<PhaseReport>, LabError> {
            // As many connections are marked, so that the two differ in the probes only.
            let now = now && unprobed;
            now.then(|| bed.load(duration, sample_every, cancel)).transpose()
        };
        let before = off(self, off_first)?;
        let on = self.block_followed(follower, duration, cancel)?;
        let behind = off(self, !off_first)?;
        Ok(Iteration { unprobed: before.or(behind), ..on })
    }
}

/// Takes the samples out of the workers' reports, and puts the servers' marks to them.
fn ends(mut kept: Vec<Kept>, marks: Vec<Mark>) -> (Vec<Kept>, Ends) {
    let samples = kept.iter_mut().map(|kept| std::mem::take(&mut kept.report.samples)).collect();
    (kept, Ends { samples, marks })
}

impl Bed for KubeconfigBed {
    fn ready(&self) -> &Ready {
        &self.ready
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), LabError> {
        let warm_up = self.ground.profile.run.warm_up.0;
        if warm_up.is_zero() {
            return Ok(());
        }
        match self.probed.follower.take() {
            Some(follower) => {
                self.probed.follower = Some(self.warm_up_followed(follower, warm_up, cancel)?);
            }
            None => drop(self.load(warm_up, 0, cancel)?),
        }
        Ok(())
    }

    fn iterate(&mut self, cancel: &Cancel) -> Result<Iteration, LabError> {
        let Some(mut follower) = self.probed.follower.take() else {
            let duration = self.ground.profile.run.duration.0;
            return Ok(Iteration { load: self.load(duration, 0, cancel)?, ..Iteration::default() });
        };
        let iteration = self.iterate_followed(&mut follower, cancel);
        self.probed.follower = Some(follower);
        iteration
    }

    /// Pods and Services are the run's: the next case uses them again, and the lab takes them down.
    fn down(self: Box<Self>) -> Down {
        Down { ms: 0.0, add_one_ms: None, errors: Vec::new(), settle: Box::new(Vec::new) }
    }
}

/// What a reader of the case's figures has to know.
fn notes(ground: &Ground, placement: &Placement, places: &[usize], count: u32) -> Vec<String> {
    let workers = ground.workers(places);
    let nodes: Vec<&str> = workers.iter().map(|worker| worker.pod.node.as_str()).collect();
    let mut notes = vec![
        format!(
            "load from {count} workers on {}; entry node {}, pods that answer on {}",
            nodes.join(", "),
            placement.entry.name,
            placement.backend.name
        ),
        "pods are wired by the cluster's own CNI, which the case's name does not tell".to_owned(),
    ];
    let asked = ground.options.load_workers;
    if count < asked {
        notes.push(format!(
            "{count} workers instead of {asked}: the workload has no more connections"
        ));
    }
    // How far apart clocks may be is how far the starts may be apart beyond what they say.
    let clocks = workers.iter().map(|worker| {
        let (off_ns, error_ns) = worker.clock_ns;
        format!("{:+.3} ± {:.3}", off_ns as f64 / 1e6, error_ns as f64 / 1e6)
    });
    notes.push(format!("workers' clocks less ours, ms: {}", clocks.collect::<Vec<_>>().join(", ")));
    notes
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
