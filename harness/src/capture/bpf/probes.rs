// SPDX-License-Identifier: Apache-2.0
//! The loaded programs and the ring they write to.

use std::os::fd::AsFd;
use std::rc::Rc;

use libbpf_rs::MapHandle;

use super::devices::DevicePrograms;
use super::event::{Event, Place, event_bytes};
use super::missing::{Facts, explain};
use super::objects::{Programs, VARIABLES};
use super::reader::Reader;
use super::ring::Ring;
use super::sockets::Sockets;
use crate::Unavailable;
use crate::bpf::{BpfError, Hook, Link, Order, RunStats, Side};
use crate::capture::{CaptureError, Cost};
use crate::net::Netns;
use crate::plan::IpFamily;

/// Lowest priority that netfilter gives away: what has it runs before everything else that is hooked.
/// The very lowest is reserved (`net/netfilter/nf_bpf_link.c`).
const FIRST: i32 = i32::MIN + 1;
/// Priorities of `enum nf_ip_hook_priorities`.
const CONNTRACK: i32 = -200;
const NAT_DST: i32 = -100;
const NAT_SRC: i32 = 100;

/// Programs at hooks: place, name, hook. Before connection tracking means behind what rewrites
/// packets earlier (raw); a translation is over one step behind NAT's own priority.
pub(super) const HOOKS: [(Place, &str, Hook); 8] = [
    (Place::PreConntrack, "pre_conntrack", Hook { number: 0, priority: CONNTRACK - 1 }),
    (Place::Conntracked, "conntracked", Hook { number: 0, priority: CONNTRACK + 1 }),
    (Place::Translated, "translated", Hook { number: 0, priority: NAT_DST + 1 }),
    (Place::LocalIn, "local_in", Hook { number: 1, priority: FIRST }),
    (Place::Forward, "forward", Hook { number: 2, priority: FIRST }),
    (Place::LocalOut, "local_out", Hook { number: 3, priority: FIRST }),
    (Place::Postrouting, "postrouting", Hook { number: 4, priority: FIRST }),
    (Place::Masqueraded, "masqueraded", Hook { number: 4, priority: NAT_SRC + 1 }),
];

/// Settings of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Family of the packets that are looked at.
    pub family: IpFamily,
    /// Whether segments that only acknowledge are events; joining does not need them.
    pub keep_acks: bool,
    /// Whether to have programs as for a kernel that interprets them, whatever this one does.
    pub interpreted: bool,
    /// Most events kept between two drains, where less than the usual; more are counted as dropped.
    pub events_max: Option<usize>,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { family: IpFamily::Ipv4, keep_acks: false, interpreted: false, events_max: None }
    }
}

/// What the probes saw since they were last asked.
#[derive(Debug)]
pub struct ProbeCapture {
    /// In the order they were written.
    pub events: Vec<Event>,
    /// Events that were overwritten before they were read, or that we had no room for.
    pub dropped: u64,
    /// Processor time of the reading thread, nanoseconds.
    pub reader_ns: u64,
}

/// Loaded programs. Nothing runs until they are linked.
#[derive(Debug)]
pub struct Probes {
    programs: Programs,
    reader: Reader,
}

impl Probes {
    /// Loads the programs and tries them on `scratch`, a namespace made for the question.
    ///
    /// # Errors
    /// [`Unavailable`] names what the machine lacks.
    pub fn load(options: ProbeOptions, scratch: &Netns) -> Result<Self, Unavailable> {
        let unavailable = |error: &dyn std::error::Error| explain(&Facts::of_this_machine(), error);
        let probes = Self::begin(options).map_err(|error| unavailable(&error))?;
        let tried = probes
            .link_hook(scratch, Place::PreConntrack)
            .and_then(|_| probes.device_programs(0)?.link(scratch, "lo", Place::TcIngress));
        match tried {
            Ok(_) => Ok(probes),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn begin(options: ProbeOptions) -> Result<Self, CaptureError> {
        let programs = Programs::load(options)?;
        let ring = Ring::map(&programs.events, event_bytes(options.family))?;
        let variables = MapHandle::try_from(&programs.variables)
            .map_err(BpfError::libbpf("share map", VARIABLES))?;
        Ok(Self { reader: Reader::start(ring, variables, options.events_max)?, programs })
    }

    /// Why sockets cannot be probed, where they cannot.
    pub fn without_sockets(&self) -> Option<&str> {
        self.programs.sockets.as_ref().err().map(String::as_str)
    }

    /// What is different where the kernel does not compile programs for the processor; with what it
    /// said. `None` where it does.
    pub fn interpreted(&self) -> Option<String> {
        let said = self.programs.interpreted.as_ref()?;
        Some(format!(
            "programs that the kernel interprets, because it does not compile them ({said}): they \
             cost packets more, and there is none at sockets"
        ))
    }

    pub(super) fn link_hook(&self, host: &Netns, place: Place) -> Result<Link, BpfError> {
        let (_, _, hook) = HOOKS.iter().find(|(at, ..)| *at == place).expect("a hook's place");
        Link::to_hook(&self.programs.hooks[&place], host, self.programs.family, *hook)
    }

    /// Links the program that does nothing to what a device sends, to be counted beside the others.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn link_empty(&self, host: &Netns, device: &str) -> Result<Link, BpfError> {
        Link::to_device(&self.programs.empty, host, device, Side::Egress, Order::Last)
    }

    /// The programs for the devices of a namespace, by its number.
    pub(super) fn device_programs(&self, netns: u32) -> Result<Rc<DevicePrograms>, BpfError> {
        self.programs.devices.of(netns)
    }

    /// Links the program at sockets, where there is one, for those of some namespaces.
    pub(super) fn link_sockets(&self, hosts: &[u32]) -> Result<Option<Rc<Link>>, BpfError> {
        let Ok(sockets) = &self.programs.sockets else { return Ok(None) };
        for &netns in hosts {
            sockets.watch(netns)?;
        }
        sockets.link().map(Some)
    }

    /// Hands out what was seen since the last call.
    ///
    /// # Errors
    /// The reading thread has died.
    pub fn drain(&self) -> Result<ProbeCapture, CaptureError> {
        self.reader.drain()
    }

    /// What all probes cost so far. The kernel counts only while told to
    /// ([`crate::bpf::StatsOn`]).
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn cost(&self) -> Result<Cost, BpfError> {
        let empty = RunStats::of(self.programs.empty.as_fd())?;
        let mut cost =
            Cost { empty_runs: empty.runs, empty_time_ns: empty.time_ns, ..Cost::default() };
        let devices = self.programs.devices.loaded();
        let at_devices = devices.iter().flat_map(|programs| programs.both());
        let at_sockets = self.programs.sockets.iter().map(Sockets::program);
        for program in self.programs.hooks.values().chain(at_devices).chain(at_sockets) {
            let RunStats { runs, time_ns, .. } = RunStats::of(program.as_fd())?;
            cost.runs += runs;
            cost.time_ns += time_ns;
        }
        Ok(cost)
    }
}
