// SPDX-License-Identifier: Apache-2.0
//! Which iptables rules a connection meets, from their counters before and after it.
//!
//! A packet's walk is replayed from the rules' text; where that does not decide (chance, memory),
//! the rule's counter does. In the end all that was counted has to be explained by the first
//! packets of the connections that began meanwhile, of which connection tracking tells.

mod condition;
mod packet;
mod replay;
mod save;
mod sets;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};

pub(crate) use self::packet::{Carrier, Hook};
use self::replay::Replay;
pub(crate) use self::replay::Walk;
use self::save::Save;
use self::sets::Sets;
use super::super::nftables;
use super::super::watch::{conntrack_entry, net, not_one};
use super::super::{Matched, NodeView, Probe, ProxyError, ServiceTable, Watch};
use super::backend::Backend;
use super::tables::Tables;
use crate::Unavailable;
use crate::net::Netns;
use crate::net::addresses::word_of_nft;
use crate::net::conntrack::{self, EventKind, Events, Flow, SubscribeOptions, Tuple};
use crate::plan::Mode;
use std::net::Ipv4Addr;

/// Events of one connection and of the tunnels it takes are a few; this is room for a thousand.
const EVENTS: SubscribeOptions = SubscribeOptions { events_max: 1_000, buffer_bytes: 1 << 20 };

/// Connections at either end of a watch that may have been told of and not counted.
const UNCOUNTED_MAX: usize = 6;
/// Connections that an error names.
const BEGUN_SHOWN: usize = 8;

/// Counters are being watched.
#[derive(Debug)]
pub(crate) struct Counting {
    mode: Mode,
    tables: Tables,
    before: Save,
    events: Events,
}

/// What was counted, and the connections that began meanwhile.
#[derive(Debug)]
pub(crate) struct Counted {
    mode: Mode,
    counted: Save,
    flows: Vec<Flow>,
}

impl Counting {
    /// Begins.
    ///
    /// # Errors
    /// The tool says no, or there are rules that it does not show.
    pub(crate) fn begin(
        mode: Mode,
        tables: Tables,
        node: &NodeView<'_>,
    ) -> Result<Self, ProxyError> {
        expect_only_iptables(mode, tables, node.netns)?;
        // Events for longer than counters: what was counted has then been told of.
        let events = Events::subscribe(node.netns, EVENTS).map_err(net(mode))?;
        let before = look(mode, tables, node.netns)?;
        Ok(Self { mode, tables, before, events })
    }

    /// Ends.
    ///
    /// # Errors
    /// The tool says no, or the rules have changed.
    pub(crate) fn end(self, node: &NodeView<'_>) -> Result<Counted, ProxyError> {
        let mode = self.mode;
        let after = look(mode, self.tables, node.netns)?;
        let recorded = self.events.finish().map_err(net(mode))?;
        if recorded.lost + recorded.surplus > 0 {
            let what = format!("{} connections began", recorded.events.len());
            return Err(not_one(mode, node, what));
        }
        let new = recorded.events.iter().filter(|event| event.kind == EventKind::New);
        let flows = new.map(|event| event.flow).collect();
        let Some(counted) = after.since(&self.before) else {
            return Err(not_one(mode, node, "the rules are not what they were".to_owned()));
        };
        Ok(Counted { mode, counted, flows })
    }

    /// Ends and says what the probe met on its way through table nat and the stack.
    ///
    /// # Errors
    /// What was counted cannot be one connection's.
    pub(crate) fn matched(self, node: &NodeView<'_>, probe: &Probe) -> Result<Matched, ProxyError> {
        let mode = self.mode;
        let counted = self.end(node)?;
        let walks = counted.walks(node, probe, |_| Carrier::Stack, |_| false)?;
        let [(flow, walk)] = &walks[..] else {
            return Err(not_one(mode, node, "no walk".to_owned()));
        };
        let endpoint = flow.dnat();
        // The rule, the kernel's entry and the pod itself have to agree on who was chosen.
        let by_rule = walk.translated_to.as_deref();
        let by_pod = (probe.destination != probe.backend).then_some(probe.backend);
        if endpoint != by_pod || by_rule.map(str::to_owned) != by_pod.map(|to| to.to_string()) {
            let what = format!(
                "the rules chose {by_rule:?}, connection tracking has {endpoint:?}, and {} answered",
                probe.backend
            );
            return Err(not_one(mode, node, what));
        }
        let (rules, walked) = (walk.rules.clone(), walk.walked);
        let objects = conntrack_entry(mode, node, probe)?.into_iter().collect();
        Ok(Matched { rules, walked, objects, endpoint })
    }
}

