// SPDX-License-Identifier: Apache-2.0
//! The netns lab as a run sees it: asks the machine once what it has, then makes a bed per case.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use record::Walk;
use workloads::protocol::LoadTls;

use super::attachments::Attachment;
use super::balancer::Balancer;
use super::bed::NetnsBed;
use super::emulation::Emulation;
use super::engine::Engine;
use super::ingress::{self, Ingress};
use super::settings::has_bridge_netfilter;
use super::{family, names};
use crate::certificates::{CertificateError, Certificates};
use crate::cni::Cni;
use crate::cni::exec::{Exec, Plugins};
use crate::lab::scratch::Scratch;
use crate::lab::{Bed, Lab, LabError};
use crate::net::{NetError, Netns};
use crate::plan::{Case, CniKind, Mode, PolicyKind, Profile, Proxy, Road, WorkloadSettings};
use crate::proxy::{self, Program, ProxyMode, StandIn};
use crate::{Cancel, Unavailable, cni};

/// The lab's name.
const LAB: &str = "netns";

/// Answers of the machine, asked once a run.
#[derive(Debug, Default)]
struct Answers {
    modes: HashMap<(Mode, Proxy), Result<(), Unavailable>>,
    cnis: HashMap<CniKind, Result<(), Unavailable>>,
}

/// What every bed of a run shares.
#[derive(Debug)]
pub(in crate::lab) struct Ground {
    /// Name of the lab, the first part of case ids.
    pub(super) lab: &'static str,
    pub(in crate::lab) profile: Profile,
    /// Program that runs agents.
    pub(in crate::lab) program: PathBuf,
    /// Whether frames are kept for a capture file.
    pub(super) pcap: bool,
    pub(in crate::lab) scratch: Scratch,
    /// Whether every site of a path is probed, and segments that only acknowledge are seen too.
    pub(in crate::lab) thorough: bool,
    engine: OnceCell<Result<Engine, Unavailable>>,
    emulation: OnceCell<Result<Option<Emulation>, Unavailable>>,
    certificates: OnceCell<Certificates>,
    kube_proxy: OnceCell<Result<Arc<Program>, Unavailable>>,
}

impl Ground {
    /// What beds of a lab share; `program agent ...` has to start agents.
    ///
    /// # Errors
    /// There is no scratch folder to be had.
    pub(in crate::lab) fn new(
        lab: &'static str,
        profile: &Profile,
        program: &Path,
        pcap: bool,
    ) -> Result<Self, LabError> {
        let scratch = Scratch::create().map_err(NetError::os("create", "a scratch folder"))?;
        Ok(Self {
            lab,
            profile: profile.clone(),
            program: program.to_owned(),
            pcap,
            scratch,
            thorough: false,
            engine: OnceCell::new(),
            emulation: OnceCell::new(),
            certificates: OnceCell::new(),
            kube_proxy: OnceCell::new(),
        })
    }

    /// The capture engine: the one the profile asks for, or what stands in for it.
    ///
    /// # Errors
    /// The machine has none of them.
    pub(in crate::lab) fn engine(&self, question: &Netns) -> Result<&Engine, Unavailable> {
        let Profile { run, matrix, .. } = &self.profile;
        // Programs are those of a family, and a case is followed by the one that its requests go to.
        let families: BTreeSet<_> = matrix.ip.iter().map(|ip| ip.family()).collect();
        let families: Vec<_> = families.into_iter().collect();
        let choose = || Engine::choose(run.engine, self.thorough, &families, question);
        self.engine.get_or_init(choose).as_ref().map_err(Clone::clone)
    }

    /// What the wire does to the requests of a case; nothing where its road does not pass it.
    ///
    /// # Errors
    /// The kernel cannot do it.
    pub(super) fn emulation(
        &self,
        road: Road,
        question: &Netns,
    ) -> Result<Option<Emulation>, Unavailable> {
        let Profile { lab, seed, .. } = &self.profile;
        let choose = || Emulation::choose(&lab.wire, *seed, lab.mtu, question);
        match road {
            Road::Clusterip => Ok(None),
            _ => self.emulation.get_or_init(choose).clone(),
        }
    }

