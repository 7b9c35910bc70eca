// SPDX-License-Identifier: Apache-2.0
//! A case's probes on the nodes it passes, and what they saw turned into walks.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::try_join_all;
use record::{Conntrack, Counts, Probe, Walk};
use serde::Serialize;
use serde::de::DeserializeOwned;
use workloads::protocol::{Mark, Sample};

use super::ground::Ground;
use super::parts::{self, OTHERS, Part};
use super::placement::Placement;
use super::watchers::Watcher;
use super::workers::{LEAD, SLACK};
use crate::capture::align::{AlignError, Offset, align};
use crate::capture::join::{Joined, Story};
use crate::capture::{Cost, JoinError, Joiner, Observations, Packet, Path, ProgramCost, TapInfo};
use crate::kube::RunningPod;
use crate::lab::tell::Teller;
use crate::lab::walks::{self, capture_error};
use crate::lab::{LabError, Walks};
use crate::net::addresses::POD_PORT;
use crate::plan::{Case, CniKind};
use crate::probe::Sightings;
use crate::probe::protocol::{LEASE_MS_MAX, LOOK, ON, On, PLACE, Surroundings};
use crate::{Cancel, Unavailable};

/// Name of the engine, in the record.
const ENGINE: &str = "bpf";

/// A case's probes.
#[derive(Debug)]
pub(super) struct Follower {
    ground: Rc<Ground>,
    case: Case,
    id: String,
    placement: Placement,
    targets: Vec<RunningPod>,
    destination: SocketAddr,
    /// How pods are wired, as far as the path is concerned.
    pub(super) cni: CniKind,
    path: Path,
    nodes: Vec<Watched>,
    workers: Vec<RunningPod>,
    /// Kernels that the nodes run on, by their boot; the first one's clock is everybody's.
    kernels: Vec<String>,
    /// Which of the run's placements its probes are.
    number: u64,
    cost: Option<ProgramCost>,
    /// The clocks as they were found last.
    clocks: Vec<Offset>,
}

/// The path of a case whose pods are wired in that way.
fn path(ground: &Ground, case: &Case, cni: CniKind) -> Path {
    let body = ground.profile.workload[&case.workload].request_bytes > 0;
    Path::of(case.mode, cni, parts::walked(case)).with_body(body)
}

/// A node with its probes.
#[derive(Debug)]
struct Watched {
    watcher: Watcher,
    part: Part,
    seen: Surroundings,
    taps: Vec<TapInfo>,
    /// Index of its kernel.
    kernel: usize,
}

/// What the probes of all nodes saw in a block.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By each node's own clock; taps counted through all nodes.
    packets: Vec<Packet>,
    events: u64,
    dropped: u64,
    reader_ns: u64,
    cost: Option<Cost>,
    pub(super) conntrack: Option<Conntrack>,
}

/// What client and server say of a block, each by the clock of its node.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// By worker.
    pub(super) samples: Vec<Vec<Sample>>,
    pub(super) marks: Vec<Mark>,
}

impl Follower {
    /// Looks at the nodes of a case, and chooses the probes.
    pub(super) fn new(
        ground: Rc<Ground>,
        case: &Case,
        placement: &Placement,
        (workers, targets): (Vec<RunningPod>, Vec<RunningPod>),
        destination: SocketAddr,
        cancel: &Cancel,
    ) -> Result<Self, LabError> {
        let mut follower = Self {
            path: path(&ground, case, OTHERS),
            id: case.id("kubeconfig"),
            case: case.clone(),
            placement: placement.clone(),
            cni: OTHERS,
            nodes: Vec::new(),
            kernels: Vec::new(),
            number: 0,
            cost: None,
            clocks: Vec::new(),
            ground,
            workers,
            targets,
            destination,
        };
        follower.look(cancel)?;
        let looks: Vec<_> = follower.nodes.iter().map(|node| node.seen.clone()).collect();
        let parts: Vec<_> = follower.nodes.iter().map(|node| node.part.clone()).collect();
        follower.wired(parts::wired(&parts, &looks))?;
        Ok(follower)
    }

    /// Takes other workers in the place of those before.
    pub(super) fn renew(
        &mut self,
        workers: Vec<RunningPod>,
        cancel: &Cancel,
    ) -> Result<(), LabError> {
        self.workers = workers;
        self.look(cancel)?;
        self.wired(self.cni)
    }

