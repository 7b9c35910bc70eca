// SPDX-License-Identifier: Apache-2.0
//! A case's probes on one node.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::agent::Refusal;
use super::node::Node;
use super::protocol::{Block, FLOWS_MAX, LEASE_MS_MAX, On, Place};
use super::sightings::{PACKETS_MAX, Sightings};
use crate::Unavailable;
use crate::bpf::{Link, StatsOn};
use crate::capture::bpf::{Placement, ProbePoint, Probes};
use crate::capture::{Cost, Path, Site, TapInfo};
use crate::net::conntrack;
use crate::plan::Road;

/// Whether an accepted connection answers with the type of service it was opened with: what probes
/// know followed connections by on the way back.
const REFLECT_TOS: &str = "net/ipv4/tcp_reflect_tos";

/// Probes, on or off.
#[derive(Debug)]
pub(super) struct Placed {
    place: Place,
    flows: HashSet<SocketAddr>,
    placement: Placement,
    on: Option<Lease>,
}

/// Probes that are on, until when.
#[derive(Debug)]
struct Lease {
    until: Instant,
    counting: Option<(StatsOn, Cost)>,
    /// Linked while this lives.
    _links: Vec<Rc<Link>>,
}

impl Placed {
    /// Chooses the probes. The case's servers, which are the asker's own, are told to answer with the
    /// mark they are asked with.
    pub(super) fn new(probes: &Probes, node: &mut Node, place: Place) -> Result<Self, Refusal> {
        if place.flows.len() > FLOWS_MAX {
            let found =
                format!("failed to follow {} flows: more than {FLOWS_MAX}", place.flows.len());
            return Err(Refusal::Failed(found));
        }
        let named: Vec<_> = place.pods.iter().map(|pod| (pod.address, pod.name.clone())).collect();
        node.find(&named)?;
        for server in place.pods.iter().filter(|pod| !pod.is_client) {
            let absent = node.pod(server.address)?.write_sysctls([(REFLECT_TOS, "1")])?;
            if !absent.is_empty() {
                return Err(Unavailable::new(
                    "a kernel with net.ipv4.tcp_reflect_tos (Linux 5.10)",
                    "one without it",
                    "a newer kernel",
                )
                .into());
            }
        }
        let path = Path::of(place.mode, place.cni, place.route);
        let placement = Placement::new(probes, &[path], &points(&place, node)?, false)?;
        let flows = place.flows.iter().copied().collect();
        Ok(Self { place, flows, placement, on: None })
    }

    /// The probes.
    pub(super) fn taps(&self) -> &[TapInfo] {
        self.placement.infos()
    }

    /// Switches them on.
    pub(super) fn on(&mut self, probes: &Probes, node: &Node, on: On) -> Result<(), Refusal> {
        self.on = None;
        if on.number != self.place.number {
            let (asked, there) = (on.number, self.place.number);
            let found =
                format!("failed to switch on probes {asked}: those of {there} are in place");
            return Err(Refusal::Failed(found));
        }
        if on.lease_ms > LEASE_MS_MAX {
            let found =
                format!("failed to follow for {} ms: more than {LEASE_MS_MAX}", on.lease_ms);
            return Err(Refusal::Failed(found));
        }
        // Events of the block before.
        probes.drain()?;
        let mut links = self.placement.link(probes, &points(&self.place, node)?)?;
        let counting = match on.counted {
            true => {
                let client = self.place.pods.iter().find(|pod| pod.is_client);
                if let Some(client) = client {
                    links.push(Rc::new(
                        probes.link_empty(node.pod(client.address)?, &client.device)?,
                    ));
                }
                let counting = StatsOn::begin()?;
                Some((counting, probes.cost()?))
            }
            false => None,
        };
        let until = Instant::now() + Duration::from_millis(on.lease_ms);
        self.on = Some(Lease { until, counting, _links: links });
        Ok(())
    }

    /// How long they stay on, if they are.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(self.on.as_ref()?.until.saturating_duration_since(Instant::now()))
    }

    /// Switches them off, whatever they saw.
    pub(super) fn end(&mut self) {
        self.on = None;
    }

    /// Switches them off and says what they saw.
    pub(super) fn off(&mut self, probes: &Probes, node: &Node) -> Result<Sightings, Refusal> {
        let lease = self.on.take().ok_or_else(|| {
            let why = "they are off: their time was over, or they were never on";
            Refusal::Failed(format!("failed to hear the probes: {why}"))
        })?;
        let capture = probes.drain()?;
        let cost = match &lease.counting {
            Some((_, before)) => Some(probes.cost()? - *before),
            None => None,
        };
        drop(lease);
        let mut packets = self.placement.packets(&capture.events);
        packets.retain(|packet| {
            let ends = [packet.segment.src, packet.segment.dst];
            ends.iter().any(|end| self.flows.contains(end))
        });
        let beyond = packets.len().saturating_sub(PACKETS_MAX);
        packets.truncate(PACKETS_MAX);
        // A node without connection tracking has neither.
        let tracked = |netns| conntrack::count(netns).ok().zip(conntrack::max(netns).ok());
        let conntrack = node.netns().ok().and_then(tracked);
        let block = Block {
            events: capture.events.len() as u64,
            dropped: capture.dropped + beyond as u64,
            reader_ns: capture.reader_ns,
            cost,
            conntrack,
        };
        Ok(Sightings { block, packets })
    }
}

/// Sites on the node that a case's requests may pass.
fn points<'a>(place: &'a Place, node: &'a Node) -> Result<Vec<ProbePoint<'a>>, Refusal> {
    let from_pod = place.route.road == Road::Clusterip;
    let mut points = Vec::new();
    for pod in &place.pods {
        let netns = node.pod(pod.address)?;
        let at = |part, device, site| ProbePoint { netns, node: part, device, site };
        let device = Some(pod.device.as_str());
        if pod.is_client {
            points.push(at(None, device, Site::ClientEth));
        } else {
            points.push(at(place.part, device, Site::PodEth));
            points.push(at(place.part, None, Site::Readable));
        }
    }
    let Some(part) = place.part else { return Ok(points) };
    let netns = node.netns()?;
    let at = |device, site| ProbePoint { netns, node: Some(part), device, site };
    points.push(at(Some(&place.nic), Site::Nic));
    points.extend(place.bridge.as_deref().map(|bridge| at(Some(bridge), Site::Bridge)));
    // A road from outside begins beyond the client's own node.
    let passed = place.pods.iter().filter(|pod| from_pod || !pod.is_client);
    points.extend(passed.filter_map(|pod| Some(at(Some(pod.veth.as_deref()?), Site::PodVeth))));
    points.extend(Site::HOOKS.map(|site| at(None, site)));
    Ok(points)
}
