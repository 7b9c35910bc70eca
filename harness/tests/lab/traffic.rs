// SPDX-License-Identifier: Apache-2.0
//! One body over every CNI: who reaches whom, by which way, and how large a packet may be.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use harness::capture::Site;
use harness::lab::netns::{NetnsLab, Topology};
use harness::net::{Counters, Netns};
use harness::plan::{CniKind, IpFamily, ReversePath};
use socket2::{Domain, Socket, Type};

use crate::{down, lab};

const MEGABYTE: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn ptp_carries_traffic_the_way_it_says() {
    conforms(CniKind::Ptp);
}

#[test]
fn bridge_carries_traffic_the_way_it_says() {
    conforms(CniKind::Bridge);
}

#[test]
fn vxlan_carries_traffic_the_way_it_says() {
    conforms(CniKind::Vxlan);
}

#[test]
fn ipvlan_carries_traffic_the_way_it_says() {
    conforms(CniKind::Ipvlan);
}

#[test]
fn macvlan_carries_traffic_the_way_it_says() {
    conforms(CniKind::Macvlan);
}

#[test]
fn jumbo_frames_fit_where_they_are_asked_for() {
    for &cni in CniKind::OWN {
        let topology = Topology { mtu: 9000, ..Topology::default() };
        let Some(lab) = lab(&topology, cni) else { continue };
        has_mtu(&lab, 9000);
        let before = fragments(&lab);
        exchange(&lab.client().netns, None, &lab.pods()[2].netns, lab.pods()[2].address, MEGABYTE);
        assert_eq!(fragments(&lab), before, "{cni}: a packet was cut");
        down(lab);
    }
}

#[test]
fn the_smallest_and_a_wide_lab_come_up_and_are_proved() {
    for &cni in CniKind::OWN {
        let small = Topology {
            nodes: 1,
            pods_per_node: 1,
            client_addresses: 1,
            pod_extra_addresses: 0,
            mtu: 1280,
            emulation: None,
            dns: None,
            balanced: Vec::new(),
            routed: false,
            family: IpFamily::Ipv4,
            dual: false,
            rp_filter: ReversePath::Off,
        };
        let wide = Topology {
            nodes: 5,
            pods_per_node: 6,
            client_addresses: 300,
            pod_extra_addresses: 37,
            mtu: 1500,
            emulation: None,
            dns: None,
            balanced: Vec::new(),
            routed: false,
            family: IpFamily::Ipv4,
            dual: true,
            rp_filter: ReversePath::Strict,
        };
        for topology in [small, wide] {
            let Some(lab) = lab(&topology, cni) else { continue };
            lab.prove().unwrap();
            let (client, pod) = (lab.client(), lab.pods().last().unwrap());
            exchange(&client.netns, client.addresses.last().copied(), &pod.netns, pod.address, 1);
            down(lab);
        }
    }
}

pub(crate) fn conforms(cni: CniKind) {
    let Some(lab) = lab(&Topology::default(), cni) else { return };
    let evidence = lab.prove().unwrap();
    assert!(evidence.len() > 10, "{evidence:#?}");
    reaches_everyone(&lab);
    has_mtu(&lab, 1500);
    has_every_tap_point(&lab);
    goes_through_the_entry_node(&lab);
    down(lab);
}

fn reaches_everyone(lab: &NetnsLab) {
    let client = &lab.client().netns;
    let [first, neighbour, remote, _] = lab.pods() else { panic!("four pods") };
    for pod in lab.pods() {
        exchange(client, None, &pod.netns, pod.address, 1000);
        let last = lab.client().addresses.last().copied();
        exchange(client, last, &pod.netns, pod.extra_addresses[15], 1000);
    }
    for node in lab.nodes() {
        exchange(client, None, &node.netns, node.address, 1000);
    }
    for to in [neighbour, remote] {
        exchange(&first.netns, None, &to.netns, to.address, 1000);
        exchange(&to.netns, Some(to.extra_addresses[0]), &first.netns, first.address, 1000);
        // Of a node, its own pods and others'.
        exchange(&lab.nodes()[0].netns, None, &to.netns, to.address, 1000);
    }
}

/// A megabyte each way between the client and a pod of the second node, followed on the
/// interfaces' byte counters.
fn goes_through_the_entry_node(lab: &NetnsLab) {
    let (before, fragments_before) = (counters(lab), fragments(lab));
    let pod = lab.pods().iter().find(|pod| pod.node == 1).unwrap();
    exchange(&lab.client().netns, None, &pod.netns, pod.address, MEGABYTE);
    assert_eq!(fragments(lab), fragments_before, "{}: a packet was cut", lab.cni());
    let passed = |host: &str, kind: Site| -> Counters {
        let mut sum = Counters::default();
        for ((name, at, device), now) in counters(lab) {
            if name == host && at == kind {
                let then = before.iter().find(|(key, _)| key.0 == name && key.2 == device);
                let then = then.unwrap().1;
                assert_eq!(now.dropped, then.dropped, "{name} {device} dropped packets");
                sum.rx_bytes += now.rx_bytes - then.rx_bytes;
                sum.tx_bytes += now.tx_bytes - then.tx_bytes;
            }
        }
        sum
    };
    let cni = lab.cni();
    let expect = |host: &str, kind, rx: u64, tx: u64| {
        let sum = passed(host, kind);
        // Headers and acknowledgements are a few percent of a megabyte.
        let whole = |bytes: u64| bytes * 10 / (MEGABYTE * 9);
        assert_eq!(
            (whole(sum.rx_bytes), whole(sum.tx_bytes)),
            (rx, tx),
            "{cni}: megabytes in and out of {kind:?} of {host}: {sum:?}"
        );
    };
    expect("client", Site::ClientEth, 1, 1);
    // In from the client and out to node2, in from node2 and out to the client.
    expect("node1", Site::Nic, 2, 2);
    expect("node2", Site::Nic, 1, 1);
    expect("node1", Site::PodVeth, 0, 0);
    let veth = u64::from(!has_slaves(cni));
    expect("node2", Site::PodVeth, veth, veth);
    // Nodes pass nothing on to pods of theirs.
    expect("node2", Site::Ipvlan, 0, 0);
    // What is for a pod passes its node's stack, and its slave.
    let macvlan = u64::from(cni == CniKind::Macvlan);
    expect("node2", Site::Macvlan, macvlan, macvlan);
    expect(&pod.name, Site::PodEth, 1, 1);
    let tunnel = u64::from(cni == CniKind::Vxlan);
    expect("node1", Site::Vxlan, tunnel, tunnel);
    expect("node2", Site::Vxlan, tunnel, tunnel);
    let bridge = u64::from(has_bridge(cni));
    expect("node1", Site::Bridge, 0, 0);
    expect("node2", Site::Bridge, bridge, bridge);
}

