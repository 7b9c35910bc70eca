// SPDX-License-Identifier: Apache-2.0
//! Capture engines: which one a run has, and its probes on one lab.

#[cfg(feature = "bpf")]
use std::rc::Rc;

#[cfg(feature = "bpf")]
use super::road;
use super::{Hosts, points};
use crate::Unavailable;
#[cfg(feature = "bpf")]
use crate::bpf::Link;
#[cfg(feature = "bpf")]
use crate::capture::Cost;
#[cfg(feature = "bpf")]
use crate::capture::bpf::{Placement, ProbeOptions, Probes};
use crate::capture::{CaptureError, Packet, Path, TapInfo, TapOptions, Taps};
use crate::net::Netns;
#[cfg(feature = "bpf")]
use crate::net::addresses::family;
use crate::plan::{self, IpFamily, Road};

/// The engine of a run.
#[derive(Clone, Debug)]
pub(in crate::lab) enum Engine {
    /// Library calls only.
    Client,
    /// Packet sockets; and why not what was asked for.
    Tap(Option<Unavailable>),
    /// BPF programs, loaded once for all labs of the run, for each family that it has cases of.
    #[cfg(feature = "bpf")]
    Bpf(Vec<(IpFamily, Rc<Probes>)>),
}

impl Engine {
    /// The engine asked for, for packets of some families. Taps stand in for programs that cannot run: for all
    /// cases of a run, or their stages could not be compared.
    ///
    /// # Errors
    /// There are no taps either.
    pub(super) fn choose(
        asked: plan::Engine,
        thorough: bool,
        families: &[IpFamily],
        question: &Netns,
    ) -> Result<Self, Unavailable> {
        let instead = match asked {
            plan::Engine::Client => return Ok(Self::Client),
            plan::Engine::Tap => None,
            plan::Engine::Bpf => match Self::bpf(thorough, families, question) {
                Ok(engine) => return Ok(engine),
                Err(unavailable) => Some(unavailable),
            },
        };
        Taps::check(question)?;
        Ok(Self::Tap(instead))
    }

    #[cfg(feature = "bpf")]
    fn bpf(thorough: bool, families: &[IpFamily], question: &Netns) -> Result<Self, Unavailable> {
        let load = |&family: &IpFamily| {
            let options = ProbeOptions { family, keep_acks: thorough, ..ProbeOptions::default() };
            Ok((family, Rc::new(Probes::load(options, question)?)))
        };
        families.iter().map(load).collect::<Result<_, _>>().map(Self::Bpf)
    }

    #[cfg(not(feature = "bpf"))]
    fn bpf(_: bool, _: &[IpFamily], _: &Netns) -> Result<Self, Unavailable> {
        Err(Unavailable::new(
            "a build with the feature `bpf`",
            "one without it",
            "build without --no-default-features",
        ))
    }
}

/// An engine's probes for one case, on or off.
#[derive(Debug)]
pub(super) enum Capture {
    /// Sockets, open while the taps are on.
    Taps { options: TapOptions, infos: Vec<TapInfo>, on: Option<Taps> },
    /// Programs, linked while they are on.
    #[cfg(feature = "bpf")]
    Probes { probes: Rc<Probes>, placement: Placement, on: Vec<Rc<Link>>, empty: Option<Link> },
}

/// What probes saw in one block of load.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) packets: Vec<Packet>,
    pub(super) events: u64,
    pub(super) dropped: u64,
    /// Processor time of the thread that read the events, nanoseconds.
    pub(super) reader_ns: u64,
}

