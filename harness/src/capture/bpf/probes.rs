// SPDX-License-Identifier: Apache-2.0
//! The loaded programs and the ring they write to.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use workloads::protocol::SAMPLE_TOS;

use super::event::{Event, Place};
use super::missing::{Facts, explain};
use super::reader::Reader;
use super::ring::Ring;
use crate::Unavailable;
use crate::bpf::{BpfError, Hook, Link, Loaded, Opened, Order, RunStats, Side};
use crate::capture::CaptureError;
use crate::net::Netns;
use crate::net::addresses::VXLAN_PORT;

/// The compiled programs.
const OBJECT: &[u8] = include_bytes!("../../../bpf/probes.bpf.o");

/// Lowest priority that netfilter gives away: what has it runs before everything else that is hooked.
/// The very lowest is reserved (`net/netfilter/nf_bpf_link.c`).
const FIRST: i32 = i32::MIN + 1;
/// Priorities of `enum nf_ip_hook_priorities`.
const CONNTRACK: i32 = -200;
const NAT_DST: i32 = -100;
const NAT_SRC: i32 = 100;

/// Programs at hooks: place, name, hook. Before connection tracking means behind what rewrites
/// packets earlier (raw); a translation is over one step behind NAT's own priority.
const HOOKS: [(Place, &str, Hook); 8] = [
    (Place::PreConntrack, "pre_conntrack", Hook { number: 0, priority: CONNTRACK - 1 }),
    (Place::Conntracked, "conntracked", Hook { number: 0, priority: CONNTRACK + 1 }),
    (Place::Translated, "translated", Hook { number: 0, priority: NAT_DST + 1 }),
    (Place::LocalIn, "local_in", Hook { number: 1, priority: FIRST }),
    (Place::Forward, "forward", Hook { number: 2, priority: FIRST }),
    (Place::LocalOut, "local_out", Hook { number: 3, priority: FIRST }),
    (Place::Postrouting, "postrouting", Hook { number: 4, priority: FIRST }),
    (Place::Masqueraded, "masqueraded", Hook { number: 4, priority: NAT_SRC + 1 }),
];
const DEVICES: [(Place, &str); 2] =
    [(Place::TcIngress, "device_in"), (Place::TcEgress, "device_out")];
const READABLE: &str = "readable";
/// A program that does nothing.
const EMPTY: &str = "empty";

/// Settings of the probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Whether segments that only acknowledge are events; joining does not need them.
    pub keep_acks: bool,
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

/// What the programs cost the packets, by the kernel's own count while it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Times a probe ran, on whatever packet.
    pub runs: u64,
    /// Time in all of them, nanoseconds. Reading the clock for this count is in it.
    pub time_ns: u64,
    /// Runs of the empty program.
    pub empty_runs: u64,
    /// Time in them, nanoseconds: what the count itself costs.
    pub empty_time_ns: u64,
}

/// Loaded programs. Nothing runs until they are linked.
#[derive(Debug)]
pub struct Probes {
    programs: HashMap<Place, OwnedFd>,
    empty: OwnedFd,
    hosts: MapHandle,
    reader: Reader,
    /// Why sockets cannot be probed, where they cannot.
    without_sockets: Option<String>,
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
            .and_then(|_| probes.link_device(scratch, "lo", Place::TcIngress));
        match tried {
            Ok(_) => Ok(probes),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn begin(options: ProbeOptions) -> Result<Self, CaptureError> {
        let (loaded, without_sockets) = match open(options)?.load() {
            Ok(loaded) => (loaded, None),
            // A kernel without tracepoints refuses that one program; the others do without it.
            Err(with) => {
                let mut opened = open(options)?;
                opened.leave_out(READABLE)?;
                let Ok(loaded) = opened.load() else { return Err(with.into()) };
                (loaded, Some(chain(&with)))
            }
        };
        let mut programs = HashMap::new();
        let hooks = HOOKS.iter().map(|&(place, name, _)| (place, name));
        for (place, name) in hooks.chain(DEVICES) {
            programs.insert(place, loaded.program(name)?);
        }
        let mut probes = Self {
            programs,
            empty: loaded.program(EMPTY)?,
            hosts: loaded.map("hosts")?,
            reader: Reader::start(Ring::map(&loaded.map("events")?)?, loaded.map(".bss")?)?,
            without_sockets,
        };
        probes.try_sockets(&loaded)?;
        Ok(probes)
    }

    /// Links the sockets' probe once, to see whether the kernel has its tracepoint.
    fn try_sockets(&mut self, loaded: &Loaded) -> Result<(), BpfError> {
        if self.without_sockets.is_none() {
            self.programs.insert(Place::Readable, loaded.program(READABLE)?);
            if let Err(error) = self.link_sockets() {
                self.programs.remove(&Place::Readable);
                self.without_sockets = Some(chain(&error));
            }
        }
        Ok(())
    }

    /// Why sockets cannot be probed, where they cannot.
    pub fn without_sockets(&self) -> Option<&str> {
        self.without_sockets.as_deref()
    }

    pub(super) fn link_hook(&self, host: &Netns, place: Place) -> Result<Link, BpfError> {
        let (_, _, hook) = HOOKS.iter().find(|(at, ..)| *at == place).expect("a hook's place");
        Link::to_hook(&self.programs[&place], host, *hook)
    }

    /// Links the program that does nothing to what a device sends, to be counted beside the others.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn link_empty(&self, host: &Netns, device: &str) -> Result<Link, BpfError> {
        Link::to_device(&self.empty, host, device, Side::Egress, Order::Last)
    }

    pub(super) fn link_device(
        &self,
        host: &Netns,
        device: &str,
        place: Place,
    ) -> Result<Link, BpfError> {
        let side = if place == Place::TcEgress { Side::Egress } else { Side::Ingress };
        // First of all: what a program of the mode does at the same place lies behind the probe.
        Link::to_device(&self.programs[&place], host, device, side, Order::First)
    }

    pub(super) fn link_sockets(&self) -> Result<Option<Link>, BpfError> {
        let program = self.programs.get(&Place::Readable);
        program.map(|program| Link::to_tracepoint(program, c"sk_data_ready")).transpose()
    }

    /// Says which namespaces' sockets are of the lab; the tracepoint is the whole machine's.
    pub(super) fn watch_sockets_of(&self, netns: u32, on: bool) -> Result<(), BpfError> {
        let key = netns.to_ne_bytes();
        let outcome = match on {
            true => self.hosts.update(&key, &[1], MapFlags::ANY),
            false => self.hosts.delete(&key),
        };
        outcome.map_err(BpfError::map("hosts"))
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
        let empty = RunStats::of(self.empty.as_fd())?;
        let mut cost =
            Cost { empty_runs: empty.runs, empty_time_ns: empty.time_ns, ..Cost::default() };
        for program in self.programs.values() {
            let RunStats { runs, time_ns, .. } = RunStats::of(program.as_fd())?;
            cost.runs += runs;
            cost.time_ns += time_ns;
        }
        Ok(cost)
    }
}

fn open(options: ProbeOptions) -> Result<Opened, BpfError> {
    let mut opened = Opened::read("probes.bpf.o", OBJECT)?;
    // `settings` in the source: mark, keep_acks, vxlan_port.
    let [high, low] = VXLAN_PORT.to_be_bytes();
    opened.set_constants(&[SAMPLE_TOS, u8::from(options.keep_acks), high, low])?;
    Ok(opened)
}

/// An error with all its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
