// SPDX-License-Identifier: Apache-2.0
//! Mode userspace on a node: the process, the rules that lead to it, and the proof of both.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::super::iptables::{Backend, Counters, Counting, Look, Rules};
use super::super::sysctl::Sysctls;
use super::super::{
    Installed, NodeView, Probe, ProxyError, RuleText, ServiceTable, Watch, foreign,
};
use super::ports::{Port, Ports};
use super::watch::UserspaceWatch;
use super::{owner, rules};
use crate::net::Cidr;
use crate::net::addresses::family;
use crate::net::{NetError, ToolError};
use crate::plan::IpFamily;
use crate::plan::Mode;
use crate::proxy::iptables::Tables;
use crate::relay::{Portal, Process, Relay, RelayError};

/// The second lets the process see the type-of-service byte of a SYN, and gives it to the answers.
const SYSCTLS: &[(&str, &str)] = &[("net/ipv4/ip_forward", "1"), ("net/ipv4/tcp_reflect_tos", "1")];
const SYSCTLS_IPV6: &[(&str, &str)] =
    &[("net/ipv6/conf/all/forwarding", "1"), ("net/ipv4/tcp_reflect_tos", "1")];

/// Mode userspace on a node.
#[derive(Debug)]
pub(super) struct InstalledUserspace {
    process: Process,
    rules: Rules,
    sysctls: Sysctls,
    counters: Counters,
    /// What the process had carried when last asked, by port and endpoint.
    carried: HashMap<(u16, SocketAddr), u64>,
}

impl InstalledUserspace {
    /// The process first, so that no connection is led to a port nobody listens at.
    pub(super) fn install(
        backend: Backend,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Self, ProxyError> {
        let ports = Ports::assign(table, node.name)?;
        let family = family(node.address);
        let process = Process::start(node.netns, node.agent, portals(&ports.ports));
        let process = process.map_err(relay)?;
        let sysctls = match family {
            IpFamily::Ipv4 => SYSCTLS,
            IpFamily::Ipv6 => SYSCTLS_IPV6,
        };
        let sysctls = Sysctls::write(node.netns, sysctls).map_err(net)?;
        match Rules::install(Mode::Userspace, backend.of(family), node.netns, texts) {
            Ok(rules) => {
                let (counters, carried) = (Counters::default(), HashMap::new());
                Ok(Self { process, rules, sysctls, counters, carried })
            }
            Err(error) => {
                sysctls.put_back(node.netns).map_err(net)?;
                Err(error)
            }
        }
    }

    /// Rules that led the probe to the process's port, by what they counted.
    fn led(
        &mut self,
        node: &NodeView<'_>,
        probe: &Probe,
        port: &Port,
    ) -> Result<String, ProxyError> {
        let to_port = format!("--dport {}", probe.destination.port());
        let to_address = format!("-d {}", Cidr::host(probe.destination.ip()));
        let (chain, marks) = if port.addresses.contains(&probe.destination) {
            ("KUBE-PORTALS-CONTAINER", vec![to_address.as_str(), to_port.as_str()])
        } else {
            ("KUBE-NODEPORT-CONTAINER", vec![to_port.as_str()])
        };
        let target = format!("REDIRECT --to-ports {}", port.portal.listen_port);
        self.look(node).counted("nat", chain, &marks, &[&target])
    }

    fn look<'a, 'n>(&'a mut self, node: &'a NodeView<'n>) -> Look<'a, 'n> {
        let tables = self.rules.tables();
        Look { mode: Mode::Userspace, tables, counters: &mut self.counters, node }
    }

    /// The socket at the port is the process's, by the kernel's word.
    fn owned(&mut self, node: &NodeView<'_>, port: &Port) -> Result<String, ProxyError> {
        let (pid, listen_port) = (self.process.pid(), port.portal.listen_port);
        let owned = owner::listens(node.netns, pid, listen_port, family(node.address))
            .map_err(|source| net(NetError::os("read the sockets of", pid.to_string())(source)))?;
        if owned {
            return Ok(format!("process {pid} listens at port {listen_port}"));
        }
        let expected = format!("process {pid} listening at port {listen_port}");
        Err(self.look(node).missing(expected, "no such socket of it".to_owned()))
    }

    /// The process connected to the backend since it was last asked.
    fn passed_on(
        &mut self,
        node: &NodeView<'_>,
        port: &Port,
        backend: SocketAddr,
    ) -> Result<String, ProxyError> {
        let listen_port = port.portal.listen_port;
        let mut connections = 0;
        for (endpoint, now) in self.process.carried(listen_port).map_err(relay)? {
            let before = self.carried.insert((listen_port, endpoint), now).unwrap_or(0);
            if endpoint == backend {
                connections = now - before;
            }
        }
        if connections > 0 {
            return Ok(format!("it passed on {connections} from there to {backend}"));
        }
        let expected = format!("a connection passed on from port {listen_port} to {backend}");
        Err(self.look(node).missing(expected, "none since the last look".to_owned()))
    }
}

fn portals(ports: &[Port]) -> Vec<Portal> {
    ports.iter().map(|port| port.portal.clone()).collect()
}

fn relay(error: RelayError) -> ProxyError {
    match error {
        RelayError::Tool { op, source } => ProxyError::Tool { op, mode: Mode::Userspace, source },
        RelayError::Refused(what) => ProxyError::Unsupported { mode: Mode::Userspace, what },
    }
}

fn net(source: NetError) -> ProxyError {
    ProxyError::Net { mode: Mode::Userspace, source }
}

impl Installed for InstalledUserspace {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        let Tables { backend, family } = self.rules.tables();
        let mut evidence =
            vec![foreign::expect_only(node.netns, Mode::Userspace, Some(backend), family)?];
        if probe.destination == probe.backend {
            let portals = ["KUBE-PORTALS-CONTAINER"];
            evidence.push(self.look(node).counted("nat", "PREROUTING", &[], &portals)?);
            return Ok(evidence);
        }
        let ports = Ports::assign(table, node.name)?;
        let Some(port) = ports.of(probe.destination, node.address) else {
            let found = probe.destination.to_string();
            return Err(self.look(node).missing("an address of a Service".to_owned(), found));
        };
        evidence.push(self.led(node, probe, port)?);
        evidence.push(self.owned(node, port)?);
        evidence.push(self.passed_on(node, port, probe.backend)?);
        Ok(evidence)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        Ok(Box::new(UserspaceWatch(Counting::begin(Mode::Userspace, self.rules.tables(), node)?)))
    }

    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError> {
        let ports = Ports::assign(table, node.name)?;
        self.process.open(portals(&ports.ports[ports.last..])).map_err(relay)?;
        self.rules.change(node.netns, rules::addition(&ports, node.address))
    }

    fn take_relays(&mut self) -> Result<Vec<Relay>, ProxyError> {
        self.process.take_relays().map_err(relay)
    }

    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError> {
        let rules = self.rules.remove(node.netns);
        let sysctls = self.sysctls.put_back(node.netns);
        let process = self.process.down();
        rules?;
        sysctls.map_err(net)?;
        process.map_err(|source| {
            let (program, host) = (node.agent.display().to_string(), node.netns.name().to_owned());
            let source = ToolError::Pipe { program, host, source };
            ProxyError::Tool { op: "end the process behind", mode: Mode::Userspace, source }
        })
    }
}
