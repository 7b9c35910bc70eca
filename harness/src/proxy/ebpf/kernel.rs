// SPDX-License-Identifier: Apache-2.0
//! The programs and maps in the kernel.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::connection::{Connection, Tuple};
use super::devices::Devices;
use super::entry::Packed;
use super::plan::Plan;
use super::{Ebpf, entry};
use crate::bpf::{BpfError, Opened, RunStats, Table};
use crate::net::addresses::family;
use crate::plan::IpFamily;

/// The programs of a family, compiled by `cargo xtask bpf` from the source of that name.
fn object(family: IpFamily) -> (&'static str, &'static [u8]) {
    match family {
        IpFamily::Ipv4 => ("proxy.bpf.o", include_bytes!("../../../bpf/proxy.bpf.o")),
        IpFamily::Ipv6 => ("proxy-ipv6.bpf.o", include_bytes!("../../../bpf/proxy-ipv6.bpf.o")),
    }
}

/// Entries there is room for beyond those of the table that is installed.
const ROOM: u32 = 4096;

/// A program, and the number the kernel gave it.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
}

/// What the object holds, loaded.
#[derive(Debug)]
pub(super) struct Kernel {
    /// For the pods' ends.
    pub(super) from_pod: Program,
    /// For the NIC and the VXLAN device.
    pub(super) from_outside: Program,
    pub(super) tables: Tables,
}

/// The maps.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) services: Table,
    pub(super) endpoints: Table,
    pub(super) connections: Table,
    pub(super) affinities: Table,
    pub(super) sources: Table,
}

impl Kernel {
    /// Loads the programs of the address's family with maps that have room for `plan` and what may be added to it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn load(options: &Ebpf, address: IpAddr, plan: &Plan) -> Result<Self, BpfError> {
        let (name, object) = object(family(address));
        let mut object = Opened::read(name, object)?;
        object.set_constants(entry::settings(options, address).as_ref())?;
        object.set_max_entries("services", plan.frontends() + ROOM)?;
        object.set_max_entries("endpoints", plan.endpoints() + ROOM)?;
        // One entry for each direction.
        object.set_max_entries("connections", options.connections_max.saturating_mul(2))?;
        object.set_max_entries("affinities", options.connections_max)?;
        let loaded = object.load()?;
        let program = |name| {
            let fd = loaded.program(name)?;
            let id = RunStats::of(fd.as_fd())?.id;
            Ok::<_, BpfError>(Program { name, fd, id })
        };
        Ok(Self {
            from_pod: program("from_pod")?,
            from_outside: program("from_outside")?,
            tables: Tables {
                services: Table::of(&loaded, "services")?,
                endpoints: Table::of(&loaded, "endpoints")?,
                connections: Table::of(&loaded, "connections")?,
                affinities: Table::of(&loaded, "affinities")?,
                sources: Table::of(&loaded, "sources")?,
            },
        })
    }

    /// The program for a device.
    pub(super) fn program(&self, pods: bool) -> &Program {
        if pods { &self.from_pod } else { &self.from_outside }
    }
}

impl Tables {
    /// More handles on the same maps.
    pub(super) fn share(&self) -> Result<Self, BpfError> {
        Ok(Self {
            services: self.services.share()?,
            endpoints: self.endpoints.share()?,
            connections: self.connections.share()?,
            affinities: self.affinities.share()?,
            sources: self.sources.share()?,
        })
    }

    /// Writes the ports of `plan` from the number `known` on. Endpoints first: from the moment a
    /// Service is there, its packets look for them.
    pub(super) fn write(&self, plan: &Plan, known: usize) -> Result<(), BpfError> {
        let ports = || (0..).zip(&plan.ports).skip(known);
        self.endpoints.put_all(ports().flat_map(|(_, port)| {
            (port.first..)
                .zip(&port.targets)
                .map(|(index, target): (u32, _)| (index.to_ne_bytes(), entry::endpoint(target)))
        }))?;
        self.services.put_all(ports().flat_map(|(id, port)| {
            port.frontends.iter().map(move |frontend| {
                let key = entry::frontend(frontend.address, port.protocol);
                (key, entry::service(id, port, frontend))
            })
        }))
    }

    /// Writes the addresses that packets may be given as their source.
    pub(super) fn write_sources(&self, devices: &Devices) -> Result<(), BpfError> {
        let entries = devices.sources.iter();
        let entry =
            |(index, source): &(u32, IpAddr)| (index.to_ne_bytes(), Packed::new().address(*source));
        self.sources.put_all(entries.map(entry))
    }

    /// The entry of one direction of a connection.
    pub(super) fn connection(&self, tuple: Tuple) -> Result<Option<Connection>, BpfError> {
        let value = self.connections.get(tuple.packed().as_ref())?;
        Ok(value.and_then(|value| Connection::from_bytes(&value)))
    }
}
