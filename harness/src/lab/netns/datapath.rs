// SPDX-License-Identifier: Apache-2.0
//! A proxy mode on every node of a lab: installed, proved, followed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use nix::libc::{IPPROTO_TCP, IPPROTO_UDP};

use super::beds::Ground;
use super::greeting::{Greeting, Manner, greet, hold, knock};
use super::measured::Measured;
use super::road::Ask;
use super::{Balancer, Hosts, ingress, road};
use crate::capture::Path;
use crate::lab::LabError;
use crate::net::addresses::SERVICES;
use crate::net::conntrack::{self, Flow, Tuple};
use crate::plan::{Case, CniKind, IngressTls, Mode, Place, Proxy, Road};
use crate::proxy::{Installed, Matched, NodeView, Probe, ProxyError, RuleText, ServiceTable};
use crate::relay::Relay;

/// A host of no rule.
const UNKNOWN_HOST: &str = "nobody.example";
/// First of the probe connections that are watched; those before are the proofs'.
const MET_FIRST: u16 = 2;
/// First of those that are made again.
const MET_AGAIN: u16 = 70;
/// Connections made where others may begin beside them.
const MET_TRIES: u16 = 8;
/// Those made on hosts of our own. Nothing is sent there but by their kernels, which report the groups
/// they listen to (IGMP, RFC 3376, section 4.2): a report that is half counted cannot be told apart.
const MET_TRIES_ALONE: u16 = 3;

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

    /// Makes a connection by the case's own road, and one by the Service's NodePort where the road
    /// passes the Service by or another host comes before it, and shows that the mode carried what it had to carry.
    pub(super) fn prove(
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

    /// What a connection of the harness's own meets: the same for every connection of the case that
    /// is sent to the same endpoint. `nth` counts such connections, from 0.
    ///
    /// Where hosts have a life of their own, a connection of theirs may begin beside it; then another
    /// one is made, a few times.
    pub(super) fn met(
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

/// Whether a connection to there has to begin with the PROXY protocol's preamble: a load balancer says it
/// itself.
fn preamble(lab: &Hosts, destination: SocketAddr) -> bool {
    lab.proxied && destination != Balancer::address(lab.family())
}

/// Whether the ingress controller of a case is asked over HTTP/2 without TLS. Pods tell the versions apart.
fn by_http2(ground: &Ground, case: &Case) -> bool {
    let workload = &ground.profile.workload[&case.workload];
    case.route.road.is_ingress() && ingress::speaks_http2(workload.protocol, workload.tls.is_some())
}

/// Makes a connection, and tells who accepted it. The ingress controller is asked for a host that it does not
/// know, and makes none of its own then.
fn made(
    ground: &Ground,
    lab: &Hosts,
    case: &Case,
    measured: &Measured,
    ask: Ask,
    client: SocketAddr,
) -> Result<(SocketAddr, Greeting), LabError> {
    let Ask { from, destination, accepts, tls, .. } = ask;
    let certificates = ground.certificates_for(case)?.filter(|_| tls);
    let host = road::origin(lab, from);
    if let Some(accepts) = accepts {
        if certificates.is_some() && ground.profile.lab.ingress_tls == IngressTls::Passthrough {
            // It answers nobody itself.
            return Ok((accepts, hold(host, client, destination)?));
        }
        let (asked, name) = (UNKNOWN_HOST, ground.name(case.route.road));
        let http2 = by_http2(ground, case);
        let manner = Manner { asked, name, preamble: false, http2, certificates };
        return Ok((accepts, knock(host, client, destination, manner)?));
    }
    // Past the controller.
    let name = crate::certificates::NAME;
    let preamble = preamble(lab, destination);
    let manner = Manner { asked: ingress::HOST, name, preamble, http2: false, certificates };
    let greeting = greet(host, client, destination, manner)?;
    let answering = lab.pods().iter().find(|pod| pod.name == greeting.pod);
    let Some(pod) = answering else {
        return Err(LabError::Unreachable {
            client: client.to_string(),
            target: destination.to_string(),
            found: format!("an answer by `{}`, which is no pod of the lab", greeting.pod),
        });
    };
    Ok((SocketAddr::new(pod.address, measured.port), greeting))
}

/// What one connection met, or several in turn.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) matched: Matched,
    /// Rules tested on the node of the pod that answers, where that is another; `None` where that node's own
    /// connections were among what was seen.
    pub(super) walked_beyond: Option<u64>,
    /// Entries of connection tracking that it made on all nodes, TCP's only.
    pub(super) conntrack_entries: u64,
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
pub(super) fn entries(lab: &Hosts, mut sources: Vec<SocketAddr>) -> Result<Vec<String>, LabError> {
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

/// Source of the n-th probe connection: ports that no load uses.
fn source(lab: &Hosts, road: Road, nth: u16) -> SocketAddr {
    let address = road::sources(lab, road).addresses[0];
    SocketAddr::new(address, road::PROBE_PORT_FIRST + nth)
}

fn flow(lab: &Hosts, client: SocketAddr, to: SocketAddr) -> Result<Option<Flow>, LabError> {
    Ok(conntrack::find(&lab.nodes()[0].netns, Tuple::tcp(client, to))?)
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
