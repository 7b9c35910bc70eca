// SPDX-License-Identifier: Apache-2.0
//! Two nodes: what a tunnel between them adds is other packets' walk, not the connection's.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use harness::lab::netns::{NetnsLab, Pod, Topology};
use harness::net::Netns;
use harness::net::addresses::POD_PORT;
use harness::plan::{CniKind, Mode};
use harness::proxy::{Backend, Endpoint, Matched, NodeView, Options, Probe, mode};
use socket2::{Domain, Socket, Type};

use crate::bench::{VIP, table};
use crate::service_lab::PATIENCE;

const NODE_PORT: u16 = 30_080;

/// Makes a connection from a host to a destination that leads to a pod, and keeps it.
fn connect(
    from: &Netns,
    source: IpAddr,
    to: SocketAddr,
    pod: &Pod,
) -> (SocketAddr, [TcpStream; 2]) {
    let backend = SocketAddr::new(pod.address, POD_PORT);
    let listener = pod.netns.run(move || TcpListener::bind(backend)).unwrap();
    let opened = from.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        TcpStream::from(socket)
    });
    let accepted = listener.accept().unwrap().0;
    let client = opened.local_addr().unwrap();
    (client, [opened, accepted])
}

/// Watches a NodePort asked by the client, and the cluster address asked by a pod of the entry
/// node, with the one endpoint on `node`. Returns both, each the same as a second time.
fn watched(which: Mode, options: Options, cni: CniKind, node: usize) -> Option<[Matched; 2]> {
    if let Err(error) = Netns::create("question") {
        eprintln!("SKIP {error}");
        return None;
    }
    let lab = NetnsLab::up(&Topology::default(), cni).unwrap();
    let asking = lab.pods().iter().find(|pod| pod.node == 0).unwrap();
    let other = |pod: &&Pod| pod.node == node && pod.name != asking.name;
    let pod = lab.pods().iter().find(other).unwrap();
    let backend = SocketAddr::new(pod.address, POD_PORT);
    let name = lab.nodes()[node].name.clone();
    let table = table(10, vec![Endpoint { address: backend, node: name }]);
    let (scratch, entry) = (tempfile::tempdir().unwrap(), &lab.nodes()[0]);
    let agent = PathBuf::from(env!("CARGO_BIN_EXE_proxy-agent"));
    let view = NodeView {
        netns: &entry.netns,
        name: &entry.name,
        address: entry.address,
        nic: &entry.nic,
        agent: &agent,
        scratch: scratch.path(),
    };
    let implementation = mode(which, options);
    if let Err(missing) = implementation.check(&Netns::create("question").unwrap()) {
        eprintln!("SKIP {which}: {missing}");
        return None;
    }
    let texts = implementation.render(&table, view.name, view.address);
    let mut installed = implementation.install(&view, &table, &texts).unwrap();
    let client = lab.client();
    let roads = [
        (&client.netns, client.addresses[0], SocketAddr::new(entry.address, NODE_PORT)),
        (&asking.netns, asking.address, VIP),
    ];
    let matched = roads.map(|(from, source, destination)| {
        let [first, second] = [(); 2].map(|()| {
            let watch = installed.watch(&view).unwrap();
            let (client, _streams) = connect(from, source, destination, pod);
            let probe = Probe { client, destination, backend, service: (9, 0) };
            let matched = watch.matched(&view, &table, &probe).unwrap();
            assert_eq!(matched.endpoint, Some(backend));
            matched
        });
        assert_eq!((&first.rules, first.walked), (&second.rules, second.walked));
        first
    });
    installed.remove(&view).unwrap();
    assert_eq!(lab.down().errors, Vec::<String>::new());
    Some(matched)
}

/// How a backend is reached does not change which rules a connection meets; where it is adds
/// `near` rules if that is the entry node.
fn is_the_same_wherever_the_backend_is(which: Mode, options: Options, near: u64) {
    let mut all = Vec::new();
    for (cni, node) in
        [(CniKind::Ptp, 0), (CniKind::Ptp, 1), (CniKind::Bridge, 1), (CniKind::Vxlan, 1)]
    {
        let Some(matched) = watched(which, options, cni, node) else { return };
        let walked = matched.each_ref().map(|one| one.walked);
        eprintln!("{which} {} {cni} backend on node {node}: {walked:?}", options.backend.word());
        all.push(if node == 0 { walked.map(|rules| rules - near) } else { walked });
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
}

#[test]
fn iptables_nft_is_walked_the_same_through_a_tunnel() {
    is_the_same_wherever_the_backend_is(
        Mode::Iptables,
        Options { backend: Backend::Nft, ..Options::default() },
        0,
    );
}

#[test]
fn iptables_legacy_is_walked_the_same_through_a_tunnel() {
    is_the_same_wherever_the_backend_is(
        Mode::Iptables,
        Options { backend: Backend::Legacy, ..Options::default() },
        0,
    );
}

#[test]
fn userspace_is_walked_the_same_through_a_tunnel() {
    is_the_same_wherever_the_backend_is(Mode::Userspace, Options::default(), 0);
}

#[test]
fn nftables_is_walked_the_same_through_a_tunnel() {
    is_the_same_wherever_the_backend_is(Mode::Nftables, Options::default(), 0);
}

/// The rule on pods that are sent to themselves is there if the node has an endpoint.
#[test]
fn ipvs_is_walked_the_same_through_a_tunnel() {
    is_the_same_wherever_the_backend_is(Mode::Ipvs, Options::default(), 1);
}
