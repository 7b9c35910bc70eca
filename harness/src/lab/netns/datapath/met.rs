// SPDX-License-Identifier: Apache-2.0
//! What a connection meets on nodes: rules and connection tracking.

use std::collections::HashSet;
use std::net::SocketAddr;

use nix::libc::{IPPROTO_TCP, IPPROTO_UDP};

use super::connection::{flow, made, source};
use super::{Datapath, view};
use crate::capture::Path;
use crate::lab::LabError;
use crate::lab::netns::beds::Ground;
use crate::lab::netns::measured::Measured;
use crate::lab::netns::road::Ask;
use crate::lab::netns::{Hosts, road};
use crate::net::conntrack::{self, Tuple};
use crate::plan::{Case, CniKind, Place};
use crate::proxy::{Matched, Probe, ProxyError};

/// First of the probe connections that are watched; those before are the proofs'.
const MET_FIRST: u16 = 2;
/// First of those that are made again.
const MET_AGAIN: u16 = 70;
/// Connections made where others may begin beside them.
const MET_TRIES: u16 = 8;
/// Those made on hosts of our own. Nothing is sent there but by their kernels, which report the groups
/// they listen to (IGMP, RFC 3376, section 4.2): a report that is half counted cannot be told apart.
const MET_TRIES_ALONE: u16 = 3;

/// What one connection met, or several in turn.
#[derive(Debug, Default)]
pub(in super::super) struct Met {
    pub(in super::super) matched: Matched,
    /// Rules tested on the node of the pod that answers, where that is another; `None` where that node's own
    /// connections were among what was seen.
    pub(in super::super) walked_beyond: Option<u64>,
    /// Entries of connection tracking that it made on all nodes, TCP's only.
    pub(in super::super) conntrack_entries: u64,
}

impl Datapath {
    /// What a connection of the harness's own meets: the same for every connection of the case that
    /// is sent to the same endpoint. `nth` counts such connections, from 0.
    ///
    /// Where hosts have a life of their own, a connection of theirs may begin beside it; then another
    /// one is made, a few times.
    pub(in super::super) fn met(
        &mut self,
        ground: &Ground,
        lab: &Hosts,
        case: &Case,
        measured: &Measured,
        nth: u16,
    ) -> Result<Met, LabError> {
        let mut all = Met { walked_beyond: Some(0), ..Met::default() };
        for ask in road::asks(lab, case, measured) {
            let Met { matched, walked_beyond, conntrack_entries } =
                self.met_by(ground, lab, case, measured, ask, nth)?;
            all.conntrack_entries += conntrack_entries;
            all.walked_beyond = all.walked_beyond.zip(walked_beyond).map(|(a, b)| a + b);
            all.matched.walked += matched.walked;
            all.matched.rules.extend(matched.rules);
            all.matched.objects.extend(matched.objects);
            // The last one leads to the pod that answers.
            all.matched.endpoint = matched.endpoint;
        }
        Ok(all)
    }

    fn met_by(
        &mut self,
        ground: &Ground,
        lab: &Hosts,
        case: &Case,
        measured: &Measured,
        ask: Ask,
        nth: u16,
    ) -> Result<Met, LabError> {
        let mut tries = if self.alone(lab) { MET_TRIES_ALONE } else { MET_TRIES };
        loop {
            tries -= 1;
            let port =
                if tries == 0 { MET_FIRST + nth } else { MET_AGAIN + nth * MET_TRIES + tries };
            match self.met_once(ground, lab, case, measured, ask, port) {
                Err(LabError::Proxy(ProxyError::NotOne { .. })) if tries > 0 => {}
                outcome => return outcome,
            }
        }
    }

