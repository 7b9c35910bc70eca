// SPDX-License-Identifier: Apache-2.0
//! A proxy mode on every node of a lab.

mod connection;
mod evidence;
mod met;

use std::time::Instant;

pub(super) use met::{Met, entries};

use super::Hosts;
use super::beds::Ground;
use super::measured::Measured;
use crate::lab::LabError;
use crate::net::addresses::SERVICES;
use crate::plan::{Mode, Proxy};
use crate::proxy::{Installed, NodeView, ProxyError, RuleText, ServiceTable};
use crate::relay::Relay;

/// A mode installed on every node; the entry node's first.
#[derive(Debug)]
pub(in crate::lab) struct Datapath {
    pub(in crate::lab) installed: Vec<Box<dyn Installed>>,
    /// The entry node's texts.
    pub(in crate::lab) texts: Vec<RuleText>,
    /// Rendering and applying on the entry node, milliseconds.
    pub(in crate::lab) install_ms: f64,
    /// Whose the rules are, where they are not our own rendering.
    pub(in crate::lab) note: Option<String>,
}

impl Datapath {
    /// Renders and applies the mode's rules, node by node: the entry node's time is not shared.
    pub(in crate::lab) fn install(
        ground: &Ground,
        lab: &Hosts,
        (mode, proxy): (Mode, Proxy),
        table: &ServiceTable,
    ) -> Result<Self, LabError> {
        let implementation = ground.implementation(mode, proxy, &lab.nodes()[0].netns)?;
        let mut made =
            Self { installed: Vec::new(), texts: Vec::new(), install_ms: 0.0, note: None };
        for index in 0..lab.nodes().len() {
            let node = view(ground, lab, index);
            let start = Instant::now();
            let texts = implementation.render(table, node.name, node.address);
            let rendered = start.elapsed();
            // A question of the lab's, which whoever programs a node does not ask.
            implementation.check_texts(node.netns, &texts)?;
            let start = Instant::now();
            made.installed.push(implementation.install(&node, table, &texts)?);
            if index == 0 {
                made.install_ms = (rendered + start.elapsed()).as_secs_f64() * 1e3;
                made.texts = texts;
                if let Some(applied) = made.installed[0].applied().cloned() {
                    made.install_ms = applied.took.as_secs_f64() * 1e3;
                    made.texts = applied.texts;
                    made.note = Some(applied.note);
                }
            }
        }
        Ok(made)
    }

    /// Tells each node's mode of what belongs to the other family's, so that neither takes it for a stranger's.
    pub(super) fn stand_beside(&mut self, other: &mut Self) {
        for (one, other) in self.installed.iter_mut().zip(&mut other.installed) {
            let (ours, theirs) = (one.programs(), other.programs());
            one.stand_beside(theirs);
            other.stand_beside(ours);
        }
    }

    /// Programs one Service more on the entry node, and says how long that took, milliseconds; `None`
    /// where there is no Service to be like. As many endpoints as a Service around the measured one
    /// has, at a cluster address and nowhere else.
    pub(super) fn add_one(
        &mut self,
        ground: &Ground,
        lab: &Hosts,
        measured: &Measured,
    ) -> Result<Option<f64>, ProxyError> {
        let Some(installed) = self.installed.first_mut() else { return Ok(None) };
        let mut table = measured.table.clone();
        let Some(like) = table.services.iter().rev().find(|service| service.ports.len() == 1)
        else {
            return Ok(None);
        };
        let mut more = like.clone();
        more.name = "one-more".to_owned();
        // The range's last address but one: tables are filled from its beginning.
        more.cluster_ip = SERVICES.of(lab.family()).last(2);
        more.load_balancer_ips.clear();
        more.ports.iter_mut().for_each(|port| port.node_port = None);
        table.services.push(more);
        let took = installed.time_add_last(&view(ground, lab, 0), &table)?;
        Ok(Some(took.as_secs_f64() * 1e3))
    }

    /// Takes the mode off hosts that outlive the case; from the others its rules go with their
    /// namespaces, and a proxy process ends before its host does. Returns what went wrong.
    pub(super) fn down(self, ground: &Ground, lab: &Hosts) -> Vec<String> {
        if lab.turn.is_none() {
            return Vec::new();
        }
        let removed = self.installed.into_iter().enumerate().map(|(index, installed)| {
            let node = view(ground, lab, index);
            installed.remove(&node).err().map(|error| error.to_string())
        });
        removed.flatten().collect()
    }

    /// Connections that the nodes' proxy processes joined since the last call.
    pub(super) fn take_relays(&mut self) -> Result<Vec<Relay>, ProxyError> {
        let mut all = Vec::new();
        for installed in &mut self.installed {
            all.extend(installed.take_relays()?);
        }
        Ok(all)
    }
}

pub(in crate::lab) fn view<'a>(ground: &'a Ground, lab: &'a Hosts, index: usize) -> NodeView<'a> {
    let node = &lab.nodes()[index];
    NodeView {
        netns: &node.netns,
        name: &node.name,
        address: node.address,
        nic: &node.nic,
        agent: &ground.program,
        scratch: ground.scratch.path(),
    }
}
