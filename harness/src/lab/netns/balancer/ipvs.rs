// SPDX-License-Identifier: Apache-2.0
//! ip_vs as the load balancer, with direct routing: it takes a connection for a node and hands its packets on as
//! they are (`ip_vs_dr_xmit()`). The address that clients ask is one of its host's, because ip_vs takes
//! what comes to INPUT, and the node's own proxy mode answers for it.

use std::net::{IpAddr, SocketAddr};

use crate::lab::netns::NetnsError;
use crate::net::{Address, Change, Cidr, Netns, Tool, ToolError};
use crate::proxy::ipvs::Seen;

/// Its virtual server. Goes with its host, or when it is ended.
#[derive(Debug)]
pub(super) struct Ipvs {
    service: SocketAddr,
    /// The node that it passes connections on to, at the port that was asked: direct routing changes none.
    node: SocketAddr,
    seen: Seen,
}

fn failed(error: ToolError) -> NetnsError {
    NetnsError::Balancer(error.to_string())
}

impl Ipvs {
    /// Has `host` answer for `service` by passing it on to a node.
    pub(super) fn start(
        host: &Netns,
        service: SocketAddr,
        node: IpAddr,
    ) -> Result<Self, NetnsError> {
        let node = SocketAddr::new(node, service.port());
        let address = Address { cidr: Cidr::host(service.ip()), device: "lo".to_owned() };
        // Hosts that outlive a case have it from the one before.
        if !host.state()?.addresses.contains(&address) {
            host.apply(vec![Change::Address(address)])?;
        }
        let text = servers(service, node);
        Tool::new("ipvsadm").args(["-R"]).stdin(text).run_on(host).map_err(failed)?;
        Ok(Self { service, node, seen: Seen::default() })
    }

    /// Ends it on a host that stays.
    pub(super) fn stop(self, host: &Netns) -> Result<(), NetnsError> {
        let server = self.service.to_string();
        Tool::new("ipvsadm").args(["-D", "-t", &server]).run_on(host).map(drop).map_err(failed)
    }

    /// What passed it since the last call, in words.
    ///
    /// # Errors
    /// Nothing did, or the tool does not say.
    pub(super) fn passed(&mut self, host: &Netns) -> Result<String, NetnsError> {
        let server = format!("-t {}", self.service);
        let rise = self.seen.await_rise(host, &server, self.node).map_err(failed)?;
        let Ok((before, now)) = rise else { return Err(NetnsError::BalancerIdle) };
        let (before, now) = (before.real_server, now.real_server);
        Ok(format!(
            "ip_vs passed {} connections for {} on to {}: {} packets there and {} back",
            now.connections - before.connections,
            self.service,
            self.node,
            now.packets_in - before.packets_in,
            now.packets_out - before.packets_out
        ))
    }
}

/// Lines of `ipvsadm -R`: round robin, direct routing.
fn servers(service: SocketAddr, node: SocketAddr) -> String {
    format!("-A -t {service} -s rr\n-a -t {service} -r {node} -g -w 1\n")
}

/// Whether it can be had.
pub(super) use crate::proxy::ipvs::has_servers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_real_server_by_direct_routing() {
        let text = servers("10.112.0.100:80".parse().unwrap(), "10.9.0.11:80".parse().unwrap());
        assert_eq!(
            text,
            "-A -t 10.112.0.100:80 -s rr\n-a -t 10.112.0.100:80 -r 10.9.0.11:80 -g -w 1\n"
        );
    }
}
