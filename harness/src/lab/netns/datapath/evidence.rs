// SPDX-License-Identifier: Apache-2.0
//! That a mode carried what it had to carry.

use std::net::SocketAddr;

use super::connection::{by_http2, flow, made, preamble, source};
use super::{Datapath, view};
use crate::lab::LabError;
use crate::lab::netns::beds::Ground;
use crate::lab::netns::greeting::{Manner, greet};
use crate::lab::netns::measured::Measured;
use crate::lab::netns::road::Ask;
use crate::lab::netns::{Hosts, ingress, road};
use crate::plan::{Case, Mode, Road};
use crate::proxy::{Probe, ProxyError};

impl Datapath {
    /// Makes a connection by the case's own road, and one by the Service's NodePort where the road
    /// passes the Service by or another host comes before it, and shows that the mode carried what it had to carry.
    pub(in super::super) fn prove(
        &mut self,
        ground: &Ground,
        lab: &Hosts,
        case: &Case,
        measured: &Measured,
    ) -> Result<Vec<String>, LabError> {
        let road = case.route.road;
        let destination = road::destination(lab, case, measured);
        let certificates = ground.certificates_for(case)?;
        let mut evidence = Vec::new();
        let mut answered = |nth: u16| -> Result<SocketAddr, LabError> {
            let (source, asked) = (source(lab, road, nth), ingress::HOST);
            let host = road::origin(lab, road);
            let preamble = preamble(lab, destination);
            let http2 = by_http2(ground, case);
            let name = ground.name(road);
            let manner = Manner { asked, name, preamble, http2, certificates };
            let greeting = greet(host, source, destination, manner)?;
            evidence.push(format!("{destination} answered as {}", greeting.pod));
            evidence.extend(greeting.address_seen(source));
            Ok(source)
        };
        if road == Road::Loadbalancer || road.is_ingress() {
            answered(1)?;
            for ask in road::asks(lab, case, measured) {
                evidence.extend(if ask.past && case.mode != Mode::None {
                    let (source, destination) = (self::source(lab, ask.from, 0), ask.destination);
                    let (accepted, _open) = made(ground, lab, case, measured, ask, source)?;
                    let unchanged = untranslated(lab, case.mode, source, destination)?;
                    vec![format!("{source} asked {destination}; {accepted} answered"), unchanged]
                } else {
                    self.prove_one(ground, lab, case, measured, ask)?
                });
            }
        } else if case.mode != Mode::None && road == Road::Direct {
            let source = answered(1)?;
            evidence.push(untranslated(lab, case.mode, source, destination)?);
            let destination = road::service_address(lab, road);
            let mut asks = road::asks(lab, case, measured);
            asks.iter_mut().for_each(|ask| ask.destination = destination);
            evidence.extend(self.prove_one(ground, lab, case, measured, asks[0])?);
        } else {
            let ask = road::asks(lab, case, measured)[0];
            evidence.extend(self.prove_one(ground, lab, case, measured, ask)?);
        }
        Ok(evidence)
    }

    fn prove_one(
        &mut self,
        ground: &Ground,
        lab: &Hosts,
        case: &Case,
        measured: &Measured,
        ask: Ask,
    ) -> Result<Vec<String>, LabError> {
        let Ask { destination, service, .. } = ask;
        let client = source(lab, ask.from, 0);
        let (accepted, open) = made(ground, lab, case, measured, ask, client)?;
        let probe = Probe { client, destination, backend: accepted, service: (service, 0) };
        let mut evidence = vec![format!("{client} asked {destination}; {accepted} answered")];
        evidence.extend(open.address_seen(client));
        evidence.extend(flow_evidence(lab, client, destination)?);
        let entry = view(ground, lab, 0);
        evidence.extend(self.installed[0].prove(&entry, &measured.table, &probe)?);
        Ok(evidence)
    }
}

/// What the entry node's conntrack says of a connection. No entry is no evidence, not an error:
/// under mode `none` nothing tracks.
fn flow_evidence(
    lab: &Hosts,
    client: SocketAddr,
    to: SocketAddr,
) -> Result<Option<String>, LabError> {
    Ok(flow(lab, client, to)?.map(|flow| {
        let (original, reply) = (flow.original, flow.reply);
        format!(
            "conntrack on {}: {} -> {}, answered by {} -> {}",
            lab.nodes()[0].name,
            original.source,
            original.destination,
            reply.source,
            reply.destination
        )
    }))
}

fn untranslated(
    lab: &Hosts,
    mode: Mode,
    client: SocketAddr,
    to: SocketAddr,
) -> Result<String, LabError> {
    let entry = &lab.nodes()[0].name;
    match flow(lab, client, to)? {
        // Some CNIs masquerade what comes from outside (flannel's `--ip-masq`), which is not the mode's.
        Some(flow) if flow.dnat().is_some() || lab.cni().is_own() && flow.snat().is_some() => {
            Err(ProxyError::NotProved {
                mode,
                host: lab.nodes()[0].name.clone(),
                expected: format!("{client} -> {to} passes without translation"),
                found: format!("{flow:?}"),
            }
            .into())
        }
        Some(flow) if flow.snat().is_some() => Ok(format!(
            "conntrack on {entry}: {client} -> {to} keeps its destination, and has the source that the CNI gives it"
        )),
        Some(_) => Ok(format!("conntrack on {entry}: {client} -> {to} passes without translation")),
        None => Ok(format!("conntrack on {entry} does not track {client} -> {to}")),
    }
}