impl Counted {
    /// Replays the first packets of the connections that began, and returns those of the ones
    /// that were asked for: `wanted` says which, `carrier` who carries them. The first is always
    /// the probe's.
    ///
    /// # Errors
    /// The counters say otherwise.
    pub(crate) fn walks(
        mut self,
        node: &NodeView<'_>,
        probe: &Probe,
        carrier: impl Fn(&Flow) -> Carrier,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Vec<(Flow, Walk)>, ProxyError> {
        let tuple = Tuple::tcp(probe.client, probe.destination);
        let tracked = self.flows.iter().any(|flow| flow.original == tuple);
        if !tracked {
            self.flows.insert(0, untold(self.mode, node, tuple)?);
        }
        let needed = |flow: &Flow| flow.original == tuple || wanted(flow);
        let (sets, local) = (Sets::new(node.netns), RefCell::new(HashMap::new()));
        let is_local = |address: IpAddr| {
            *local.borrow_mut().entry(address).or_insert_with(|| is_local(node.netns, address))
        };
        let replay = |flows: &[Flow]| {
            let mut replay = Replay::new(&self.counted, &sets);
            let mut walks = Vec::new();
            for flow in flows {
                let way = packet::way(flow, tracked, carrier(flow), &is_local);
                let walk =
                    replay.walk(&way).map_err(|what| format!("{}: {what}", flow.original))?;
                if needed(flow) {
                    walks.push((*flow, walk));
                }
            }
            replay.settle()?;
            walks.sort_by_key(|(flow, _)| flow.original != tuple);
            Ok(walks)
        };
        let mut outcome = Err(String::new());
        for flows in windows(&self.flows, needed) {
            let this = replay(flows);
            match this {
                Ok(walks) => return Ok(walks),
                // All connections are the likeliest, so what is wrong with them is told.
                Err(_) if flows.len() < self.flows.len() => {}
                error => outcome = error,
            }
        }
        outcome.map_err(|what| {
            let began = self.flows.iter().take(BEGUN_SHOWN).map(|flow| flow.original.to_string());
            let began: Vec<String> = began.collect();
            not_one(self.mode, node, format!("{what}; began: {}", began.join(", ")))
        })
    }
}

/// Connections that may have been counted: events are heard for a little longer than counters
/// count, so the first and the last of those that are not needed may not have been. All of them
/// come first, then ever fewer.
fn windows(flows: &[Flow], needed: impl Fn(&Flow) -> bool) -> Vec<&[Flow]> {
    let before = flows.iter().take_while(|flow| !needed(flow)).count();
    let after = flows.iter().rev().take_while(|flow| !needed(flow)).count();
    let (before, after) = (before.min(UNCOUNTED_MAX), after.min(UNCOUNTED_MAX));
    let mut windows: Vec<&[Flow]> = (0..=before)
        .flat_map(|front| (0..=after).map(move |back| (front, back)))
        .filter_map(|(front, back)| flows.get(front..flows.len() - back))
        .filter(|window| !window.is_empty())
        .collect();
    windows.sort_by_key(|window| std::cmp::Reverse(window.len()));
    windows
}

/// Mode iptables being watched.
#[derive(Debug)]
pub(super) struct IptablesWatch(pub(super) Counting);

impl Watch for IptablesWatch {
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        _: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        self.0.matched(node, probe)
    }
}

/// All rules with their counters.
fn look(mode: Mode, tables: Tables, netns: &Netns) -> Result<Save, ProxyError> {
    let text = tables.save_counters(netns);
    let text = text.map_err(|source| ProxyError::Tool { op: "read back", mode, source })?;
    Save::parse(&text).map_err(|garbled| ProxyError::Unsupported {
        mode,
        what: format!("iptables-{}-save wrote what is not understood, {garbled}", tables.word()),
    })
}

/// Rules of nf_tables that are not iptables' have no counters; and of two backends' rules only one
/// backend's are read.
fn expect_only_iptables(mode: Mode, tables: Tables, netns: &Netns) -> Result<(), ProxyError> {
    let own = |table: &String| {
        tables.backend == Backend::Nft
            && ["raw", "mangle", "nat", "filter", "security"].contains(&table.as_str())
    };
    let there = nftables::tables(mode, netns, tables.family)?;
    let mut strange: Vec<String> = there
        .into_iter()
        .filter(|table| !own(table))
        .map(|table| format!("nf_tables table {} {table}", word_of_nft(tables.family)))
        .collect();
    let legacy = || tables.has_legacy_rules(netns);
    let failed = |source| ProxyError::Tool { op: "read back", mode, source };
    if tables.backend == Backend::Nft && legacy().map_err(failed)? {
        strange.push("rules of iptables-legacy".to_owned());
    }
    if strange.is_empty() {
        return Ok(());
    }
    Err(ProxyError::Unwatchable {
        mode,
        missing: Unavailable::new(
            format!("a node whose rules are all of iptables-{}", tables.word()),
            strange.join(", "),
            "remove them",
        ),
    })
}

/// A connection that no event told of: either its entry is older, or nothing tracks connections.
fn untold(mode: Mode, node: &NodeView<'_>, tuple: Tuple) -> Result<Flow, ProxyError> {
    if conntrack::find(node.netns, tuple).map_err(net(mode))?.is_some() {
        return Err(not_one(mode, node, format!("{tuple} began before it was watched")));
    }
    let reply = Tuple { source: tuple.destination, destination: tuple.source, ..tuple };
    Ok(Flow { original: tuple, reply, ..Flow::default() })
}

/// Whether an address is the node's, asked as match `addrtype` asks: by the local routing table,
/// which `bind` looks it up in too (`inet_addr_valid_or_nonlocal`, include/net/inet_sock.h).
fn is_local(netns: &Netns, address: IpAddr) -> bool {
    // One may bind to these, but their type is another.
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return false;
    }
    netns.run(move || match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    })
}
