// SPDX-License-Identifier: Apache-2.0
//! Virtual servers of ip_vs and the real servers behind them.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::super::error::one_line;
use super::super::reach::Reach;
use super::super::{
    Affinity, Endpoint, Policy, Protocol, RuleText, Service, ServicePort, ServiceTable,
};
use super::text;
use crate::Unavailable;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::IpvsScheduler;

/// Lines of `ipvsadm -R` for a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Servers {
    lines: String,
    scheduler: IpvsScheduler,
    /// Virtual servers among them.
    count: usize,
    /// Length of `lines` before the last Service's.
    last: usize,
}

impl Servers {
    /// Servers for a table on one node.
    pub(super) fn of(
        table: &ServiceTable,
        node: &str,
        node_address: IpAddr,
        scheduler: IpvsScheduler,
    ) -> Self {
        let lines = String::with_capacity(table.services.len() * 160);
        let mut servers = Self { lines, scheduler, ..Self::default() };
        for service in &table.services {
            servers.last = servers.lines.len();
            for port in &service.ports {
                servers.port(service, port, node, node_address);
            }
        }
        servers
    }

    fn port(&mut self, service: &Service, port: &ServicePort, node: &str, node_address: IpAddr) {
        let reach = Reach::of(service, port, node);
        let internal = endpoints(&reach, reach.internal, port);
        self.server(service, port, SocketAddr::new(service.cluster_ip, port.port), &internal);
        let external = endpoints(&reach, reach.external, port);
        for ip in &service.load_balancer_ips {
            self.server(service, port, SocketAddr::new(*ip, port.port), &external);
        }
        if let Some(node_port) = port.node_port {
            let address = SocketAddr::new(node_address, node_port);
            self.server(service, port, address, &external);
        }
    }

    fn server(
        &mut self,
        service: &Service,
        port: &ServicePort,
        address: SocketAddr,
        endpoints: &[&Endpoint],
    ) {
        let name = server_name(port.protocol, address);
        let persistent = match service.affinity {
            Affinity::None => String::new(),
            Affinity::ClientIp { timeout } => format!(" -p {}", timeout.as_secs()),
        };
        let mut write = |line: std::fmt::Arguments<'_>| {
            self.lines.write_fmt(line).expect("a String takes any text");
        };
        let scheduler = scheduler(self.scheduler);
        write(format_args!("-A {name} {scheduler}{persistent}\n"));
        for endpoint in endpoints {
            write(format_args!("-a {name} -r {} -m -w 1\n", endpoint.address));
        }
        self.count += 1;
    }

    /// The input that makes them all.
    pub(super) fn whole(&self) -> RuleText {
        text("ipvs.rules", &["ipvsadm", "-R"], self.lines.clone())
    }

    /// The input that makes those of the table's last Service.
    pub(super) fn addition(&self) -> RuleText {
        text("ipvs.rules", &["ipvsadm", "-R"], self.lines[self.last..].to_owned())
    }

    /// How many virtual servers there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// Endpoints of traffic under a policy. Where policy Local finds none, all are used, so that pods
/// on the node still get through; the answers to anybody else go astray (Kubernetes #97081).
fn endpoints<'a>(reach: &Reach<'a>, policy: Policy, port: &'a ServicePort) -> Vec<&'a Endpoint> {
    match reach.under(policy) {
        [] => port.endpoints.iter().collect(),
        some => some.to_vec(),
    }
}

/// `-t ADDRESS:PORT`, or `-u` for UDP.
pub(super) fn server_name(protocol: Protocol, address: SocketAddr) -> String {
    let flag = match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
    };
    format!("{flag} {address}")
}

/// Arguments that give a virtual server its scheduler. Maglev hashes the source's port too, which is
/// how kube-proxy makes it (`FlagSourceHash` in `pkg/proxy/ipvs/util/ipvs.go`): without it one client
/// would have one endpoint.
fn scheduler(scheduler: IpvsScheduler) -> String {
    let flags = if scheduler == IpvsScheduler::Mh { " -b mh-port" } else { "" };
    format!("-s {}{flags}", scheduler.word())
}

/// Whether the kernel has ip_vs and the scheduler, by making a virtual server: without ip_vs there
/// is nothing to list, and a list of nothing is no error to every tool.
pub(super) fn check(scratch: &Netns, wanted: IpvsScheduler) -> Result<(), Unavailable> {
    // An address of TEST-NET-2 (RFC 5737), the one kube-proxy asks with.
    const SERVER: &str = "-t 198.51.100.0:20000";
    let run = |args: &str| Tool::new("ipvsadm").args(args.split(' ')).run_on(scratch);
    let made = run(&format!("-A {SERVER} {}", scheduler(wanted)))
        .and_then(|_| run(&format!("-L -n {SERVER}")))
        .and_then(|_| run(&format!("-D {SERVER}")));
    match made {
        Ok(_) => Ok(()),
        Err(error @ ToolError::Start { .. }) => {
            Err(Unavailable::new("ipvsadm", one_line(&error), "apt-get install ipvsadm"))
        }
        Err(error) if lacks_scheduler(&error) => Err(without_scheduler(wanted, one_line(&error))),
        Err(error) => Err(without_ip_vs(one_line(&error))),
    }
}

/// Whether ip_vs is there and knows no such scheduler: it answers ENOENT (`ip_vs_add_service`), which
/// libipvs words so (`ipvs_strerror`).
fn lacks_scheduler(error: &ToolError) -> bool {
    matches!(error, ToolError::Failed { stderr, .. } if stderr.contains("Scheduler"))
}

fn without_scheduler(scheduler: IpvsScheduler, found: impl Into<String>) -> Unavailable {
    let word = scheduler.word();
    Unavailable::new(
        format!("kernel option {}", scheduler.kernel_option()),
        found,
        format!(
            "modprobe ip_vs_{word}, boot a kernel that has it, or change service.ipvs_scheduler"
        ),
    )
}

/// What a kernel without IPVS is told.
pub(super) fn without_ip_vs(found: impl Into<String>) -> Unavailable {
    Unavailable::new(
        "kernel options CONFIG_IP_VS, CONFIG_IP_VS_RR, CONFIG_IP_VS_NFCT and \
         CONFIG_IP_VS_PROTO_TCP",
        found,
        "modprobe -a ip_vs ip_vs_rr, or a kernel for the lab: cargo xtask lab kernel build",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_scheduler_that_is_missing_is_named_by_its_kernel_option() {
        let error = ToolError::Failed {
            program: "ipvsadm -A".to_owned(),
            host: "question".to_owned(),
            status: std::process::ExitStatus::from_raw(255 << 8),
            stderr: "Scheduler or persistence engine not found".to_owned(),
        };
        assert!(lacks_scheduler(&error));
        for scheduler in IpvsScheduler::ALL {
            let missing = without_scheduler(scheduler, "nothing");
            let option = format!("CONFIG_IP_VS_{}", scheduler.word().to_uppercase());
            assert!(missing.need.ends_with(&option), "{missing}");
        }
    }
}
