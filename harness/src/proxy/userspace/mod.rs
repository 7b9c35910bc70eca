// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's userspace mode, the only one until Kubernetes 1.1 and gone since 1.26: rules lead
//! every Service port to a port of a process on the node, which copies bytes to an endpoint and
//! back.
//!
//! Where this differs from kube-proxy 1.25, and why:
//! - The process's ports are below the range that the kernel takes source ports from. kube-proxy
//!   let the kernel choose them, from that very range, so that 10,000 Services took 10,000 of the
//!   28,232 ports it had for connections to each endpoint.
//! - Policy Local is honoured; kube-proxy ignored it in this mode. A Service port whose two
//!   policies differ therefore has two ports here, one for each.
//! - No socket is held open at NodePorts: kube-proxy did, to reserve them, and never accepted.
//! - Rules are applied in one call, not two calls of `iptables` for each Service.
//! - `ctstate` stands for the match `state`, which nf_tables never had (the kernel's is an alias).
//! - Bytes are copied through memory. Go's runtime spliced them (`splice(2)`), which saves a copy
//!   of large bodies and costs small ones a pipe.
//! - Half-closed connections stay half open; kube-proxy closed both sides when one ended, and
//!   could lose the end of an answer. Resets are passed on as resets, so that a connection ended
//!   by one leaves no tuple behind on either side.
//! - The order of endpoints is the table's; kube-proxy shuffled it.
//! - UDP is not carried.
//!
//! The node has one address to connect from, so an endpoint can have 28,232 connections at once
//! (`net.ipv4.ip_local_port_range`), those in TIME_WAIT included unless they were reset.

mod installed;
mod owner;
mod ports;
mod rules;
mod watch;

use std::net::IpAddr;

use self::installed::InstalledUserspace;
use self::ports::Ports;
use super::iptables::{Backend, Rules};
use super::{Installed, NodeView, ProxyError, ProxyMode, RuleText, ServiceTable, sample};
use crate::Unavailable;
use crate::net::Netns;
use crate::net::addresses::family;
use crate::plan::IpFamily;
use crate::plan::Mode;

/// kube-proxy's userspace mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Userspace {
    /// Which implementation of iptables.
    pub backend: Backend,
}

impl ProxyMode for Userspace {
    fn mode(&self) -> Mode {
        Mode::Userspace
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        let tables = self.backend.of(IpFamily::Ipv4);
        tables.check(scratch)?;
        let ports = Ports::assign(&sample::with_endpoints(), sample::NODE)
            .expect("the sample is small and has no UDP");
        let address = IpAddr::from([10, 9, 0, 11]);
        let text = tables.rule_text(rules::whole(&ports, address));
        Rules::check(tables, scratch, text)
    }

    fn check_texts(&self, node: &Netns, texts: &[RuleText]) -> Result<(), Unavailable> {
        match texts {
            [text] if text.is_of_ipv6() => {
                let tables = self.backend.of(IpFamily::Ipv6);
                tables.check(node)?;
                Rules::check(tables, node, text.clone())
            }
            _ => Ok(()),
        }
    }

    /// Renders nothing for a table that the mode cannot carry; installing it says why.
    fn render(&self, table: &ServiceTable, node_name: &str, node_address: IpAddr) -> Vec<RuleText> {
        match Ports::assign(table, node_name) {
            Ok(ports) => {
                let tables = self.backend.of(family(node_address));
                vec![tables.rule_text(rules::whole(&ports, node_address))]
            }
            Err(_) => Vec::new(),
        }
    }

    fn install(
        &self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        let installed = InstalledUserspace::install(self.backend, node, table, texts)?;
        Ok(Box::new(installed))
    }
}

#[cfg(test)]
mod tests;