    /// Takes pods for wired in that way, and puts the probes of that path in place.
    pub(super) fn wired(&mut self, cni: CniKind) -> Result<(), LabError> {
        self.cni = cni;
        self.path = path(&self.ground, &self.case, cni);
        let mut flows: Vec<_> =
            self.targets.iter().map(|pod| SocketAddr::new(pod.address, POD_PORT)).collect();
        flows.push(self.destination);
        self.number = self.ground.next_placement();
        let which = (self.number, cni);
        let placed = |node: &Watched| node.part.place(&self.case, which, &node.seen, &flows);
        let questions = self.nodes.iter().map(placed).collect();
        let taps: Vec<Vec<TapInfo>> = self.ask(PLACE, questions)?;
        for (node, taps) in self.nodes.iter_mut().zip(taps) {
            node.taps = taps;
        }
        Ok(())
    }

    /// Looks at how nodes and pods are wired.
    fn look(&mut self, cancel: &Cancel) -> Result<(), LabError> {
        let all = &self.ground.nodes;
        let parts = parts::parts(all, &self.case, &self.placement, &self.workers, &self.targets);
        let watchers = self.ground.watchers(cancel)?;
        self.kernels.clear();
        let (mut nodes, mut looks) = (Vec::new(), Vec::new());
        for part in parts {
            let watcher = watchers.iter().find(|watcher| watcher.node == part.node);
            let watcher = watcher.cloned().ok_or_else(|| {
                LabError::Capture(format!("failed to probe node {}: it was not planned", part.node))
            })?;
            let boot = &watcher.about.boot_id;
            let known = self.kernels.iter().position(|kernel| kernel == boot);
            let kernel = known.unwrap_or_else(|| {
                self.kernels.push(boot.clone());
                self.kernels.len() - 1
            });
            looks.push(part.look(&self.targets));
            let seen = Surroundings { nic: String::new(), pods: Vec::new(), ways: Vec::new() };
            nodes.push(Watched { watcher, part, seen, taps: Vec::new(), kernel });
        }
        self.nodes = nodes;
        let asked: Vec<_> = looks.iter().map(|look| look.pods.len()).collect();
        let seen: Vec<Surroundings> = self.ask(LOOK, looks)?;
        for ((node, seen), pods) in self.nodes.iter_mut().zip(seen).zip(asked) {
            if seen.pods.len() != pods {
                let (said, name) = (seen.pods.len(), &node.part.node);
                let why = format!("failed to look at node {name}: {said} pods of {pods} are told");
                return Err(LabError::Capture(why));
            }
            node.seen = seen;
        }
        Ok(())
    }

    /// Asks all nodes at once, each its own question.
    fn ask<Q, A>(&self, word: &'static str, questions: Vec<Q>) -> Result<Vec<A>, LabError>
    where
        Q: Serialize + Send + 'static,
        A: DeserializeOwned + Send + 'static,
    {
        let pods = self.ground.pods()?;
        let watchers: Vec<_> = self.nodes.iter().map(|node| node.watcher.clone()).collect();
        self.ground.options.host.block_on(move || async move {
            let asked = watchers.iter().zip(&questions);
            let pods = &pods;
            try_join_all(asked.map(|(watcher, question)| watcher.ask(pods, word, question))).await
        })
    }

    /// Switches the probes on for a phase of that length. Cases of a group take turns, and the programs
    /// on the nodes have place for one at a time.
    pub(super) fn on(&mut self, phase: Duration, counted: bool) -> Result<(), LabError> {
        if self.ground.placement() != self.number {
            self.wired(self.cni)?;
        }
        let lease = LEAD + phase + SLACK;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).min(LEASE_MS_MAX);
        let question = On { number: self.number, lease_ms, counted };
        self.ask::<_, ()>(ON, vec![question; self.nodes.len()]).map(drop)
    }

    /// Switches the probes off and hears what they saw.
    pub(super) fn off(&self) -> Result<Seen, LabError> {
        let pods = self.ground.pods()?;
        let asked: Vec<_> =
            self.nodes.iter().map(|node| (node.watcher.clone(), node.taps.len())).collect();
        let all: Vec<Sightings> = self.ground.options.host.block_on(move || async move {
            let pods = &pods;
            try_join_all(asked.iter().map(|(watcher, taps)| watcher.off(pods, *taps))).await
        })?;
        let (mut seen, mut first) = (Seen::default(), 0);
        for (node, Sightings { block, packets }) in self.nodes.iter().zip(all) {
            let through =
                packets.into_iter().map(|packet| Packet { tap: packet.tap + first, ..packet });
            seen.packets.extend(through);
            // Probes of a node are a few dozen.
            first += node.taps.len() as u16;
            seen.events += block.events;
            seen.dropped += block.dropped;
            seen.reader_ns += block.reader_ns;
            if let Some(cost) = block.cost {
                *seen.cost.get_or_insert_default() += cost;
            }
            if let (Some(0), None) = (node.part.part, seen.conntrack) {
                seen.conntrack = block.conntrack.map(|(peak, max)| Conntrack { max, peak });
            }
        }
        Ok(seen)
    }

