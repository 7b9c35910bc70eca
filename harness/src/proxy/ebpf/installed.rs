// SPDX-License-Identifier: Apache-2.0
//! Mode ebpf on a node: programs linked, maps filled, ended connections swept out.

use std::net::IpAddr;

use super::super::sysctl::Sysctls;
use super::super::watch::Watch;
use super::super::{Installed, NodeView, Probe, ProxyError, ServiceTable};
use super::devices::{Device, Devices};
use super::kernel::Kernel;
use super::sweep::Sweeper;
use super::watch::EbpfWatch;
use super::{Ebpf, Plan, proof};
use crate::bpf::{BpfError, Link, Order, Side, ingress_programs};
use crate::net::NetError;
use crate::net::addresses::family;
use crate::plan::{IpFamily, Mode};

/// `bpf_fib_lookup()` finds no way for what comes in by a device that does not forward.
fn forwarding(family: IpFamily) -> (&'static str, &'static str) {
    match family {
        IpFamily::Ipv4 => ("net/ipv4/ip_forward", "1"),
        IpFamily::Ipv6 => ("net/ipv6/conf/all/forwarding", "1"),
    }
}

/// Mode ebpf on a node.
#[derive(Debug)]
pub(super) struct InstalledEbpf {
    // Before the maps: from here on no packet looks into them.
    links: Vec<Link>,
    pub(super) entrances: Vec<Device>,
    pub(super) kernel: Kernel,
    sweeper: Sweeper,
    sysctls: Sysctls,
    address: IpAddr,
    /// Service ports in the maps.
    ports: usize,
    /// Numbers of the programs that the node has for the other family.
    pub(super) beside: Vec<u32>,
}

impl InstalledEbpf {
    /// The maps before the links, so that the first packet finds its Service.
    pub(super) fn install(
        options: &Ebpf,
        node: &NodeView<'_>,
        table: &ServiceTable,
    ) -> Result<Self, ProxyError> {
        let plan = Plan::of(table, node.name, node.address);
        let devices = Devices::of(node)?;
        let kernel = Kernel::load(options, node.address, &plan).map_err(bpf("install"))?;
        kernel.tables.write(&plan, 0).map_err(bpf("install"))?;
        kernel.tables.write_sources(&devices).map_err(bpf("install"))?;
        let tables = kernel.tables.share().map_err(bpf("install"))?;
        let sweeper = Sweeper::start(options, tables)
            .map_err(NetError::os("start", "a thread that sweeps connections"))
            .map_err(net)?;
        let link = |device: &Device| {
            let program = &kernel.program(device.pods).fd;
            Link::to_device(program, node.netns, &device.name, Side::Ingress, Order::Last)
        };
        let links = devices.entrances.iter().map(link).collect::<Result<_, _>>();
        let links = links.map_err(bpf("install"))?;
        let sysctls =
            Sysctls::write(node.netns, &[forwarding(family(node.address))]).map_err(net)?;
        let (entrances, address, ports) = (devices.entrances, node.address, plan.ports.len());
        Ok(Self { links, entrances, kernel, sweeper, sysctls, address, ports, beside: Vec::new() })
    }

    /// The plan of a table on this node.
    pub(super) fn plan(&self, node: &NodeView<'_>, table: &ServiceTable) -> Plan {
        Plan::of(table, node.name, self.address)
    }
}

pub(super) fn bpf(op: &'static str) -> impl Fn(BpfError) -> ProxyError {
    move |source| ProxyError::Bpf { op, source }
}

fn net(source: NetError) -> ProxyError {
    ProxyError::Net { mode: Mode::Ebpf, source }
}

impl Installed for InstalledEbpf {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        proof::prove(self, node, table, probe)
    }

    fn programs(&self) -> Vec<u32> {
        vec![self.kernel.from_pod.id, self.kernel.from_outside.id]
    }

    fn stand_beside(&mut self, programs: Vec<u32>) {
        self.beside = programs;
    }

    fn watch(&mut self, _: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        let tables = self.kernel.tables.share().map_err(bpf("watch"))?;
        let programs = [&self.kernel.from_pod, &self.kernel.from_outside];
        let programs = programs.map(|program| (program.name, program.id));
        Ok(Box::new(EbpfWatch { tables, programs }))
    }

    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError> {
        let plan = self.plan(node, table);
        self.kernel.tables.write(&plan, self.ports).map_err(bpf("add to"))?;
        self.ports = plan.ports.len();
        Ok(())
    }

    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError> {
        let Self { links, kernel, sweeper, sysctls, .. } = *self;
        drop(links);
        let swept = sweeper.down();
        let put_back = sysctls.put_back(node.netns);
        let ours = [kernel.from_pod.id, kernel.from_outside.id];
        let found = ingress_programs(node.netns).map_err(bpf("remove"))?;
        let left = found.into_iter().filter(|program| ours.contains(&program.id));
        let left: Vec<_> =
            left.map(|program| format!("{} at {}", program.name, program.device)).collect();
        if !left.is_empty() {
            let (host, left) = (node.name.to_owned(), left.join(", "));
            return Err(ProxyError::Left { mode: Mode::Ebpf, host, left });
        }
        swept.map_err(bpf("sweep connections of"))?;
        put_back.map_err(net)
    }
}
