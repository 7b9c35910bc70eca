// SPDX-License-Identifier: Apache-2.0
//! Made-up connections walking a path, with every time known: for tests and the benchmark. Included
//! by both, so that it names what it needs from the module around it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::world::*;

const REQUEST_BYTES: u32 = 120;
const RESPONSE_BYTES: u32 = 700;
/// What a reverse proxy adds to either.
const ADDED_BYTES: u32 = 60;
/// Address of the reverse proxy.
pub(crate) const INGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2));

/// What the taps and both ends would have seen.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) taps: Vec<TapInfo>,
    pub(crate) packets: Vec<Packet>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) relays: Vec<Relay>,
    /// Of each request, when it was at which hop of the path.
    pub(crate) truth: Vec<Vec<u64>>,
    /// Of each connection, when its SYN was at which hop.
    pub(crate) syns: Vec<Vec<u64>>,
}

/// Source, destination and first sequence numbers of a connection at a place.
#[derive(Clone, Copy)]
struct Half {
    src: SocketAddr,
    dst: SocketAddr,
    isn: [u32; 2],
    tsval: u32,
}

/// Where a segment lies in its stream.
#[derive(Clone, Copy)]
struct Place {
    offset: u32,
    bytes: u32,
}

impl Place {
    /// Of the n-th message of `bytes`, on the client's side of a reverse proxy and on the other.
    fn nth(n: u32, bytes: u32) -> [Self; 2] {
        [bytes, bytes + ADDED_BYTES].map(|bytes| Self { offset: 1 + n * bytes, bytes })
    }

    /// Without data.
    fn bare(offset: u32) -> [Self; 2] {
        [Self { offset, bytes: 0 }; 2]
    }
}

struct Director<'a> {
    path: &'a Path,
    /// Tap of each hop.
    tap_of: Vec<u16>,
    rng: SmallRng,
    scene: Scene,
}

/// One tap at every site of the path.
pub(crate) fn taps(path: &Path) -> (Vec<TapInfo>, Vec<u16>) {
    let mut taps: Vec<TapInfo> = Vec::new();
    let mut tap_of = Vec::new();
    for hop in path.hops() {
        let node = match hop.host {
            Host::Client | Host::Balancer => None,
            Host::Entry | Host::Ingress => Some(0),
            Host::Backend | Host::Pod => Some(1),
        };
        let name = format!("{:?}/{:?}", hop.host, hop.site);
        let tap = TapInfo { name, node, site: hop.site, direction: None };
        let index = taps.iter().position(|t| *t == tap).unwrap_or_else(|| {
            taps.push(tap);
            taps.len() - 1
        });
        tap_of.push(index as u16);
    }
    (taps, tap_of)
}

/// `connections` connections with `requests` requests each. A single request counts as one on a
/// new connection.
pub(crate) fn scene(path: &Path, connections: u32, requests: u32, seed: u64) -> Scene {
    let (taps, tap_of) = taps(path);
    let scene = Scene { taps, ..Scene::default() };
    let mut director = Director { path, tap_of, rng: SmallRng::seed_from_u64(seed), scene };
    for number in 0..connections {
        director.connection(number, requests);
    }
    director.scene
}

