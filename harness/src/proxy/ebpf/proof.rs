// SPDX-License-Identifier: Apache-2.0
//! Evidence that the programs carried a connection: they are on every device and nobody else's is,
//! no other mode is there, and their map of connections holds the very translation, with the
//! packets that it was done to. (The kernel's own count of a program's runs is off by default and
//! would not say whose packets they were.)

use super::super::{Installed, NodeView, Probe, ProxyError, ServiceTable, foreign};
use super::connection::Tuple;
use super::installed::{InstalledEbpf, bpf};
use super::plan::{Plan, Target};
use super::{entry, plan};
use crate::bpf::ingress_programs;
use crate::net::addresses::family;
use crate::plan::Mode;
use crate::proxy::Protocol;

/// Number of TCP in IP headers: probes are TCP.
const TCP: u8 = 6;

pub(super) fn prove(
    mode: &InstalledEbpf,
    node: &NodeView<'_>,
    table: &ServiceTable,
    probe: &Probe,
) -> Result<Vec<String>, ProxyError> {
    let family = family(node.address);
    let mut evidence = vec![foreign::expect_only(node.netns, Mode::Ebpf, None, family)?];
    evidence.push(linked(mode, node)?);
    let tables = &mode.kernel.tables;
    let tuple = Tuple { source: probe.client, destination: probe.destination, protocol: TCP };
    let forth = tables.connection(tuple).map_err(bpf("read back"))?;
    if probe.destination == probe.backend {
        return match forth {
            None => {
                evidence.push(format!("map connections: none {tuple}, so it passed untouched"));
                Ok(evidence)
            }
            Some(found) => Err(not_proved(node, format!("{tuple} untouched"), found.to_string())),
        };
    }
    let plan = mode.plan(node, table);
    evidence.push(service(mode, node, &plan, probe)?);
    let expected = format!("map connections: {tuple} translated to {}", probe.backend);
    let Some(forth) = forth else {
        return Err(not_proved(node, expected, "no such connection".to_owned()));
    };
    if forth.becomes.destination != probe.backend || forth.packets == 0 {
        return Err(not_proved(node, expected, forth.to_string()));
    }
    evidence.push(format!("map connections: {tuple} is {forth}"));
    let answers = forth.becomes.reverse();
    let back = tables.connection(answers).map_err(bpf("read back"))?;
    match back {
        Some(back) if back.becomes == tuple.reverse() && back.packets > 0 => {
            evidence.push(format!("map connections: {answers} is {back}"));
            Ok(evidence)
        }
        other => {
            let expected = format!("map connections: {answers} with packets translated back");
            let found = other.map_or("no such connection".to_owned(), |back| back.to_string());
            Err(not_proved(node, expected, found))
        }
    }
}

/// Every device that a Service's packets can come in by has its program and no stranger's.
fn linked(mode: &InstalledEbpf, node: &NodeView<'_>) -> Result<String, ProxyError> {
    let found = ingress_programs(node.netns).map_err(bpf("read back"))?;
    let mut shown = Vec::new();
    for device in &mode.entrances {
        let own = mode.kernel.program(device.pods);
        let here = || found.iter().filter(|program| program.device == device.name);
        if !here().any(|program| program.id == own.id) {
            let expected =
                format!("program {} ({}) at tc ingress of {}", own.name, own.id, device.name);
            let found: Vec<_> = here().map(|program| program.name.clone()).collect();
            return Err(not_proved(node, expected, format!("there: {found:?}")));
        }
        shown.push(format!("{} ({}) at {}", own.name, own.id, device.name));
    }
    let own = [&*mode.programs(), &*mode.beside].concat();
    let stranger = |program: &&crate::bpf::IngressProgram| {
        !own.contains(&program.id) && !foreign::is_probe(&program.name)
    };
    if let Some(program) = found.iter().find(stranger) {
        let expected = "no program of anybody else".to_owned();
        let found = format!("{} ({}) at {}", program.name, program.id, program.device);
        return Err(not_proved(node, expected, found));
    }
    Ok(format!("programs at tc ingress: {}", shown.join(", ")))
}

/// The maps hold the Service the probe was for, with the backend among its endpoints.
fn service(
    mode: &InstalledEbpf,
    node: &NodeView<'_>,
    plan: &Plan,
    probe: &Probe,
) -> Result<String, ProxyError> {
    let Some((id, port, frontend)) = plan.find(probe.destination) else {
        let expected = "an address of a Service".to_owned();
        return Err(not_proved(node, expected, probe.destination.to_string()));
    };
    let key = entry::frontend(frontend.address, Protocol::Tcp);
    let held = mode.kernel.tables.services.get(key.as_ref()).map_err(bpf("read back"))?;
    if held.as_deref() != Some(entry::service(id, port, frontend).as_ref()) {
        let expected = format!("map services: {} is {}", frontend.address, port.name);
        return Err(not_proved(node, expected, format!("{held:?}")));
    }
    let Some((place, target)) = place_of(port, probe) else {
        let expected = format!("an endpoint of {}", port.name);
        return Err(not_proved(node, expected, probe.backend.to_string()));
    };
    let held = mode.kernel.tables.endpoints.get(&place.to_ne_bytes()).map_err(bpf("read back"))?;
    if held.as_deref() != Some(entry::endpoint(target).as_ref()) {
        let expected = format!("map endpoints: {place} is {target}");
        return Err(not_proved(node, expected, format!("{held:?}")));
    }
    Ok(format!(
        "map services: {} is {}; map endpoints: {place} is {target}",
        frontend.address, port.name
    ))
}

fn place_of<'a>(port: &'a plan::Port, probe: &Probe) -> Option<(u32, &'a Target)> {
    (port.first..).zip(&port.targets).find(|(_, target)| target.address == probe.backend)
}

fn not_proved(node: &NodeView<'_>, expected: String, found: String) -> ProxyError {
    let host = node.name.to_owned();
    ProxyError::NotProved { mode: Mode::Ebpf, host, expected, found }
}