fn has_bridge(cni: CniKind) -> bool {
    matches!(cni, CniKind::Bridge | CniKind::Vxlan)
}

/// Whether pods are slaves of their node's NIC.
fn has_slaves(cni: CniKind) -> bool {
    matches!(cni, CniKind::Ipvlan | CniKind::Macvlan)
}

type Place = (String, Site, String);

fn counters(lab: &NetnsLab) -> Vec<(Place, Counters)> {
    let counters = |point: harness::capture::TapPoint<'_>| {
        let state = point.netns.state().unwrap();
        let place = (point.netns.name().to_owned(), point.kind, point.device.to_owned());
        (place, state.link(point.device).unwrap().counters)
    };
    lab.tap_points().into_iter().map(counters).collect()
}

fn has_mtu(lab: &NetnsLab, wire: u32) {
    let inner = if lab.cni() == CniKind::Vxlan { wire - 50 } else { wire };
    for point in lab.tap_points() {
        let expected = match point.kind {
            Site::ClientEth | Site::Nic => wire,
            _ => inner,
        };
        let state = point.netns.state().unwrap();
        let (host, device) = (point.netns.name(), point.device);
        assert_eq!(state.link(device).unwrap().mtu, expected, "{host} {device}");
    }
}

fn has_every_tap_point(lab: &NetnsLab) {
    let mut found: Vec<_> = lab.tap_points().iter().map(|point| point.kind).collect();
    found.sort();
    let mut expected = vec![Site::ClientEth];
    expected.extend([Site::Nic; 2]);
    expected.extend([Site::Bridge; 2].iter().filter(|_| has_bridge(lab.cni())));
    expected.extend([Site::Vxlan; 2].iter().filter(|_| lab.cni() == CniKind::Vxlan));
    expected.extend([Site::Ipvlan; 2].iter().filter(|_| lab.cni() == CniKind::Ipvlan));
    expected.extend([Site::Macvlan; 2].iter().filter(|_| lab.cni() == CniKind::Macvlan));
    expected.extend([Site::PodVeth; 4].iter().filter(|_| !has_slaves(lab.cni())));
    expected.extend([Site::PodEth; 4]);
    assert_eq!(found, expected);
}

/// Fragments made and put together so far, over all hosts.
fn fragments(lab: &NetnsLab) -> u64 {
    let of = |host: &Netns| -> u64 {
        // The thread's own: /proc/net is the main thread's namespace.
        let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let wanted = ["FragCreates", "ReasmReqds"];
        names
            .split(' ')
            .zip(values.split(' '))
            .filter(|(name, _)| wanted.contains(name))
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum()
    };
    lab.hosts().map(of).sum()
}

/// Sends `bytes` from one host to a listener on another and has them sent back. Sockets belong to
/// the namespace they were made in, whichever thread uses them.
pub(crate) fn exchange(
    from: &Netns,
    source: Option<IpAddr>,
    to: &Netns,
    address: IpAddr,
    bytes: u64,
) {
    let listener = to.run(move || TcpListener::bind((address, 0))).unwrap();
    let destination = listener.local_addr().unwrap();
    let server = serve(listener, bytes);
    let what = format!("{} {source:?} to {} {address}", from.name(), to.name());
    let peer = talk(from, source, destination, bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
    let seen = server.join().unwrap();
    assert_eq!(seen, peer, "{what}: the address was translated");
}

/// Takes one connection, reads `bytes`, sends them back and ends with the peer it saw.
pub(crate) fn serve(listener: TcpListener, bytes: u64) -> std::thread::JoinHandle<SocketAddr> {
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        (&mut stream).take(bytes).read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
        peer
    })
}

/// Connects, sends `bytes`, checks that the same come back, and tells the address it had.
pub(crate) fn talk(
    from: &Netns,
    source: Option<IpAddr>,
    destination: SocketAddr,
    bytes: u64,
) -> std::io::Result<SocketAddr> {
    let mut stream: TcpStream = from.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&destination.into(), Duration::from_secs(2))?;
        std::io::Result::Ok(socket.into())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let payload: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    stream.write_all(&payload)?;
    let mut answer = Vec::new();
    (&mut stream).take(bytes).read_to_end(&mut answer)?;
    assert!(answer == payload, "{} of {bytes} bytes came back whole", answer.len());
    stream.local_addr()
}
