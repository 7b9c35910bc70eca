// SPDX-License-Identifier: Apache-2.0
//! The compiled programs, out of whichever objects the kernel takes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use libbpf_rs::MapHandle;
use workloads::protocol::SAMPLE_TOS;

use super::devices::{DevicePrograms, Devices, Each};
use super::event::Place;
use super::missing::chain;
use super::probes::{HOOKS, ProbeOptions};
use super::sockets::Sockets;
use crate::bpf::{BpfError, Loaded, Opened};
use crate::net::addresses::VXLAN_PORT;
use crate::plan::IpFamily;

/// An object file and its name.
pub(super) type ObjectFile = (&'static str, &'static [u8]);

/// An object of a name below `harness/bpf`.
macro_rules! object {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../bpf/", $name)))
    };
}

/// For kernels that compile programs for the processor.
fn compiled(family: IpFamily) -> ObjectFile {
    match family {
        IpFamily::Ipv4 => object!("probes.bpf.o"),
        IpFamily::Ipv6 => object!("probes-ipv6.bpf.o"),
    }
}

/// Those at hooks, for kernels that interpret programs.
fn hooks_interpreted(family: IpFamily) -> ObjectFile {
    match family {
        IpFamily::Ipv4 => object!("hooks-interpreted.bpf.o"),
        IpFamily::Ipv6 => object!("hooks-interpreted-ipv6.bpf.o"),
    }
}

/// Those at devices, for the same.
pub(super) fn devices_interpreted(family: IpFamily) -> ObjectFile {
    match family {
        IpFamily::Ipv4 => object!("devices-interpreted.bpf.o"),
        IpFamily::Ipv6 => object!("devices-interpreted-ipv6.bpf.o"),
    }
}

/// The ring.
pub(super) const EVENTS: &str = "events";
/// Variables of the programs: the count of events.
pub(super) const VARIABLES: &str = ".bss";
/// A program that does nothing.
const EMPTY: &str = "empty";

/// Everything the probes are made of, in the kernel.
#[derive(Debug)]
pub(super) struct Programs {
    /// Of the packets that they look at.
    pub(super) family: IpFamily,
    pub(super) hooks: HashMap<Place, OwnedFd>,
    pub(super) devices: Devices,
    /// Or why there is none.
    pub(super) sockets: Result<Sockets, String>,
    pub(super) empty: OwnedFd,
    pub(super) events: MapHandle,
    pub(super) variables: MapHandle,
    /// What the kernel said about programs that it would have to compile, where it does not.
    pub(super) interpreted: Option<String>,
}

impl Programs {
    /// Loads what the kernel takes.
    pub(super) fn load(options: ProbeOptions) -> Result<Self, BpfError> {
        if options.interpreted {
            return Self::interpreted(options, "asked for".to_owned());
        }
        let family = options.family;
        match open(compiled(family), options, 0)?.load() {
            Ok(loaded) => {
                let sockets = Sockets::of(&loaded).map_err(|error| chain(&error));
                Self::compiled(family, &loaded, sockets)
            }
            Err(error) if error.lacks_compiler() => Self::interpreted(options, chain(&error)),
            // A kernel without tracepoints refuses that one program; the others do without it.
            Err(error) => {
                let mut opened = open(compiled(family), options, 0)?;
                opened.leave_out(Sockets::NAME)?;
                let Ok(loaded) = opened.load() else { return Err(error) };
                Self::compiled(family, &loaded, Err(chain(&error)))
            }
        }
    }

    fn compiled(
        family: IpFamily,
        loaded: &Loaded,
        sockets: Result<Sockets, String>,
    ) -> Result<Self, BpfError> {
        let devices = Devices::Same(Rc::new(DevicePrograms::of(loaded)?));
        Self::new(family, loaded, devices, sockets, None)
    }

    fn interpreted(options: ProbeOptions, said: String) -> Result<Self, BpfError> {
        let loaded = open(hooks_interpreted(options.family), options, 0)?.load()?;
        let (events, variables) = (loaded.map(EVENTS)?, loaded.map(VARIABLES)?);
        let devices =
            Devices::Each(Each { options, events, variables, loaded: RefCell::default() });
        let without = "their program is not one that can be interpreted".to_owned();
        Self::new(options.family, &loaded, devices, Err(without), Some(said))
    }

    fn new(
        family: IpFamily,
        loaded: &Loaded,
        devices: Devices,
        sockets: Result<Sockets, String>,
        interpreted: Option<String>,
    ) -> Result<Self, BpfError> {
        let hooks = HOOKS.iter().map(|&(place, name, _)| Ok((place, loaded.program(name)?)));
        Ok(Self {
            family,
            hooks: hooks.collect::<Result<_, BpfError>>()?,
            devices,
            sockets,
            empty: loaded.program(EMPTY)?,
            events: loaded.map(EVENTS)?,
            variables: loaded.map(VARIABLES)?,
            interpreted,
        })
    }
}

/// Opens an object and sets its constants. `netns` is the number of the namespace that programs at
/// devices are for; 0 where they can tell.
pub(super) fn open(
    (name, file): ObjectFile,
    options: ProbeOptions,
    netns: u32,
) -> Result<Opened, BpfError> {
    let mut opened = Opened::read(name, file)?;
    // `settings` in `probes.h`: mark, keep_acks, vxlan_port, netns.
    let [high, low] = VXLAN_PORT.to_be_bytes();
    let [a, b, c, d] = netns.to_ne_bytes();
    opened.set_constants(&[SAMPLE_TOS, u8::from(options.keep_acks), high, low, a, b, c, d])?;
    Ok(opened)
}