    /// What the servers noted since the last call.
    pub(super) fn marks(&self) -> Result<Vec<Mark>, LabError> {
        self.ground.marks(&self.targets)
    }

    /// Takes a block's count of what the programs cost.
    pub(super) fn costed(&mut self, seen: &Seen) {
        self.cost = seen.cost.and_then(|cost| ProgramCost::of(cost, seen.events));
    }

    /// All probes, and the kernels they are on.
    fn taps(&self) -> (Vec<TapInfo>, Vec<usize>) {
        let taps = self.nodes.iter().flat_map(|node| node.taps.iter().cloned());
        let kernels =
            self.nodes.iter().flat_map(|node| std::iter::repeat_n(node.kernel, node.taps.len()));
        (taps.collect(), kernels.collect())
    }

    /// Joins a block, all of it by one clock; keeps the stories of the `slowest`.
    fn join(&mut self, seen: &Seen, ends: &Ends, slowest: u32) -> Result<Outcome, LabError> {
        let (taps, kernel_of) = self.taps();
        let clocks = align(&self.path, &taps, &kernel_of, self.kernels.len(), &seen.packets)
            .map_err(|error| self.apart(error))?;
        let of = |tap: u16| clocks[kernel_of[usize::from(tap)]];
        let packets = seen
            .packets
            .iter()
            .map(|packet| Packet { time_ns: of(packet.tap).to_first(packet.time_ns), ..*packet });
        let packets = packets.collect();
        let kernel = |node: &str| {
            let watched = self.nodes.iter().find(|watched| watched.part.node == node);
            clocks[watched.map_or(0, |watched| watched.kernel)]
        };
        let samples: Vec<Sample> = ends
            .samples
            .iter()
            .zip(&self.workers)
            .flat_map(|(samples, worker)| {
                let clock = kernel(&worker.node);
                samples.iter().map(move |sample| by(*sample, clock))
            })
            .collect();
        let clock = kernel(&self.placement.backend.name);
        let at = |mark: &Mark| Mark {
            read_ns: clock.to_first(mark.read_ns),
            received_ns: clock.to_first(mark.received_ns),
            written_ns: clock.to_first(mark.written_ns),
            ..*mark
        };
        let marks: Vec<Mark> = ends.marks.iter().map(at).collect();
        let joiner = Joiner::new(&self.path, &taps).map_err(capture_error)?;
        let joined = joiner.keeping(slowest).join(Observations {
            packets,
            dropped: seen.dropped,
            samples: &samples,
            marks: &marks,
            relays: &[],
        });
        self.clocks = clocks;
        Ok(joined)
    }

    /// Whether requests are seen at every place of the path; what is not seen otherwise.
    pub(super) fn proved(
        &mut self,
        seen: &Seen,
        ends: &Ends,
    ) -> Result<Result<(), String>, LabError> {
        Ok(match self.join(seen, ends, 0)? {
            Err(error) => Err(error.to_string()),
            Ok(Joined { sampled: 0, .. }) => Err("no request was to be followed".to_owned()),
            // Some may have been under way when the probes went on.
            Ok(joined) if joined.joined * 10 >= joined.sampled * 9 => Ok(()),
            Ok(joined) => {
                let most = joined.unjoined.iter().max_by_key(|(_, count)| **count);
                let why = most.map(|(why, _)| why.to_string()).unwrap_or_default();
                Err(format!("{} of {} requests joined ({why})", joined.joined, joined.sampled))
            }
        })
    }

    /// A block's walks. `sample_every` is what the load was told.
    pub(super) fn walks(
        &mut self,
        seen: &Seen,
        ends: &Ends,
        sample_every: u32,
    ) -> Result<Walks, LabError> {
        let slowest = self.ground.profile.run.trace_slowest;
        let joined = self.join(seen, ends, slowest)?.map_err(capture_error)?;
        let probe = self.probe(seen, sample_every);
        let slowest = joined.stories.iter().map(|story| self.walk(story)).collect();
        Ok(Walks::of(&joined, probe, slowest))
    }

    /// What one of a block's requests was made of.
    pub(super) fn counts(&mut self, seen: &Seen, ends: &Ends) -> Result<Option<Counts>, LabError> {
        let joined = self.join(seen, ends, 1)?.map_err(capture_error)?;
        let (taps, _) = self.taps();
        Ok(joined.stories.first().map(|story| walks::counts(story, &taps, self.cni != OTHERS)))
    }

