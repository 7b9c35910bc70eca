// SPDX-License-Identifier: Apache-2.0
//! The lab with one Service on the entry node and its pod on the other one.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use harness::capture::{Selection, Site, TapOptions, Taps};
use harness::lab::netns::{NetnsLab, Node, Pod, Topology};
use harness::net::Netns;
use harness::net::addresses::POD_PORT;
use harness::plan::{CniKind, Mode};
use harness::proxy::{
    self, Affinity, Endpoint, Installed, NodeView, Options, Policy, Protocol, Service, ServicePort,
    ServiceTable,
};
use socket2::{Domain, Socket, Type};

/// Connections made.
pub(crate) const FLOWS: usize = 200;
/// Taps, in the order they are opened.
pub(crate) const NIC: u16 = 0;
pub(crate) const POD: u16 = 1;

const NODE_PORT: u16 = 30_080;
/// First source port: below those the kernel gives out by itself.
const PORT_FIRST: u16 = 20_000;
/// Longest a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Lab {
    lab: NetnsLab,
    installed: Box<dyn Installed>,
    scratch: tempfile::TempDir,
    /// No mode of these starts a process.
    agent: PathBuf,
}

impl Lab {
    /// Builds it; `None`, and the reason on standard error, where namespaces are refused.
    pub(crate) fn up(mode: Mode, cni: CniKind) -> Option<Self> {
        if let Err(error) = Netns::create("question") {
            eprintln!("SKIP {error}");
            return None;
        }
        let lab = NetnsLab::up(&Topology::default(), cni).unwrap();
        let (scratch, agent) = (tempfile::tempdir().unwrap(), PathBuf::new());
        let table = table(&lab);
        let entry = &lab.nodes()[0];
        let mode = proxy::mode(mode, Options::default());
        let texts = mode.render(&table, &entry.name, entry.address);
        let installed = mode.install(&view(&lab, &scratch, &agent), &table, &texts).unwrap();
        Some(Self { lab, installed, scratch, agent })
    }

    pub(crate) fn entry(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    pub(crate) fn backend(&self) -> SocketAddr {
        SocketAddr::new(pod(&self.lab).address, POD_PORT)
    }

    pub(crate) fn node_port(&self) -> SocketAddr {
        SocketAddr::new(self.entry().address, NODE_PORT)
    }

    /// Opens [`NIC`] and [`POD`].
    pub(crate) fn taps(&self) -> Taps {
        let (entry, pod) = (self.entry().netns.name(), pod(&self.lab).netns.name());
        let all = self.lab.tap_points();
        let at = |host: &str, kind| {
            *all.iter().find(|point| point.netns.name() == host && point.kind == kind).unwrap()
        };
        let selection = Selection::Ports(vec![NODE_PORT, POD_PORT]);
        let options = TapOptions { selection, ..TapOptions::default() };
        Taps::start(&[at(entry, Site::Nic), at(pod, Site::PodEth)], options).unwrap()
    }

    /// Opens [`FLOWS`] connections to the NodePort, one after the other, and closes them all once
    /// the last is open. Returns their sources.
    pub(crate) fn connect(&self) -> Vec<SocketAddr> {
        let pod = pod(&self.lab);
        let backend = self.backend();
        let listener = pod.netns.run(move || TcpListener::bind(backend)).unwrap();
        let server = std::thread::spawn(move || {
            let accept = |_| listener.accept().unwrap().0;
            (0..FLOWS).map(accept).collect::<Vec<TcpStream>>()
        });
        let client = self.lab.client();
        let (source, target) = (client.addresses[0], self.node_port());
        let opened = client.netns.run(move || {
            let ports = (PORT_FIRST..).take(FLOWS);
            ports.map(|port| open(source, port, target)).collect::<Vec<TcpStream>>()
        });
        server.join().unwrap();
        opened.iter().map(|stream| stream.local_addr().unwrap()).collect()
    }

    /// Takes the mode off the node and the lab down.
    pub(crate) fn down(self) {
        let Self { lab, installed, scratch, agent } = self;
        installed.remove(&view(&lab, &scratch, &agent)).unwrap();
        assert_eq!(lab.down().errors, Vec::<String>::new());
    }
}

fn open(source: IpAddr, port: u16, target: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, port)).into()).unwrap();
    socket.connect_timeout(&target.into(), PATIENCE).unwrap();
    socket.into()
}

fn view<'a>(lab: &'a NetnsLab, scratch: &'a tempfile::TempDir, agent: &'a PathBuf) -> NodeView<'a> {
    let entry = &lab.nodes()[0];
    NodeView {
        netns: &entry.netns,
        name: &entry.name,
        address: entry.address,
        nic: &entry.nic,
        agent,
        scratch: scratch.path(),
    }
}

/// The backend: a pod of the second node.
fn pod(lab: &NetnsLab) -> &Pod {
    lab.pods().iter().find(|pod| pod.node == 1).unwrap()
}

fn table(lab: &NetnsLab) -> ServiceTable {
    let endpoint = Endpoint {
        address: SocketAddr::new(pod(lab).address, POD_PORT),
        node: lab.nodes()[1].name.clone(),
    };
    let port = ServicePort {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: Some(NODE_PORT),
        endpoints: vec![endpoint],
    };
    let service = Service {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        cluster_ip: IpAddr::from([10, 96, 0, 100]),
        load_balancer_ips: Vec::new(),
        ports: vec![port],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    };
    ServiceTable { services: vec![service] }
}
