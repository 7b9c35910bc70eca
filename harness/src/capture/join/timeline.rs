// SPDX-License-Identifier: Apache-2.0
//! The points in time of a request, in order, and which of them the taps at hand can see.

use std::net::IpAddr;

use record::Leg;

use super::connections::Connection;
use crate::capture::packet::{Direction, Packet};
use crate::capture::path::{Hop, Host, Path};
use crate::capture::{Site, TapInfo};

/// Where a point's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A tap; the hop's index in the path.
    Hop(u16),
    /// The client's write of the request.
    Sent,
    /// The server's read of the request.
    Read,
    /// The server's read of the request's last bytes.
    Received,
    /// The server's write of the response.
    Written,
    /// The client's first read of the response.
    FirstByte,
    /// The client's last read of the response.
    LastByte,
}

/// A point in time of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) source: Source,
    /// Stage that ends here.
    pub(super) stage: &'static str,
    pub(super) leg: Leg,
    /// Whether a request is joined without it.
    pub(super) optional: bool,
    /// For messages and walks.
    pub(super) label: String,
}

/// All points of a path, in order. Hops without a tap are left out, and what ends there is merged
/// into the next stage.
pub(super) fn points(path: &Path, hops: &HopTable) -> Vec<Point> {
    let point = |source, stage, leg, optional, label: &str| Point {
        source,
        stage,
        leg,
        optional,
        label: label.to_owned(),
    };
    let of_leg = |leg| {
        path.hops().iter().enumerate().filter(move |(_, hop)| hop.leg == leg).map(
            move |(index, hop)| {
                let optional = hop.optional || !hops.tapped(index);
                point(Source::Hop(index as u16), hop.stage, leg, optional, &hop.to_string())
            },
        )
    };
    let (request, response) = (Leg::Request, Leg::Response);
    let mut points = vec![point(Source::Sent, "", request, false, "request sent by client")];
    points.extend(of_leg(request));
    points.push(point(Source::Read, "wakeup", request, true, "request read by server"));
    if path.has_body() {
        let label = "whole request read by server";
        points.push(point(Source::Received, "upload", request, true, label));
    }
    points.push(point(Source::Written, "app", request, true, "response written by server"));
    points.extend(of_leg(response));
    points.push(point(
        Source::FirstByte,
        "client_rx",
        response,
        false,
        "first byte read by client",
    ));
    points.push(point(Source::LastByte, "body", response, false, "last byte read by client"));
    points
}

/// From a packet's tap, direction and encapsulation to its hop.
#[derive(Debug)]
pub(super) struct HopTable {
    hops: Vec<Hop>,
    sites: Vec<Site>,
    /// By tap: the node it is on.
    nodes: Vec<Option<usize>>,
    /// Nodes that connections enter by, indices.
    entries: Vec<usize>,
    /// By entry node, then by tap, then by part and [`slot`].
    tables: Vec<Vec<Vec<Option<u16>>>>,
    /// First part that is found from the server's end.
    pub(super) beyond: Option<u8>,
    /// First part behind a reverse proxy, and the proxy's address.
    pub(super) ingress: Option<u8>,
    /// Whether TLS ends there.
    pub(super) ends_tls: bool,
    ingress_address: Option<IpAddr>,
    tapped: Vec<bool>,
    /// By tap: the tap that knows a connection's addresses here. Its own, but of a socket that of
    /// the device before it: no SYN is ever readable.
    addresses: Vec<u16>,
    /// By part: where its connections are first seen.
    origins: Vec<u16>,
    /// Where the entry node and the pod receive a SYN.
    pub(super) first_packet: Option<(u16, u16)>,
}

/// Slots of a part.
const SLOTS: usize = 8;

fn slot(part: u8, direction: Direction, encapsulated: bool, leg: Leg) -> usize {
    usize::from(part) * SLOTS
        + usize::from(direction == Direction::Out) * 4
        + usize::from(encapsulated) * 2
        + usize::from(leg == Leg::Response)
}

