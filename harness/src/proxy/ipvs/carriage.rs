// SPDX-License-Identifier: Apache-2.0
//! Evidence that ip_vs carried a connection, whoever told it of its servers: us, or a kube-proxy.

use std::io;

use super::super::{NodeView, Probe, ProxyError, ServiceTable};
use super::carried::{Carried, Seen};
use super::connections;
use super::servers::server_name;
use crate::net::{NetError, Tool, ToolError};
use crate::plan::{IpvsScheduler, Mode};

/// What ip_vs has carried, as far as it was looked at.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Carriage {
    /// How endpoints have to be chosen; `None` where whoever made the servers was free to choose that.
    scheduler: Option<IpvsScheduler>,
    seen: Seen,
}

fn tool(source: ToolError) -> ProxyError {
    ProxyError::Tool { op: "read back", mode: Mode::Ipvs, source }
}

fn missing(node: &NodeView<'_>, expected: String, found: impl Into<String>) -> ProxyError {
    let (host, found) = (node.name.to_owned(), found.into());
    ProxyError::NotProved { mode: Mode::Ipvs, host, expected, found }
}

impl Carriage {
    /// Nothing was looked at yet.
    pub(in crate::proxy) fn by(scheduler: Option<IpvsScheduler>) -> Self {
        Self { scheduler, seen: Seen::default() }
    }

    /// That the virtual server of the probe's destination has the pod that answered behind it, that ip_vs
    /// has the probe's very connection, and that the counters of both have risen.
    ///
    /// # Errors
    /// [`ProxyError::NotProved`] where one of it is not so.
    pub(in crate::proxy) fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        let (_, port) = probe.subject(table);
        let server = server_name(port.protocol, probe.destination);
        let mut evidence = vec![self.held(node, probe, &server)?, listed(node, probe)?];
        // Last, because it may have to wait.
        evidence.extend(self.counted(node, probe, &server)?);
        Ok(evidence)
    }

    /// The real server is behind the virtual one and has connections.
    fn held(&self, node: &NodeView<'_>, probe: &Probe, server: &str) -> Result<String, ProxyError> {
        let args = ["-L", "-n"].into_iter().chain(server.split(' '));
        let expected = format!("a connection held by {} behind {server}", probe.backend);
        let listing = match Tool::new("ipvsadm").args(args).run_on(node.netns) {
            Ok(listing) => listing,
            Err(ToolError::Failed { stderr, .. }) => {
                return Err(missing(node, expected, stderr.trim_end()));
            }
            Err(error) => return Err(tool(error)),
        };
        let scheduler = connections::scheduler(&listing);
        if let Some(asked) = self.scheduler.map(IpvsScheduler::word)
            && scheduler != Some(asked)
        {
            let expected = format!("scheduler {asked} of {server}");
            return Err(missing(node, expected, format!("{scheduler:?}")));
        }
        let found = match connections::held(&listing, probe.backend) {
            Some(0) => "none",
            Some(held) => {
                return Ok(format!(
                    "{} behind {server} ({}) holds connections: {held}",
                    probe.backend,
                    scheduler.unwrap_or_default()
                ));
            }
            None => "no such real server",
        };
        Err(missing(node, expected, found))
    }

    /// The counters of the virtual server and of the real one have risen.
    fn counted(
        &mut self,
        node: &NodeView<'_>,
        probe: &Probe,
        server: &str,
    ) -> Result<Vec<String>, ProxyError> {
        let rise = self.seen.await_rise(node.netns, server, probe.backend);
        match rise.map_err(tool)? {
            Ok((before, now)) => {
                let line = |name: &str, before: Carried, now: Carried| {
                    format!(
                        "ipvsadm --stats of {name}: connections {} -> {}, packets in {} -> {}, \
                         out {} -> {}",
                        before.connections,
                        now.connections,
                        before.packets_in,
                        now.packets_in,
                        before.packets_out,
                        now.packets_out
                    )
                };
                let behind = format!("{} behind it", probe.backend);
                Ok(vec![
                    line(server, before.virtual_server, now.virtual_server),
                    line(&behind, before.real_server, now.real_server),
                ])
            }
            Err(found) => {
                let expected = format!(
                    "one connection more in ipvsadm's counters of {server} and of {} behind it",
                    probe.backend
                );
                let found = found.map_or("no such servers".to_owned(), |now| format!("{now:?}"));
                Err(missing(node, expected, found))
            }
        }
    }
}

/// ip_vs has the very connection.
fn listed(node: &NodeView<'_>, probe: &Probe) -> Result<String, ProxyError> {
    let unreadable = |error: io::Error| ProxyError::Net {
        mode: Mode::Ipvs,
        source: NetError::os("read the state of ip_vs on", node.name)(error),
    };
    let found =
        connections::find(node.netns, probe.client, probe.destination).map_err(unreadable)?;
    let expected = format!("{} to {} at {}", probe.client, probe.destination, probe.backend);
    match found {
        Some(one) if one.real_server == probe.backend => {
            Ok(format!("ip_vs has the connection {expected}, {}", one.state))
        }
        Some(one) => Err(missing(node, expected, one.real_server.to_string())),
        None => Err(missing(node, expected, "no such connection in ip_vs")),
    }
}