impl Capture {
    /// Probes for some paths, off. `None` for an engine that has none.
    #[cfg_attr(not(feature = "bpf"), expect(unused_variables, reason = "taps ask the paths alone"))]
    pub(super) fn of(
        engine: &Engine,
        lab: &Hosts,
        paths: &[Path],
        road: Road,
        backends: &[usize],
        thorough: bool,
    ) -> Result<Option<Self>, CaptureError> {
        Ok(Some(match engine {
            Engine::Client => return Ok(None),
            Engine::Tap(_) => {
                let infos = points::taps(lab, paths, road).iter().map(TapInfo::of).collect();
                let options = TapOptions { keep_acks: thorough, ..TapOptions::default() };
                Self::Taps { options, infos, on: None }
            }
            #[cfg(feature = "bpf")]
            Engine::Bpf(loaded) => {
                let family = family(lab.nodes()[0].address);
                let (_, probes) = loaded
                    .iter()
                    .find(|(of, _)| *of == family)
                    .expect("programs are loaded for the families of all cases");
                let points = points::probes(lab, road, backends);
                let placement = Placement::new(probes, paths, &points, thorough)?;
                Self::Probes { probes: probes.clone(), placement, on: Vec::new(), empty: None }
            }
        }))
    }

    /// What the engine is called.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Taps { .. } => "tap",
            #[cfg(feature = "bpf")]
            Self::Probes { .. } => "bpf",
        }
    }

    /// Its probes.
    pub(super) fn infos(&self) -> &[TapInfo] {
        match self {
            Self::Taps { infos, .. } => infos,
            #[cfg(feature = "bpf")]
            Self::Probes { placement, .. } => placement.infos(),
        }
    }

    /// Switches the probes on. What passed before is not seen.
    #[cfg_attr(not(feature = "bpf"), expect(unused_variables, reason = "taps ask the paths alone"))]
    pub(super) fn on(
        &mut self,
        lab: &Hosts,
        paths: &[Path],
        road: Road,
        backends: &[usize],
    ) -> Result<(), CaptureError> {
        match self {
            Self::Taps { options, on, .. } => {
                *on = Some(Taps::start(&points::taps(lab, paths, road), options.clone())?);
            }
            #[cfg(feature = "bpf")]
            Self::Probes { probes, placement, on, .. } => {
                // Events of whoever had the ring before.
                probes.drain()?;
                *on = placement.link(probes, &points::probes(lab, road, backends))?;
            }
        }
        Ok(())
    }

    /// What was seen since the probes were switched on.
    pub(super) fn drain(&mut self) -> Result<Seen, CaptureError> {
        match self {
            Self::Taps { on, .. } => {
                let Some(taps) = on else { return Ok(Seen::nothing()) };
                let capture = taps.drain()?;
                Ok(Seen {
                    packets: capture.packets,
                    events: capture.events,
                    dropped: capture.dropped,
                    reader_ns: capture.cpu_ns,
                })
            }
            #[cfg(feature = "bpf")]
            Self::Probes { probes, placement, .. } => {
                let capture = probes.drain()?;
                Ok(Seen {
                    packets: placement.packets(&capture.events),
                    events: capture.events.len() as u64,
                    dropped: capture.dropped,
                    reader_ns: capture.reader_ns,
                })
            }
        }
    }

    /// Links the empty program beside the probes, for a block in which costs are counted: where
    /// requests leave the client, which they do in every mode.
    #[cfg(feature = "bpf")]
    pub(super) fn add_empty(&mut self, lab: &Hosts, road: Road) -> Result<(), CaptureError> {
        if let Self::Probes { probes, empty, .. } = self {
            *empty = Some(probes.link_empty(road::origin(lab, road), &lab.client().nic)?);
        }
        Ok(())
    }

    /// Takes that program away.
    #[cfg(feature = "bpf")]
    pub(super) fn remove_empty(&mut self) {
        if let Self::Probes { empty, .. } = self {
            *empty = None;
        }
    }

    /// Switches the probes off.
    pub(super) fn off(&mut self) {
        match self {
            Self::Taps { on, .. } => *on = None,
            #[cfg(feature = "bpf")]
            Self::Probes { on, empty, .. } => {
                on.clear();
                *empty = None;
            }
        }
    }

    /// What the programs have cost the packets so far, where programs are.
    #[cfg(feature = "bpf")]
    pub(super) fn cost(&self) -> Result<Option<Cost>, CaptureError> {
        match self {
            Self::Taps { .. } => Ok(None),
            Self::Probes { probes, .. } => Ok(Some(probes.cost()?)),
        }
    }
}

impl Seen {
    fn nothing() -> Self {
        Self { packets: Vec::new(), events: 0, dropped: 0, reader_ns: 0 }
    }
}
