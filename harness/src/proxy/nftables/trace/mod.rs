// SPDX-License-Identifier: Apache-2.0
//! Which nf_tables rules a connection meets, by the kernel's own tracing: the rules of kube-proxy's
//! nftables mode have no counters.

mod event;
mod table;
mod texts;
mod walk;

use std::collections::{BTreeSet, HashMap};
use std::io;

use record::MatchedRule;

use super::super::iptables::{Backend, Hook};
use super::super::watch::{conntrack_entry, net, not_one};
use super::super::{Matched, NodeView, Probe, ProxyError, ServiceTable, Watch};
use super::kernel;
use super::proof::ask;
use crate::Unavailable;
use crate::net::addresses::family;
use crate::net::conntrack::{self, Tuple};
use crate::net::nfnetlink::{DATAGRAM_MAX, Message, Socket, Subject, messages};
use crate::net::{NetError, Netns};
use crate::plan::{IpFamily, Mode};
use event::Event;
use walk::{Match, Ruleset};

/// `NFNLGRP_NFTRACE`, the ninth group.
const GROUP: u32 = 1 << 8;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE`.
const TRACE: u16 = 10 << 8 | 17;
/// Room for events, bytes. One takes about 1 KiB of it, and a packet has some twenty.
const BUFFER: usize = 4 << 20;
/// Events read at most: those of a hundred packets.
const EVENTS_MAX: usize = 10_000;

/// First packets are being traced.
#[derive(Debug)]
pub(in crate::proxy) struct Tracing {
    mode: Mode,
    /// That of the tables that are traced.
    family: IpFamily,
    /// Owns the table that marks packets, which is there as long as this is.
    owner: Socket,
    events: Socket,
}

impl Tracing {
    /// Begins.
    ///
    /// # Errors
    /// The kernel cannot trace, or there are rules that it does not trace.
    pub(in crate::proxy) fn begin(mode: Mode, node: &NodeView<'_>) -> Result<Self, ProxyError> {
        let family = family(node.address);
        let legacy = Backend::Nft
            .of(family)
            .has_legacy_rules(node.netns)
            .map_err(|source| ProxyError::Tool { op: "look for", mode, source })?;
        if legacy {
            return Err(unwatchable(mode, "rules of nf_tables only", "rules of iptables-legacy"));
        }
        let opened = node.netns.run(move || {
            let (owner, events) = (Socket::open(0)?, Socket::open(GROUP)?);
            events.enlarge_receive_buffer(BUFFER)?;
            table::make(&owner, family)?;
            Ok((owner, events))
        });
        match opened {
            Ok((owner, events)) => Ok(Self { mode, family, owner, events }),
            Err(error) => {
                let error: io::Error = error;
                let need = "a kernel that traces packets and has tables owned by a socket \
                            (CONFIG_NF_TABLES, Linux 5.12)";
                Err(unwatchable(mode, need, error.to_string()))
            }
        }
    }

    /// Ends, and checks that the table is gone.
    fn end(self, node: &NodeView<'_>) -> Result<Vec<Event>, ProxyError> {
        let mode = self.mode;
        let read = self.read();
        let removed = table::remove(&self.owner, self.family);
        removed
            .map_err(NetError::os("remove", format!("table {} of {}", table::TABLE, node.name)))
            .map_err(net(mode))?;
        if super::tables(mode, node.netns, self.family)?.iter().any(|name| name == table::TABLE) {
            let (host, left) = (node.name.to_owned(), format!("table {}", table::TABLE));
            return Err(ProxyError::Left { mode, host, left });
        }
        let read = read.map_err(NetError::os("read", format!("traces of {}", node.name)));
        match read.map_err(net(mode))? {
            Read::Events(events) => Ok(events),
            Read::Foreign => {
                Err(unwatchable(mode, "tables of the family that is traced", "rules of another"))
            }
        }
    }

    /// A packet's events are in the socket when the packet has passed.
    fn read(&self) -> io::Result<Read> {
        let mut all = Vec::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Some(datagram) = self.events.take(&mut buffer)? {
            for message in messages(datagram) {
                let Message::Payload(payload) = message? else { continue };
                if payload.kind != TRACE {
                    continue;
                }
                if Subject::of(self.family) != payload.family {
                    return Ok(Read::Foreign);
                }
                all.extend(event::parse(payload.attributes)?);
                if all.len() > EVENTS_MAX {
                    return Err(io::Error::other(format!("more than {EVENTS_MAX} events")));
                }
            }
        }
        Ok(Read::Events(all))
    }

    /// Ends and says what the probe met.
    ///
    /// # Errors
    /// What was traced cannot be one connection's.
    pub(in crate::proxy) fn matched(
        self,
        node: &NodeView<'_>,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        let mode = self.mode;
        let events = self.end(node)?;
        let events = of(&events, probe).map_err(|what| not_one(mode, node, what))?;
        let family = family(node.address);
        let mut rules = Rules { netns: node.netns, family, chains: HashMap::new() };
        let walk = walk::walk(&events, &mut rules).map_err(|what| not_one(mode, node, what))?;
        let read = texts::read(node.netns, family, &visited(&walk.matches))
            .map_err(|source| ProxyError::Tool { op: "read back", mode, source })?;
        let (mut matched, mut objects) = (Vec::new(), Vec::new());
        for Match { mut rule, handle, to } in walk.matches {
            let Some(text) = read.get(&(rule.table.clone(), handle)) else {
                let what = format!("rule {handle} of chain {} is gone", rule.chain);
                return Err(not_one(mode, node, what));
            };
            rule.text.clone_from(text);
            let element = match to {
                Some(chain) => element(node, probe, &rule, handle, &chain)?,
                None => None,
            };
            matched.push(rule);
            matched.extend(element);
        }
        objects.extend(conntrack_entry(mode, node, probe)?);
        let tuple = Tuple::tcp(probe.client, probe.destination);
        let flow = conntrack::find(node.netns, tuple).map_err(net(mode))?;
        let endpoint = flow.and_then(|flow| flow.dnat());
        if endpoint != (probe.destination != probe.backend).then_some(probe.backend) {
            let what = format!(
                "connection tracking has {endpoint:?} as the endpoint, and {} answered",
                probe.backend
            );
            return Err(not_one(mode, node, what));
        }
        Ok(Matched { rules: matched, walked: walk.walked, objects, endpoint })
    }
}

enum Read {
    Events(Vec<Event>),
    /// There were events of tables that this code does not read.
    Foreign,
}

/// Mode nftables being watched.
#[derive(Debug)]
pub(super) struct NftablesWatch(pub(super) Tracing);

impl Watch for NftablesWatch {
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        _: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        self.0.matched(node, probe)
    }
}

/// Events of the probe's first packet in tables other than the one that marks packets. A trace's
/// id is made of the packet's place in memory and the device it came in by, so a packet that
/// passes a bridge's netfilter before the host's (`br_netfilter`) has two. Every base chain's
/// first event tells the addresses, though.
fn of(events: &[Event], probe: &Probe) -> Result<Vec<Event>, String> {
    let [asked, translated] =
        [probe.destination, probe.backend].map(|to| Tuple::tcp(probe.client, to));
    let marks = |event: &&Event| event.table == table::TABLE;
    let begun: BTreeSet<u32> = events.iter().filter(marks).map(|event| event.id).collect();
    let is_mine =
        |event: &&Event| event.packet.is_some_and(|packet| packet == asked || packet == translated);
    let mine: BTreeSet<u32> = events.iter().filter(is_mine).map(|event| event.id).collect();
    let known = |event: &&Event| begun.contains(&event.id) || mine.contains(&event.id);
    if let Some(lost) = events.iter().find(|event| !known(event)) {
        return Err(format!("the trace in chain {} has no beginning", lost.chain));
    }
    // The marking chain has two events, and addresses come with the first. A packet that was sent
    // again is another one, whose destination is settled already.
    let mut entered = events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.table == table::TABLE && event.packet == Some(asked));
    let Some((first, _)) = entered.next() else {
        return Err(format!("no first packet {asked} came by"));
    };
    let again = entered.next().map_or(events.len(), |(again, _)| again);
    let of_mine = events[first..again]
        .iter()
        .filter(|event| mine.contains(&event.id) && event.table != table::TABLE);
    Ok(of_mine.cloned().collect())
}

/// Tables with matched rules.
fn visited(matches: &[Match]) -> BTreeSet<String> {
    matches.iter().map(|one| one.rule.table.clone()).collect()
}

/// The element of a map that a rule looked the probe up in, if it did: that is how this mode finds
/// a Service.
fn element(
    node: &NodeView<'_>,
    probe: &Probe,
    by: &MatchedRule,
    handle: u64,
    to: &str,
) -> Result<Option<MatchedRule>, ProxyError> {
    let tcp = nix::libc::IPPROTO_TCP as u8;
    let (address, port) = (probe.destination.ip(), probe.destination.port());
    let frontend = (
        kernel::frontend_key(tcp, probe.destination),
        format!("{address} . tcp . {port} : goto {to}"),
    );
    let node_port = (kernel::node_port_key(tcp, port), format!("tcp . {port} : goto {to}"));
    let (table, chain, family) = (by.table.clone(), by.chain.clone(), family(address));
    let wanted = to.to_owned();
    let found = ask(node.netns, move || {
        let rules = kernel::rules(family, &table, &chain)?;
        let maps = rules.into_iter().find(|rule| rule.handle == handle).unwrap_or_default().maps;
        for map in maps {
            let (key, text) = match map.as_str() {
                "service-ips" | "no-endpoint-services" | "firewall-ips" => &frontend,
                "service-nodeports" | "no-endpoint-nodeports" => &node_port,
                _ => continue,
            };
            if kernel::target(family, &table, &map, key)?.as_ref() == Some(&wanted) {
                let of = kernel::elements(family, &table, &map)?;
                return Ok(Some((map, text.clone(), of)));
            }
        }
        Ok(None)
    })?;
    Ok(found.map(|(map, text, of)| MatchedRule {
        hook: by.hook.clone(),
        table: map,
        chain: String::new(),
        position: 0,
        of,
        walked_before: by.walked_before,
        text,
    }))
}

/// The node's rules, asked chain by chain.
struct Rules<'a> {
    netns: &'a Netns,
    family: IpFamily,
    chains: HashMap<(String, String), Vec<u64>>,
}

impl Ruleset for Rules<'_> {
    fn handles(&mut self, table: &str, chain: &str) -> Result<Vec<u64>, String> {
        let key = (table.to_owned(), chain.to_owned());
        if let Some(known) = self.chains.get(&key) {
            return Ok(known.clone());
        }
        let ((table, chain), family) = (key.clone(), self.family);
        let rules = ask(self.netns, move || kernel::rules(family, &table, &chain));
        let rules = rules.map_err(|error| error.to_string())?;
        let handles: Vec<u64> = rules.iter().map(|rule| rule.handle).collect();
        self.chains.insert(key, handles.clone());
        Ok(handles)
    }

    fn hook(&mut self, table: &str, chain: &str) -> Result<Option<Hook>, String> {
        let (table, chain, family) = (table.to_owned(), chain.to_owned(), self.family);
        let hook = ask(self.netns, move || kernel::hook(family, &table, &chain));
        let hook = hook.map_err(|error| error.to_string())?;
        Ok(hook.and_then(|hook| Hook::from_number(hook.number)))
    }
}

fn unwatchable(mode: Mode, need: &str, found: impl Into<String>) -> ProxyError {
    let remedy = "boot a kernel that has it, or remove what the node has besides";
    ProxyError::Unwatchable { mode, missing: Unavailable::new(need, found, remedy) }
}
