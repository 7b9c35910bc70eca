// SPDX-License-Identifier: Apache-2.0
//! A lab whose times are written in the profile: the whole pipeline, exact, without a host.

mod walk;

use record::{Counts, Histogram, Leg, Probe, Proof, Walk};
use workloads::protocol::PhaseReport;

use super::{Bed, Down, Iteration, Lab, LabError, LegWalks, Ready, StageTimes, Walks};
use std::collections::BTreeMap;

use crate::lab::{has_its_own_addresses, runs_no_kube_proxy};
use crate::plan::{Case, FakeSettings, Mode, Profile, RunSettings, WorkloadSettings};
use crate::{Cancel, Unavailable};

use self::walk::{rules_walked, walk};

/// Requests of one fake iteration.
const REQUESTS: u64 = 1000;
/// Client's port of the first request.
const FIRST_PORT: u16 = 40_000;

/// The fake lab.
#[derive(Debug)]
pub struct FakeLab {
    settings: FakeSettings,
    run: RunSettings,
    workload: BTreeMap<String, WorkloadSettings>,
}

impl FakeLab {
    /// Takes its times from the profile.
    pub fn new(profile: &Profile) -> Self {
        Self {
            settings: profile.fake.clone(),
            run: profile.run.clone(),
            workload: profile.workload.clone(),
        }
    }

    /// The walk of a request of a case, as `trace` asks for it.
    ///
    /// # Errors
    /// The profile says that the machine lacks the mode.
    pub fn trace(&self, case: &Case) -> Result<Walk, Unavailable> {
        self.check(case)?;
        let (latency_ns, rules_ns) = (self.settings.latency.nanos(), self.rules_ns(case));
        Ok(walk(case, latency_ns + rules_ns, rules_ns, FIRST_PORT, "trace"))
    }

    /// Whether the fake machine has what a case needs.
    fn check(&self, case: &Case) -> Result<(), Unavailable> {
        runs_no_kube_proxy("fake", case)?;
        has_its_own_addresses("fake", case)?;
        if !self.settings.unavailable.contains(&case.mode) {
            return Ok(());
        }
        let found = "fake.unavailable names it";
        let need = format!("mode {}", case.mode);
        Err(Unavailable::new(need, found, "take it out of fake.unavailable"))
    }

    /// Nanoseconds that the server works on each request of a case.
    fn work_ns(&self, case: &Case) -> u64 {
        self.workload.get(&case.workload).map_or(0, |workload| workload.server_work.nanos())
    }

    /// Nanoseconds that the rules of a case take.
    fn rules_ns(&self, case: &Case) -> u64 {
        match case.mode {
            Mode::Iptables => self.settings.per_service.nanos() * u64::from(case.services),
            Mode::None => 0,
            Mode::Userspace | Mode::Ipvs | Mode::Nftables | Mode::Ebpf => 1000,
        }
    }
}

impl Lab for FakeLab {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn up(&self, case: &Case, _cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        self.check(case)?;
        Ok(Box::new(FakeBed {
            ready: Ready {
                proof: Proof {
                    mode: case.mode.word().to_owned(),
                    evidence: vec!["the profile says so".to_owned()],
                },
                fidelity: None,
                files: vec![("rules.txt".to_owned(), case.mode.word().into())],
                rules: u64::from(case.services),
                notes: vec!["times are written in the profile".to_owned()],
                tuple_budget: 1_000_000,
                lab_up_ms: 1.0,
                install_ms: 2.0,
                prove_ms: 3.0,
            },
            case: case.clone(),
            trace_slowest: self.run.trace_slowest,
            add_one: self.run.add_one,
            latency_ns: self.settings.latency.nanos() + self.rules_ns(case) + self.work_ns(case),
            rules_ns: self.rules_ns(case),
            seconds: self.run.duration.0.as_secs_f64(),
        }))
    }
}

#[derive(Debug)]
struct FakeBed {
    ready: Ready,
    case: Case,
    trace_slowest: u32,
    add_one: bool,
    latency_ns: u64,
    rules_ns: u64,
    seconds: f64,
}

impl FakeBed {
    fn counts(&self) -> Counts {
        Counts {
            rules_walked: Some(rules_walked(&self.case)),
            rules_walked_beyond: Some(0),
            ..Counts::default()
        }
    }

    /// All requests are equally slow, so that any will do.
    fn slowest(&self) -> Vec<Walk> {
        let ports = FIRST_PORT..FIRST_PORT + self.trace_slowest as u16;
        let walk = |port| walk(&self.case, self.latency_ns, self.rules_ns, port, "slowest");
        ports.map(walk).collect()
    }
}

impl Bed for FakeBed {
    fn ready(&self) -> &Ready {
        &self.ready
    }

    fn warm_up(&mut self, _cancel: &Cancel) -> Result<(), LabError> {
        Ok(())
    }

    fn iterate(&mut self, _cancel: &Cancel) -> Result<Iteration, LabError> {
        let all = |value: u64| vec![(value, REQUESTS)];
        let stage = |name: &str, leg, ns| StageTimes {
            name: name.to_owned(),
            leg,
            times: Histogram::from_pairs(all(ns)),
        };
        let half_ns = (self.latency_ns - self.rules_ns) / 2;
        Ok(Iteration {
            unprobed: None,
            load: PhaseReport {
                requests: REQUESTS,
                elapsed_ns: (self.seconds * 1e9) as u64,
                latency: all(self.latency_ns),
                service_time: all(self.latency_ns),
                first_byte: all(self.latency_ns),
                tuples_spent: REQUESTS,
                ..PhaseReport::default()
            },
            walks: Some(Walks {
                stages: vec![
                    stage("wire", Leg::Request, half_ns),
                    stage("proxy", Leg::Request, self.rules_ns),
                    stage("wire", Leg::Response, half_ns),
                ],
                residual: vec![((self.latency_ns - self.rules_ns - 2 * half_ns) as i64, REQUESTS)],
                first_packet: Histogram::from_pairs(all(self.rules_ns + 1000)),
                legs: LegWalks {
                    request: Histogram::from_pairs(all(half_ns + self.rules_ns)),
                    response: Histogram::from_pairs(all(half_ns)),
                },
                sampled: REQUESTS,
                joined: REQUESTS,
                unjoined: Vec::new(),
                queries: None,
                probe: Probe {
                    engine: "fake".to_owned(),
                    reason: None,
                    events: 6 * REQUESTS,
                    dropped: 0,
                    ns_per_event: Some(0.0),
                    runs: None,
                    ns_per_run: None,
                    ns_per_empty_run: None,
                    effect: None,
                    sample_every: 1,
                    clock_error_ns: None,
                },
                counts: Some(self.counts()),
                slowest: self.slowest(),
                pcap: None,
            }),
            conntrack: None,
        })
    }

    fn down(self: Box<Self>) -> Down {
        Down {
            ms: 4.0,
            add_one_ms: self.add_one.then_some(0.5),
            errors: Vec::new(),
            settle: Box::new(Vec::new),
        }
    }
}