impl Director<'_> {
    fn step(&mut self, now: &mut u64) -> u64 {
        *now += self.rng.random_range(1..20_000);
        *now
    }

    /// Before NAT and behind it; of each connection where processes join several.
    fn halves(&mut self, number: u32) -> Vec<[Half; 2]> {
        let address = |net: u8, host: u32, port: u16| {
            SocketAddr::new(IpAddr::from([10, net, (host >> 8) as u8, host as u8]), port)
        };
        let port = 1024 + (number % 60_000) as u16;
        // The first connection's numbers wrap round at once.
        let isn = if number == 0 { [u32::MAX - 20, u32::MAX - 500] } else { self.rng.random() };
        let front = Half {
            src: address(8, 2 + number / 60_000, port),
            dst: address(9, 11, 30_080),
            isn,
            tsval: self.rng.random(),
        };
        let mut parts = Vec::new();
        let mut front = front;
        if self.path.balanced() {
            let balancer = Half {
                src: address(8, 0xff00 + number / 60_000, port),
                isn: self.rng.random(),
                tsval: self.rng.random(),
                ..front
            };
            front.dst = address(8, 0xff00, 80);
            parts.push([front; 2]);
            front = balancer;
        }
        let through_node = |port| address(9, 11 + 256 * (number / 60_000), port);
        let at_node = through_node(1024 + (number * 7919 % 60_000) as u16);
        let pod = address(244, 256 + 5, 8080);
        if self.path.ingress().is_none() {
            self.stretch(front, Half { src: at_node, dst: pod, ..front }, &mut parts);
            return parts;
        }
        let proxy = SocketAddr::new(INGRESS, 8081);
        self.stretch(front, Half { src: at_node, dst: proxy, ..front }, &mut parts);
        let inner = Half {
            src: SocketAddr::new(INGRESS, port),
            dst: address(96, 100, 80),
            isn: self.rng.random(),
            tsval: self.rng.random(),
        };
        // Only a proxy process connects from the node's own address.
        let src = if self.path.relayed() { through_node(port) } else { inner.src };
        self.stretch(inner, Half { src, dst: pod, ..inner }, &mut parts);
        parts
    }

    /// Adds the connections between two programs, where the entry node makes `back` of `front`.
    fn stretch(&mut self, front: Half, mut back: Half, parts: &mut Vec<[Half; 2]>) {
        if self.path.relayed() && self.relays_in(parts.len()) {
            (back.isn, back.tsval) = (self.rng.random(), self.rng.random());
            let (client, upstream, backend) = (front.src, back.src, back.dst);
            self.scene.relays.push(Relay { client, upstream, backend });
            parts.extend([[front; 2], [back; 2]]);
            return;
        }
        // Past the entry node's stack nothing is translated.
        let part = parts.len();
        let mut hops = self.path.hops().iter().filter(|hop| usize::from(hop.part) == part);
        if !hops.any(|hop| hop.stage.contains("proxy")) {
            back = front;
        }
        parts.push([front, back]);
    }

    /// Whether a proxy process is behind a part: the node's own output is in the next one.
    fn relays_in(&self, part: usize) -> bool {
        let mut hops = self.path.hops().iter();
        hops.any(|hop| usize::from(hop.part) == part + 1 && hop.site == Site::LocalOut)
    }

    /// Sends one segment over a leg from `now` on; returns its times at the leg's hops.
    fn send(
        &mut self,
        leg: Leg,
        halves: &[[Half; 2]],
        place: [Place; 2],
        flags: u8,
        now: &mut u64,
    ) -> Vec<u64> {
        let mut behind_nat = leg == Leg::Response;
        let mut times = Vec::new();
        for (index, hop) in self.path.hops().iter().enumerate().filter(|(_, h)| h.leg == leg) {
            if hop.stage.contains("proxy") {
                behind_nat = leg == Leg::Request;
            } else if hop.stage == "ingress" {
                behind_nat = leg == Leg::Response;
            }
            let beyond = self.path.ingress().is_some_and(|part| hop.part >= part);
            let Place { offset, bytes } = place[usize::from(beyond)];
            let Half { src, dst, isn, tsval } =
                halves[usize::from(hop.part)][usize::from(behind_nat)];
            let stream = usize::from(leg == Leg::Response);
            let (src, dst) = if leg == Leg::Request { (src, dst) } else { (dst, src) };
            let segment = Segment {
                src,
                dst,
                seq: isn[stream].wrapping_add(offset),
                ack: isn[1 - stream].wrapping_add(1),
                tsval: Some(tsval.wrapping_add(stream as u32)),
                payload_bytes: bytes,
                flags,
                encapsulated: hop.encapsulated,
                names: None,
            };
            *now += self.rng.random_range(1..20_000);
            let (tap, direction) = (self.tap_of[index], hop.direction);
            // Only what carries data makes a socket readable.
            if hop.site != Site::Readable || bytes > 0 {
                self.scene.packets.push(Packet { time_ns: *now, segment, tap, direction });
            }
            times.push(*now);
        }
        times
    }

    fn connection(&mut self, number: u32, requests: u32) {
        use super::world::flags::{ACK, FIN, SYN};
        let halves = self.halves(number);
        let [_, at_pod] = halves[halves.len() - 1];
        let mut now = 1_000_000 + u64::from(number) * 15_000;
        let connect_ns = now;
        let syn = self.send(Leg::Request, &halves, Place::bare(0), SYN, &mut now);
        self.scene.syns.push(syn);
        self.send(Leg::Response, &halves, Place::bare(0), SYN | ACK, &mut now);
        let connected_ns = self.step(&mut now);
        for request in 0..requests {
            let place = Place::nth(request, REQUEST_BYTES);
            let answer = Place::nth(request, RESPONSE_BYTES);
            let sent_ns = self.step(&mut now);
            let mut truth = self.send(Leg::Request, &halves, place, ACK, &mut now);
            let read_ns = self.step(&mut now);
            let received_ns = self.step(&mut now);
            let written_ns = self.step(&mut now);
            truth.extend(self.send(Leg::Response, &halves, answer, ACK, &mut now));
            let first_byte_ns = self.step(&mut now);
            let last_byte_ns = self.step(&mut now);
            self.scene.truth.push(truth);
            let new = requests == 1;
            let beyond = self.path.ingress().is_some();
            let id = self.path.beyond().map(|_| u64::from(number * requests + request));
            let offset =
                |place: [Place; 2], beyond| u64::from(place[usize::from(beyond)].offset - 1);
            self.scene.samples.push(Sample {
                id,
                client: halves[0][0].src,
                request_offset: offset(place, false),
                response_offset: offset(answer, false),
                intended_ns: sent_ns,
                resolve_ns: None,
                connect_ns: new.then_some(connect_ns),
                connected_ns: new.then_some(connected_ns),
                secured_ns: None,
                upgraded_ns: None,
                sent_ns,
                first_byte_ns,
                last_byte_ns,
            });
            self.scene.marks.push(Mark {
                id,
                peer: at_pod.src,
                local: at_pod.dst,
                request_offset: offset(place, beyond),
                response_offset: offset(answer, beyond),
                read_ns,
                received_ns,
                written_ns,
                handshake: None,
            });
        }
        let end = Place::nth(requests, REQUEST_BYTES).map(|place| Place { bytes: 0, ..place });
        self.send(Leg::Request, &halves, end, FIN | ACK, &mut now);
    }
}