    fn met_once(
        &mut self,
        ground: &Ground,
        lab: &Hosts,
        case: &Case,
        measured: &Measured,
        ask: Ask,
        port: u16,
    ) -> Result<Met, LabError> {
        let client = source(lab, ask.from, port);
        let before = tracked(lab)?;
        let entry = view(ground, lab, 0);
        // What passes the node's stack by meets none of its rules, and a watch would wait for it.
        let past = Path::of(case.mode, lab.walked, road::walked(case)).passes_entry_by();
        let watch = if past { None } else { Some(self.installed[0].watch(&entry)?) };
        // A mode's rules on the node of the pod that answers, where its stack sees the packet.
        let beyond = (case.route.place == Place::Remote && ask.accepts.is_none())
            .then(|| view(ground, lab, road::REMOTE_NODE))
            .filter(|_| !past && lab.walked != CniKind::Ipvlan);
        let there = self.installed.get_mut(road::REMOTE_NODE).zip(beyond.as_ref());
        let watch_there = there.map(|(installed, node)| installed.watch(node)).transpose()?;
        let (backend, _open) = made(ground, lab, case, measured, ask, client)?;
        let Ask { destination, service, .. } = ask;
        let probe = Probe { client, destination, backend, service: (service, 0) };
        let matched = match watch {
            Some(watch) => watch.matched(&entry, &measured.table, &probe)?,
            None => Matched::default(),
        };
        let walked_beyond = match (beyond, watch_there) {
            (None, _) => Some(0),
            // Rules that are not watched are not none.
            (Some(_), None) => None,
            (Some(node), Some(watch)) => {
                // It comes as the entry node sent it: from there, where that masquerades.
                let client = flow(lab, client, destination)?;
                let client = client.map_or(probe.client, |flow| flow.reply.destination);
                let probe = Probe { client, destination: backend, ..probe };
                match watch.matched(&node, &measured.table, &probe) {
                    Ok(matched) => Some(matched.walked),
                    Err(ProxyError::NotOne { .. }) => None,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let after = tracked(lab)?;
        // Beside connections of the hosts' own, those that follow from this one's source: behind a
        // masquerade the next node's entry has another.
        let made = match self.alone(lab) {
            false => entries(lab, vec![client])?.len(),
            true => after.difference(&before).count(),
        };
        Ok(Met { matched, walked_beyond, conntrack_entries: made as u64 })
    }

    /// Whether nothing makes connections on the hosts but what is told to.
    fn alone(&self, lab: &Hosts) -> bool {
        lab.turn.is_none() && !self.installed.iter().any(|installed| installed.talks())
    }
}

/// TCP connections that the nodes' connection tracking holds: node and original addresses. What a
/// tunnel adds is left out: the source port of VXLAN's packets is a hash of those inside (RFC 7348,
/// section 5), so that how many entries these have is chance.
fn tracked(lab: &Hosts) -> Result<HashSet<(usize, Tuple)>, LabError> {
    let mut all = HashSet::new();
    for (index, node) in lab.nodes().iter().enumerate() {
        let flows = conntrack::dump(&node.netns, conntrack::Filter::default())?;
        let of_tcp = flows.into_iter().filter(|flow| flow.original.protocol == IPPROTO_TCP as u8);
        all.extend(of_tcp.map(|flow| (index, flow.original)));
    }
    Ok(all)
}

/// Entries of connection tracking, on any node, of connections that have these sources where they are made,
/// and whatever addresses behind a translation.
pub(in super::super) fn entries(
    lab: &Hosts,
    mut sources: Vec<SocketAddr>,
) -> Result<Vec<String>, LabError> {
    let mut found = Vec::new();
    for node in lab.nodes() {
        for flow in conntrack::dump(&node.netns, conntrack::Filter::default())? {
            if sources.contains(&flow.original.source) {
                sources.push(flow.reply.destination);
                let udp = i32::from(flow.original.protocol) == IPPROTO_UDP;
                let protocol = if udp { "udp" } else { "tcp" };
                found.push(format!(
                    "{}: {protocol} {}, answered by {}",
                    node.name, flow.original, flow.reply
                ));
            }
        }
    }
    Ok(found)
}
