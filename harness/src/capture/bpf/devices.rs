// SPDX-License-Identifier: Apache-2.0
//! The programs at devices.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

use libbpf_rs::MapHandle;

use super::event::Place;
use super::objects::{self, EVENTS, VARIABLES, devices_interpreted};
use super::probes::ProbeOptions;
use crate::bpf::{BpfError, Link, Loaded, Order, Side};
use crate::net::Netns;

/// Programs for what comes in by a device and for what goes out.
#[derive(Debug)]
pub(super) struct DevicePrograms {
    ingress: OwnedFd,
    egress: OwnedFd,
}

impl DevicePrograms {
    pub(super) fn of(loaded: &Loaded) -> Result<Self, BpfError> {
        Ok(Self { ingress: loaded.program("device_in")?, egress: loaded.program("device_out")? })
    }

    /// Links one of them.
    pub(super) fn link(&self, host: &Netns, device: &str, place: Place) -> Result<Link, BpfError> {
        let (program, side) = match place {
            Place::TcEgress => (&self.egress, Side::Egress),
            _ => (&self.ingress, Side::Ingress),
        };
        // First of all: what a program of the mode does at the same place lies behind the probe.
        Link::to_device(program, host, device, side, Order::First)
    }

    /// Both, to be asked what they cost.
    pub(super) fn both(&self) -> [&OwnedFd; 2] {
        [&self.ingress, &self.egress]
    }
}

/// Programs at the devices of any namespace.
#[derive(Debug)]
pub(super) enum Devices {
    /// The same everywhere: they see in the packet which namespace it is in.
    Same(Rc<DevicePrograms>),
    /// Loaded for each namespace, with its number as a constant.
    Each(Each),
}

impl Devices {
    /// The programs for a namespace, by its number. They are in the kernel while the answer lives.
    pub(super) fn of(&self, netns: u32) -> Result<Rc<DevicePrograms>, BpfError> {
        match self {
            Self::Same(programs) => Ok(programs.clone()),
            Self::Each(each) => each.of(netns),
        }
    }

    /// All that the kernel has now.
    pub(super) fn loaded(&self) -> Vec<Rc<DevicePrograms>> {
        match self {
            Self::Same(programs) => vec![programs.clone()],
            Self::Each(each) => each.loaded.borrow().values().filter_map(Weak::upgrade).collect(),
        }
    }
}

/// What it takes to load programs for one more namespace.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) options: ProbeOptions,
    /// The ring, and the count of its events, which all programs write to.
    pub(super) events: MapHandle,
    pub(super) variables: MapHandle,
    pub(super) loaded: RefCell<HashMap<u32, Weak<DevicePrograms>>>,
}

impl Each {
    fn of(&self, netns: u32) -> Result<Rc<DevicePrograms>, BpfError> {
        let mut loaded = self.loaded.borrow_mut();
        if let Some(programs) = loaded.get(&netns).and_then(Weak::upgrade) {
            return Ok(programs);
        }
        let mut opened =
            objects::open(devices_interpreted(self.options.family), self.options, netns)?;
        opened.share_map(EVENTS, &self.events)?;
        opened.share_map(VARIABLES, &self.variables)?;
        let programs = Rc::new(DevicePrograms::of(&opened.load()?)?);
        loaded.retain(|_, programs| programs.strong_count() > 0);
        loaded.insert(netns, Rc::downgrade(&programs));
        Ok(programs)
    }
}
