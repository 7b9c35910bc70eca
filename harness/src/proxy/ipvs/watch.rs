// SPDX-License-Identifier: Apache-2.0
//! Which rules, sets and servers a connection through ip_vs meets.

use std::net::SocketAddr;

use super::super::iptables::{Carrier, Counting};
use super::super::watch::{conntrack_entry, not_one};
use super::super::{Matched, NodeView, Probe, ProxyError, ServiceTable, Watch};
use super::connections::{self, Connection};
use super::servers::server_name;
use crate::net::conntrack::Flow;
use crate::net::{NetError, Tool};
use crate::plan::Mode;

/// Mode ipvs being watched.
#[derive(Debug)]
pub(super) struct IpvsWatch(pub(super) Counting);

impl Watch for IpvsWatch {
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        let served = probe.destination != probe.backend;
        let carrier = |flow: &Flow| match served
            && flow.original.source == probe.client
            && flow.original.destination == probe.destination
        {
            true => Carrier::IpVs,
            false => Carrier::Stack,
        };
        let walks = self.0.end(node)?.walks(node, probe, carrier, |_| false)?;
        let [(flow, walk)] = &walks[..] else {
            return Err(not_one(Mode::Ipvs, node, "no walk".to_owned()));
        };
        let mut objects = Vec::new();
        let mut endpoint = None;
        if served {
            let connection = connection(node, probe)?;
            endpoint = Some(connection.real_server);
            objects.push(virtual_server(node, table, probe)?);
            objects.push(format!(
                "ip_vs connection: tcp {} -> {} at {}, {}",
                connection.client,
                connection.virtual_server,
                connection.real_server,
                connection.state
            ));
        }
        if flow.dnat() != endpoint || endpoint.is_some_and(|chosen| chosen != probe.backend) {
            let what = format!(
                "ip_vs chose {endpoint:?}, connection tracking has {:?}, and {} answered",
                flow.dnat(),
                probe.backend
            );
            return Err(not_one(Mode::Ipvs, node, what));
        }
        objects.extend(conntrack_entry(Mode::Ipvs, node, probe)?);
        Ok(Matched { rules: walk.rules.clone(), walked: walk.walked, objects, endpoint })
    }
}

fn connection(node: &NodeView<'_>, probe: &Probe) -> Result<Connection, ProxyError> {
    let found = connections::find(node.netns, probe.client, probe.destination);
    let unreadable = NetError::os("read the state of ip_vs on", node.name);
    let found =
        found.map_err(|source| ProxyError::Net { mode: Mode::Ipvs, source: unreadable(source) })?;
    found.ok_or_else(|| {
        let what = format!("ip_vs has no connection {} -> {}", probe.client, probe.destination);
        not_one(Mode::Ipvs, node, what)
    })
}

/// The virtual server and the real servers it chose among.
fn virtual_server(
    node: &NodeView<'_>,
    table: &ServiceTable,
    probe: &Probe,
) -> Result<String, ProxyError> {
    let (_, port) = probe.subject(table);
    let name = server_name(port.protocol, probe.destination);
    let args = ["-L", "-n"].into_iter().chain(name.split(' '));
    let listing = Tool::new("ipvsadm")
        .args(args)
        .run_on(node.netns)
        .map_err(|source| ProxyError::Tool { op: "read back", mode: Mode::Ipvs, source })?;
    match described(&listing) {
        Some(described) => Ok(described),
        None => Err(not_one(Mode::Ipvs, node, format!("ip_vs has no virtual server {name}"))),
    }
}

/// Reads `ipvsadm -L -n -t ADDRESS`: a line of the virtual server, one for each real one.
fn described(listing: &str) -> Option<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let server = listing.lines().find(|line| line.starts_with("TCP ") || line.starts_with("UDP "));
    let real = listing.lines().filter_map(|line| {
        let address = line.trim_start().strip_prefix("-> ")?.split_whitespace().next()?;
        address.parse::<SocketAddr>().ok().map(|address| address.to_string())
    });
    let real: Vec<String> = real.collect();
    Some(format!("ip_vs virtual server: {} -> {}", words(server?), real.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_server_is_described_with_its_real_ones() {
        let listing = "Prot LocalAddress:Port Scheduler Flags\n  \
                       -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
                       TCP  10.96.0.1:80 rr persistent 10800\n  \
                       -> 10.244.0.2:8080              Masq    1      0          1         \n  \
                       -> 10.244.0.3:8080              Masq    1      2          3         \n";
        assert_eq!(
            described(listing).unwrap(),
            "ip_vs virtual server: TCP 10.96.0.1:80 rr persistent 10800 -> 10.244.0.2:8080, \
             10.244.0.3:8080"
        );
        assert_eq!(described("Prot LocalAddress:Port Scheduler Flags\n"), None);
    }
}