impl HopTable {
    /// `None` when connections would not be seen to open: there is no tap at the client's
    /// interface, or none where the own connections of a process that joins two leave its host.
    pub(super) fn new(path: &Path, taps: &[TapInfo]) -> Option<Self> {
        let hops = path.hops();
        let mut tapped = vec![false; hops.len()];
        let mut tables = Vec::new();
        for &entry in path.entries() {
            let mut table = vec![vec![None; SLOTS * usize::from(path.parts())]; taps.len()];
            for (row, tap) in table.iter_mut().zip(taps) {
                for (index, hop) in hops.iter().enumerate() {
                    let host = path.host_of(tap, entry);
                    let here = Some(hop.host) == host && hop.site == tap.site;
                    if here && tap.direction.is_none_or(|direction| direction == hop.direction) {
                        let Hop { part, direction, encapsulated, leg, .. } = *hop;
                        row[slot(part, direction, encapsulated, leg)] = Some(index as u16);
                        tapped[index] = true;
                    }
                }
            }
            tables.push(table);
        }
        let find = |wanted: &dyn Fn(&Hop) -> bool| {
            let mut seen = hops.iter().zip(&tapped);
            seen.position(|(hop, &tapped)| tapped && wanted(hop)).map(|index| index as u16)
        };
        let origin = |part| match part {
            0 => find(&|hop| hop.host == Host::Client),
            _ => find(&|hop| hop.part == part && hop.leg == Leg::Request),
        };
        let origins = (0..path.parts()).map(origin).collect::<Option<_>>()?;
        let entry_in = |hop: &Hop| {
            let from_wire = ["wire", "lb_wire"].contains(&hop.stage);
            hop.host == Host::Entry && hop.direction == Direction::In && from_wire
        };
        let first_packet =
            find(&|hop| hop.leg == Leg::Request && entry_in(hop)).zip(find(&|hop| {
                hop.leg == Leg::Request && [Host::Ingress, Host::Pod].contains(&hop.host)
            }));
        let sites = taps.iter().map(|tap| tap.site).collect();
        let nodes = taps.iter().map(|tap| tap.node).collect();
        let entries = path.entries().to_vec();
        let hops = hops.to_vec();
        let addresses = (0..taps.len()).map(|tap| address_tap(taps, tap) as u16).collect();
        Some(Self {
            hops,
            sites,
            nodes,
            entries,
            tables,
            beyond: path.beyond(),
            ingress: path.ingress(),
            ends_tls: path.ends_tls(),
            ingress_address: path.ingress_address(),
            tapped,
            addresses,
            origins,
            first_packet,
        })
    }

    fn tapped(&self, hop: usize) -> bool {
        self.tapped[hop]
    }

    pub(super) fn site(&self, tap: u16) -> Site {
        self.sites[usize::from(tap)]
    }

    /// The tap whose SYNs say what addresses connections have at `tap`.
    pub(super) fn addresses(&self, tap: u16) -> u16 {
        self.addresses[usize::from(tap)]
    }

    pub(super) fn hop(&self, index: u16) -> &Hop {
        &self.hops[usize::from(index)]
    }

    /// Which of the entry nodes a tap is on, if it is on one.
    pub(super) fn entry_at(&self, tap: u16) -> Option<usize> {
        let node = self.nodes[usize::from(tap)]?;
        self.entries.iter().position(|&entry| entry == node)
    }

    /// Where on the path a packet of a connection is.
    pub(super) fn find(&self, packet: &Packet, leg: Leg, connection: &Connection) -> Option<u16> {
        self.at(packet, leg, connection.part, connection.entry.unwrap_or(0))
    }

    /// The same of a part of the path, for what enters by a node, index among its entries.
    pub(super) fn at(&self, packet: &Packet, leg: Leg, part: u8, entry: usize) -> Option<u16> {
        let row = self.tables[entry].get(usize::from(packet.tap))?;
        row[slot(part, packet.direction, packet.segment.encapsulated, leg)]
    }

    /// The part whose connections are first seen where a SYN is, if it is such a place.
    pub(super) fn origin(&self, syn: &Packet) -> Option<u8> {
        let begins = |part: &u8| {
            let origin = self.origins[usize::from(*part)];
            (0..self.tables.len())
                .any(|entry| self.at(syn, Leg::Request, *part, entry) == Some(origin))
        };
        let mut parts = (0..self.origins.len() as u8).filter(begins);
        let first = parts.next()?;
        // A proxy process connects to the ingress controller and, for that, to the backend.
        let to_ingress = Some(syn.segment.dst.ip()) == self.ingress_address;
        Some(if to_ingress { first } else { parts.next_back().unwrap_or(first) })
    }
}

fn address_tap(taps: &[TapInfo], tap: usize) -> usize {
    if taps[tap].site != Site::Readable {
        return tap;
    }
    let device = |other: &TapInfo| other.site == Site::PodEth && other.host() == taps[tap].host();
    taps.iter().position(device).unwrap_or(tap)
}