    /// The run's certificates, made once; `None` for a case whose requests go in the clear.
    ///
    /// # Errors
    /// They cannot be made.
    pub(in crate::lab) fn certificates_for(
        &self,
        case: &Case,
    ) -> Result<Option<&Certificates>, CertificateError> {
        match self.profile.workload[&case.workload].tls {
            Some(_) => self.certificates().map(Some),
            None => Ok(None),
        }
    }

    /// What the load client is told of TLS.
    ///
    /// # Errors
    /// As [`Ground::certificates_for`].
    pub(super) fn load_tls(
        &self,
        road: Road,
        workload: &WorkloadSettings,
    ) -> Result<Option<LoadTls>, CertificateError> {
        let Some(version) = workload.tls else { return Ok(None) };
        Ok(Some(self.certificates()?.load(self.name(road), version, workload.resume)))
    }

    /// Name that is asked for by TLS.
    pub(super) fn name(&self, road: Road) -> &'static str {
        if road.is_ingress() { ingress::HOST } else { crate::certificates::NAME }
    }

    fn certificates(&self) -> Result<&Certificates, CertificateError> {
        if self.certificates.get().is_none() {
            let made = Certificates::make()?;
            return Ok(self.certificates.get_or_init(|| made));
        }
        Ok(self.certificates.get().expect("it was there a moment ago"))
    }

    /// What a case's pods are attached by, where plugins of others do it.
    ///
    /// # Errors
    /// One of them is missing.
    pub(super) fn attachment(
        &self,
        case: &Case,
        question: &Netns,
    ) -> Result<Option<Attachment>, Unavailable> {
        let Some(list) = &case.conflist else { return Ok(None) };
        let plugins = Plugins::find(list, question)?;
        let scratch = self.scratch.path().to_owned();
        Ok(Some(Attachment { list: list.clone(), plugins, scratch }))
    }

    pub(in crate::lab) fn mode(&self, mode: Mode) -> Box<dyn ProxyMode> {
        proxy::mode(mode, self.options())
    }

    /// A mode by whoever is to write its rules.
    ///
    /// # Errors
    /// kube-proxy's program is not there, or does not run here.
    pub(super) fn implementation(
        &self,
        mode: Mode,
        proxy: Proxy,
        question: &Netns,
    ) -> Result<Box<dyn ProxyMode>, Unavailable> {
        match proxy {
            Proxy::Own => Ok(self.mode(mode)),
            Proxy::KubeProxy => {
                let program = self.kube_proxy(question)?;
                Ok(Box::new(StandIn::new(program, mode, self.options())))
            }
        }
    }

    /// The kube-proxy that stands in for our own modes; looked at once.
    fn kube_proxy(&self, question: &Netns) -> Result<Arc<Program>, Unavailable> {
        let find = || match &self.profile.service.kube_proxy {
            Some(path) => Program::find(path, question).map(Arc::new),
            None => Err(Unavailable::new("a kube-proxy program", "none named", "--proxy-bin PATH")),
        };
        self.kube_proxy.get_or_init(find).clone()
    }

    fn options(&self) -> proxy::Options {
        let service = &self.profile.service;
        proxy::Options {
            backend: service.iptables_backend.into(),
            scheduler: service.ipvs_scheduler,
            transactions: service.nftables_transactions,
        }
    }
}

/// The netns lab.
#[derive(Debug)]
pub struct NetnsBeds {
    ground: std::rc::Rc<Ground>,
    question: Netns,
    answers: RefCell<Answers>,
}

impl NetnsBeds {
    /// A lab for the cases of `profile`; `program agent ...` has to start agents.
    ///
    /// # Errors
    /// Network namespaces or a scratch folder cannot be had.
    pub fn new(profile: &Profile, program: &Path, pcap: bool) -> Result<Self, LabError> {
        let ground = Ground::new(LAB, profile, program, pcap)?;
        Ok(Self {
            ground: std::rc::Rc::new(ground),
            question: Netns::create("question")?,
            answers: RefCell::default(),
        })
    }

