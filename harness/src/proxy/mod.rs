// SPDX-License-Identifier: Apache-2.0
//! Proxy modes: one Service table, rendered as each mode's own text, applied, proved, removed.

pub mod ebpf;
mod error;
mod fill;
mod foreign;
pub mod iptables;
pub mod ipvs;
pub(crate) mod kube_proxy;
pub mod nftables;
mod none;
mod port_name;
mod reach;
pub(crate) mod sample;
mod sysctl;
mod table;
pub mod userspace;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Unavailable;
use crate::net::Netns;
use crate::plan::{IpvsScheduler, Mode, NftablesTransactions};
use crate::relay::Relay;

pub use ebpf::Ebpf;
pub use error::ProxyError;
pub use fill::{Fill, FillError};
pub use iptables::{Backend, Iptables};
pub use ipvs::Ipvs;
pub use kube_proxy::{ApiServer, KubeProxy, Program, StandIn};
pub use nftables::Nftables;
pub use none::NoProxy;
pub use table::{Affinity, Endpoint, Policy, Protocol, Service, ServicePort, ServiceTable};
pub use userspace::Userspace;
pub use watch::{Matched, Watch};

/// How long a kernel tool may take to apply a whole ruleset: nft needs more than a minute for 10,000
/// Services, nearly all of it in the kernel.
pub(crate) const APPLY_PATIENCE: Duration = Duration::from_secs(900);

/// What a mode has to know of the node it is installed on.
#[derive(Debug)]
pub struct NodeView<'a> {
    /// The node's namespace.
    pub netns: &'a Netns,
    /// Name, as endpoints name it.
    pub name: &'a str,
    /// Address of its NIC, where NodePorts answer.
    pub address: IpAddr,
    /// Name of its NIC, `eth0`.
    pub nic: &'a str,
    /// Program that runs agents (`PROGRAM agent proxy`).
    pub agent: &'a PathBuf,
    /// Directory for files the mode needs while it is installed, private to the run.
    pub scratch: &'a std::path::Path,
}

/// One input of one kernel tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// File name in the record: `iptables.rules`, `nftables.nft`, `ipset.rules`, `ipvs.rules`,
    /// `ebpf.maps`.
    pub name: &'static str,
    /// Program and arguments that take the text on standard input and apply it atomically; none
    /// where the mode writes the kernel's maps itself.
    pub tool: Vec<String>,
    /// The text.
    pub text: String,
    /// Rules and map or set elements in it.
    pub rules: u64,
}

/// What a proof is asked about: the connection the case's requests will make.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Source of the probe connection as the client bound it.
    pub client: SocketAddr,
    /// Where it was connected to: a pod, a VIP, a NodePort or a LoadBalancer address.
    pub destination: SocketAddr,
    /// Pod that answered, by its own word, and the address it answers at.
    pub backend: SocketAddr,
    /// Service and port under test: index into the table, index into its ports.
    pub service: (usize, usize),
}

impl Probe {
    /// The Service and port under test.
    pub(crate) fn subject<'a>(&self, table: &'a ServiceTable) -> (&'a Service, &'a ServicePort) {
        let (service, port) = self.service;
        let service = &table.services[service];
        (service, &service.ports[port])
    }
}

/// What somebody else's program made of a table.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its configuration, and its rules as the kernel holds them.
    pub texts: Vec<RuleText>,
    /// From its start until the kernel had them all.
    pub took: Duration,
    /// Whose they are, for whoever reads the figures.
    pub note: String,
}

/// A mode installed on one node. Holds what has to live as long (a proxy process).
pub trait Installed: std::fmt::Debug + Send {
    /// Shows from the kernel's own state that this mode, and no other, carried `probe`, a
    /// connection that was just made and answered. Returns one line per piece of evidence.
    ///
    /// # Errors
    /// [`ProxyError::NotProved`] says what was expected and what the kernel holds instead.
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError>;

    /// Begins to watch which rules the next connection meets.
    ///
    /// # Errors
    /// The kernel or its tool refuses.
    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError>;

    /// Programs one Service more: `table` is the new table, whose last Service is the new one.
    ///
    /// # Errors
    /// The kernel tool says no.
    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError>;

    /// The same, and how long it took: of a mode that has to be waited for, without the looks at the kernel
    /// that show that it is done.
    ///
    /// # Errors
    /// As [`Installed::add_last`].
    fn time_add_last(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
    ) -> Result<Duration, ProxyError> {
        let start = Instant::now();
        self.add_last(node, table)?;
        Ok(start.elapsed())
    }

    /// What there is to tell where the rules are not those that were rendered; `None` where they are.
    fn applied(&self) -> Option<&Applied> {
        None
    }

    /// Numbers of its BPF programs at the node's devices.
    fn programs(&self) -> Vec<u32> {
        Vec::new()
    }

    /// These programs are the same mode's, for the other family of addresses.
    fn stand_beside(&mut self, _programs: Vec<u32>) {}

    /// Whether something of it makes connections of its own on the node, which may begin beside any other.
    fn talks(&self) -> bool {
        false
    }

    /// For modes with a process of their own: pairs of (client side, backend side) connections
    /// since the last call, so that a request can be followed through the process.
    ///
    /// # Errors
    /// The process does not answer.
    fn take_relays(&mut self) -> Result<Vec<Relay>, ProxyError> {
        Ok(Vec::new())
    }

    /// Removes everything the mode put on the node and checks that it is gone.
    ///
    /// # Errors
    /// The kernel tool says no, or something is left.
    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError>;
}

/// How Services are implemented on a node.
pub trait ProxyMode: Send + Sync {
    /// Which mode this is.
    fn mode(&self) -> Mode;

    /// Whether this machine can run it; asked in a namespace made for the question.
    ///
    /// # Errors
    /// What is missing.
    fn check(&self, scratch: &Netns) -> Result<(), Unavailable>;

    /// Whether a node without any rules can take `texts` (from [`ProxyMode::render`]), where they
    /// ask for more than [`ProxyMode::check`] did; asked right before they are applied. The node is
    /// left as found.
    ///
    /// # Errors
    /// What is missing.
    fn check_texts(&self, _node: &Netns, _texts: &[RuleText]) -> Result<(), Unavailable> {
        Ok(())
    }

    /// The whole ruleset of one node, in the order the texts are applied. Pure.
    fn render(&self, table: &ServiceTable, node_name: &str, node_address: IpAddr) -> Vec<RuleText>;

    /// Applies `texts` (from [`ProxyMode::render`]) to a node that has no proxy mode yet.
    ///
    /// # Errors
    /// The kernel tool says no; what was applied before is removed again.
    fn install(
        &self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError>;
}

/// Choices that are not in the case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which implementation of iptables the modes with iptables rules use.
    pub backend: Backend,
    /// How mode ipvs chooses an endpoint.
    pub scheduler: IpvsScheduler,
    /// In how many pieces mode nftables gives the kernel its rules.
    pub transactions: NftablesTransactions,
}

/// The implementation of a mode.
pub fn mode(mode: Mode, options: Options) -> Box<dyn ProxyMode> {
    let Options { backend, scheduler, transactions } = options;
    match mode {
        Mode::None => Box::new(NoProxy),
        Mode::Userspace => Box::new(Userspace { backend }),
        Mode::Iptables => Box::new(Iptables { backend }),
        Mode::Ipvs => Box::new(Ipvs { backend, scheduler }),
        Mode::Nftables => Box::new(Nftables { transactions }),
        Mode::Ebpf => Box::new(Ebpf::default()),
    }
}