    fn walk(&self, story: &Story) -> Walk {
        let (probes, _) = self.taps();
        let client = self.workers.iter().find(|pod| pod.address == story.sample.client.ip());
        let answered = story
            .mark
            .and_then(|mark| self.targets.iter().find(|pod| pod.address == mark.local.ip()));
        let pod = answered.unwrap_or(&self.targets[0]);
        let entry = self.nodes.iter().find(|node| node.part.part == Some(0));
        let teller = Teller {
            case: &self.id,
            kept: "slowest",
            engine: ENGINE,
            probes: &probes,
            client: client.map_or("client", |pod| &pod.name),
            pod: (&pod.name, SocketAddr::new(pod.address, POD_PORT).to_string()),
            entry: entry.map_or(&self.placement.entry.name, |node| &node.part.node),
            destination: self.destination.to_string(),
        };
        teller.walk(story)
    }

    fn probe(&mut self, seen: &Seen, sample_every: u32) -> Probe {
        let mut probe = Probe {
            engine: ENGINE.to_owned(),
            reason: self.nodes.iter().find_map(|node| node.watcher.about.interpreted.clone()),
            events: seen.events,
            dropped: seen.dropped,
            ns_per_event: (seen.events > 0).then(|| seen.reader_ns as f64 / seen.events as f64),
            runs: None,
            ns_per_run: None,
            ns_per_empty_run: None,
            effect: None,
            sample_every,
            clock_error_ns: self.clock_error_ns(),
        };
        if let Some(cost) = &mut self.cost {
            cost.tell(&mut probe);
        }
        probe
    }

    /// How wrong a time between two machines may be; `None` where all are on one clock.
    fn clock_error_ns(&self) -> Option<u64> {
        let errors = self.clocks.iter().skip(1).map(|offset| offset.error_ns);
        errors.max()
    }

    /// What a reader has to know of the probes.
    pub(super) fn notes(&self) -> Vec<String> {
        let names: Vec<_> = self.nodes.iter().map(|node| node.part.node.as_str()).collect();
        let mut notes = vec![format!("probes on {}, in privileged pods", names.join(", "))];
        notes.extend(parts::said(self.cni, &self.case));
        for node in &self.nodes {
            let (name, about) = (&node.part.node, &node.watcher.about);
            notes.extend(about.without_sockets.as_ref().map(|why| {
                format!(
                    "no probes at sockets on {name}, so that pod_rx and wakeup are one stage: {why}"
                )
            }));
        }
        notes.push(match self.kernels.len() {
            0 | 1 => "all nodes of the path are on one kernel and share its clock".to_owned(),
            _ => {
                let apart = self.nodes.iter().filter(|node| node.kernel > 0).map(|node| {
                    let Offset { ns, error_ns } =
                        self.clocks.get(node.kernel).copied().unwrap_or_default();
                    let (ms, error_us) = (ns as f64 / 1e6, error_ns as f64 / 1e3);
                    format!("{} {ms:+.3} ms ± {error_us:.1} us", node.part.node)
                });
                format!(
                    "clocks less that of {}, from packets both ways: {}; stages between machines are \
                     true to that, their sum there and back exactly",
                    names.first().copied().unwrap_or_default(),
                    apart.collect::<Vec<_>>().join(", ")
                )
            }
        });
        notes
    }

    /// Why clocks are not to be compared, with the names of the nodes.
    fn apart(&self, error: AlignError) -> LabError {
        let (AlignError::NoWay { first, second } | AlignError::Drift { first, second, .. }) = error;
        let on = |kernel: usize| {
            let node = self.nodes.iter().find(|node| node.kernel == kernel);
            node.map_or("a node", |node| node.part.node.as_str())
        };
        Unavailable::new(
            format!("one time for nodes {} and {}, to tell stages", on(first), on(second)),
            error.to_string(),
            "longer iterations (--duration), or without --probes",
        )
        .into()
    }
}

/// Joined, or why it cannot be true.
type Outcome = Result<Joined, JoinError>;

/// A sample by the first clock.
fn by(sample: Sample, clock: Offset) -> Sample {
    Sample {
        intended_ns: clock.to_first(sample.intended_ns),
        resolve_ns: sample.resolve_ns.map(|ns| clock.to_first(ns)),
        connect_ns: sample.connect_ns.map(|ns| clock.to_first(ns)),
        connected_ns: sample.connected_ns.map(|ns| clock.to_first(ns)),
        secured_ns: sample.secured_ns.map(|ns| clock.to_first(ns)),
        upgraded_ns: sample.upgraded_ns.map(|ns| clock.to_first(ns)),
        sent_ns: clock.to_first(sample.sent_ns),
        first_byte_ns: clock.to_first(sample.first_byte_ns),
        last_byte_ns: clock.to_first(sample.last_byte_ns),
        ..sample
    }
}