    /// The same, to follow single requests: every site of their path is probed.
    ///
    /// # Errors
    /// As [`NetnsBeds::new`].
    pub fn thorough(profile: &Profile, program: &Path, pcap: bool) -> Result<Self, LabError> {
        let mut beds = Self::new(profile, program, pcap)?;
        let ground = std::rc::Rc::get_mut(&mut beds.ground).expect("no bed has it yet");
        ground.thorough = true;
        Ok(beds)
    }

    /// Builds a case's lab and follows one request through it; with a capture file if there is to
    /// be one.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] where the machine lacks something, anything else where it should
    /// have worked.
    pub fn trace(&self, case: &Case, cancel: &Cancel) -> Result<(Walk, Option<Vec<u8>>), LabError> {
        let mut bed = self.bed(case, cancel)?;
        let traced = bed.trace(cancel);
        let down = Box::new(bed).down();
        // What was seen counts; the kernel takes the rest down when the process ends.
        let _ = (down.settle)();
        traced
    }

    /// Whether kernel and tools have a proxy mode; asked once.
    ///
    /// # Errors
    /// What is missing.
    pub fn has_mode(&self, mode: Mode) -> Result<(), Unavailable> {
        self.has(mode, Proxy::Own)
    }

    fn has(&self, mode: Mode, proxy: Proxy) -> Result<(), Unavailable> {
        let ask = || {
            let implementation = self.ground.implementation(mode, proxy, &self.question)?;
            implementation.check(&self.question)
        };
        self.answers.borrow_mut().modes.entry((mode, proxy)).or_insert_with(ask).clone()
    }

    /// Whether the kernel has what a CNI is made of; asked once.
    ///
    /// # Errors
    /// What is missing.
    pub fn has_cni(&self, kind: CniKind) -> Result<(), Unavailable> {
        let ask = || cni::of(kind).check(&self.question);
        self.answers.borrow_mut().cnis.entry(kind).or_insert_with(ask).clone()
    }

    fn bed(&self, case: &Case, cancel: &Cancel) -> Result<NetnsBed, LabError> {
        self.check(case)?;
        let engine = self.ground.engine(&self.question)?;
        let emulation = self.ground.emulation(case.route.road, &self.question)?;
        NetnsBed::up(self.ground.clone(), engine, emulation, &self.question, case, cancel)
    }

    /// Whether the machine has what a case needs.
    fn check(&self, case: &Case) -> Result<(), Unavailable> {
        let external = self.ground.profile.service.external_policy;
        family::check(case, &self.ground.profile, &self.question)?;
        let of_queries = names::asked(&self.ground.profile, case)?;
        if let Some(list) = &case.conflist {
            let bridge_netfilter = has_bridge_netfilter(&self.question);
            let exec = Exec { list, bridge_netfilter };
            exec.carries(case.mode, case.route, external)?;
            of_queries
                .map_or(Ok(()), |route| exec.carries(case.mode, route, PolicyKind::Cluster))?;
            exec.check(&self.question)?;
        } else {
            self.has_cni(case.cni)?;
            let cni = cni::of(case.cni);
            cni.carries(case.mode, case.route, external)?;
            of_queries
                .map_or(Ok(()), |route| cni.carries(case.mode, route, PolicyKind::Cluster))?;
        }
        self.has(case.mode, case.proxy)?;
        if case.route.road == Road::Loadbalancer {
            Balancer::can_carry(&self.ground.profile, case, &self.question)?;
        }
        if case.route.road.is_ingress() {
            Ingress::can_carry(&self.ground.profile, case, &self.question)?;
        }
        self.ground.emulation(case.route.road, &self.question)?;
        self.ground.engine(&self.question).map(drop)
    }
}

impl Lab for NetnsBeds {
    fn name(&self) -> &'static str {
        LAB
    }

    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError> {
        Ok(Box::new(self.bed(case, cancel)?))
    }
}
