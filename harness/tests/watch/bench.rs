// SPDX-License-Identifier: Apache-2.0
//! A mode on the lab's node, with Services before the one that is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use harness::net::addresses::POD_PORT;
use harness::plan::{Mode, Position};
use harness::proxy::{
    Affinity, Endpoint, Fill, Installed, Matched, NodeView, Options, Policy, Probe, Protocol,
    ProxyError, Service, ServicePort, ServiceTable, mode,
};

use crate::service_lab::{CLIENTS, Lab, NODE, NODE_ADDRESS, PODS, ask};

pub(crate) const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 100)), 80);
pub(crate) const NODE_PORT: SocketAddr = SocketAddr::new(NODE_ADDRESS, 30_080);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    /// The client, through the node's NIC.
    Client,
    /// The first pod.
    Pod,
}

pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) mode: Mode,
    table: ServiceTable,
    installed: Option<Box<dyn Installed>>,
    agent: PathBuf,
    scratch: tempfile::TempDir,
}

impl Bench {
    /// A node with `services` Services, of which the last one has `endpoints`. `None`, with a word
    /// why, when this machine cannot.
    pub(crate) fn up(
        which: Mode,
        options: Options,
        services: u32,
        endpoints: Vec<Endpoint>,
    ) -> Option<Self> {
        let lab = Lab::up()?;
        let implementation = mode(which, options);
        if let Err(missing) = implementation.check(&lab.node) {
            eprintln!("SKIP {which}: {missing}");
            return None;
        }
        let table = table(services, endpoints);
        let agent = PathBuf::from(env!("CARGO_BIN_EXE_proxy-agent"));
        let scratch = tempfile::tempdir().unwrap();
        let texts = implementation.render(&table, NODE, NODE_ADDRESS);
        let installed =
            implementation.install(&view(&lab, &agent, &scratch), &table, &texts).unwrap();
        Some(Self { lab, mode: which, table, installed: Some(installed), agent, scratch })
    }

    /// Makes one connection and says what it met, and what was asked about.
    pub(crate) fn watch(&mut self, asker: Asker, destination: SocketAddr) -> (Matched, Probe) {
        let (matched, probe) = self.watch_while(asker, destination, |_| ());
        (matched.unwrap(), probe)
    }

    /// The same with something else going on before the watch ends.
    pub(crate) fn watch_while(
        &mut self,
        asker: Asker,
        destination: SocketAddr,
        meanwhile: impl FnOnce(&Lab),
    ) -> (Result<Matched, ProxyError>, Probe) {
        let node = view(&self.lab, &self.agent, &self.scratch);
        let watch = self.installed.as_mut().unwrap().watch(&node).unwrap();
        let probe = self.ask(asker, destination);
        meanwhile(&self.lab);
        (watch.matched(&node, &self.table, &probe), probe)
    }

    /// Makes one connection, watched by its mode and, as any node's rules are in mode none, by the
    /// kernel's tracing.
    pub(crate) fn watch_by_both(
        &mut self,
        asker: Asker,
        destination: SocketAddr,
    ) -> (Matched, Matched) {
        let none = mode(Mode::None, Options::default());
        let node = view(&self.lab, &self.agent, &self.scratch);
        let mut none = none.install(&node, &self.table, &[]).unwrap();
        let watch = self.installed.as_mut().unwrap().watch(&node).unwrap();
        let trace = none.watch(&node).unwrap();
        let probe = self.ask(asker, destination);
        let traced = trace.matched(&node, &self.table, &probe).unwrap();
        (watch.matched(&node, &self.table, &probe).unwrap(), traced)
    }

    fn ask(&self, asker: Asker, destination: SocketAddr) -> Probe {
        let (host, source) = match asker {
            Asker::Client => (&self.lab.client, Some(CLIENTS[0])),
            Asker::Pod => (&self.lab.pods[0], None),
        };
        let answer = ask(host, source, destination).unwrap();
        let backend = SocketAddr::new(answer.pod, POD_PORT);
        let last = self.table.services.len() - 1;
        Probe { client: answer.client, destination, backend, service: (last, 0) }
    }

    /// Removes the mode, which checks that nothing is left of it.
    pub(crate) fn down(mut self) -> Lab {
        let node = view(&self.lab, &self.agent, &self.scratch);
        self.installed.take().unwrap().remove(&node).unwrap();
        self.lab
    }
}

fn view<'a>(lab: &'a Lab, agent: &'a PathBuf, scratch: &'a tempfile::TempDir) -> NodeView<'a> {
    NodeView {
        netns: &lab.node,
        name: NODE,
        address: NODE_ADDRESS,
        nic: "eth0",
        agent,
        scratch: scratch.path(),
    }
}

/// A pod as an endpoint.
pub(crate) fn endpoint(pod: usize, node: &str) -> Endpoint {
    Endpoint { address: SocketAddr::new(PODS[pod], POD_PORT), node: node.to_owned() }
}

pub(crate) fn table(services: u32, endpoints: Vec<Endpoint>) -> ServiceTable {
    let measured = Service {
        namespace: "test".to_owned(),
        name: "web".to_owned(),
        cluster_ip: VIP.ip(),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: VIP.port(),
            node_port: Some(NODE_PORT.port()),
            endpoints,
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    };
    let fill = Fill { services, endpoints: 2, position: Position::Last, seed: 1 };
    fill.table(vec![measured]).unwrap()
}
