// SPDX-License-Identifier: Apache-2.0
//! Which entries of the maps a connection met. Nothing has to be prepared: the map of connections
//! remembers.

use record::MatchedRule;

use super::super::watch::{Matched, Watch};
use super::super::{NodeView, Probe, ProxyError, ServiceTable};
use super::connection::Tuple;
use super::entry;
use super::installed::bpf;
use super::kernel::Tables;
use super::plan::{Plan, Port};

/// Number of TCP in IP headers.
const TCP: u8 = 6;

/// Handles on the maps, and the programs by name and number.
#[derive(Debug)]
pub(super) struct EbpfWatch {
    pub(super) tables: Tables,
    pub(super) programs: [(&'static str, u32); 2],
}

impl Watch for EbpfWatch {
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        let tuple = Tuple { source: probe.client, destination: probe.destination, protocol: TCP };
        let objects = self.programs.map(|(name, id)| format!("BPF program {name}, id {id}")).into();
        let mut matched = Matched { objects, ..Matched::default() };
        let Some(forth) = self.tables.connection(tuple).map_err(bpf("read back"))? else {
            // Not for a Service: two look-ups found nothing.
            return Ok(matched);
        };
        let plan = Plan::of(table, node.name, node.address);
        if let Some((id, port, frontend)) = plan.find(probe.destination) {
            let text = format!("{} is Service port {id}, {}", frontend.address, port.name);
            matched.rules.push(rule("services", plan.frontends(), text));
            matched.rules.extend(self.kept(port, id, probe)?);
            if let Some(target) = port.targets.get((forth.endpoint - port.first) as usize) {
                let text = format!("{} is {target}", forth.endpoint);
                matched.rules.push(rule("endpoints", plan.endpoints(), text));
            }
        }
        let of = self.tables.connections.entries().map_err(bpf("read back"))?.count();
        let of = u32::try_from(of).unwrap_or(u32::MAX);
        matched.rules.push(rule("connections", of, format!("{tuple} is {forth}")));
        let answers = forth.becomes.reverse();
        if let Some(back) = self.tables.connection(answers).map_err(bpf("read back"))? {
            matched.rules.push(rule("connections", of, format!("{answers} is {back}")));
        }
        matched.endpoint = Some(forth.becomes.destination);
        Ok(matched)
    }
}

impl EbpfWatch {
    /// The choice that a Service with affinity has kept for the client.
    fn kept(&self, port: &Port, id: u32, probe: &Probe) -> Result<Option<MatchedRule>, ProxyError> {
        if port.affinity.is_none() {
            return Ok(None);
        }
        let client = probe.client.ip();
        let kept = self
            .tables
            .affinities
            .get(entry::client(client, id).as_ref())
            .map_err(bpf("read back"))?;
        let of = self.tables.affinities.entries().map_err(bpf("read back"))?.count();
        Ok(kept.as_deref().and_then(entry::affinity).map(|(_, endpoint)| {
            let text = format!("{client} at Service port {id} stays with endpoint {endpoint}");
            rule("affinities", u32::try_from(of).unwrap_or(u32::MAX), text)
        }))
    }
}

fn rule(table: &str, of: u32, text: String) -> MatchedRule {
    MatchedRule {
        hook: "tc ingress".to_owned(),
        table: table.to_owned(),
        chain: String::new(),
        position: 0,
        of,
        walked_before: 0,
        text,
    }
}
