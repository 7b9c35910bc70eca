// SPDX-License-Identifier: Apache-2.0
//! Which rules a connection through the proxy process meets: its own first packet's, and those of
//! the connection that the process makes for it.

use super::super::iptables::{Carrier, Counting};
use super::super::watch::{conntrack_entry, not_one};
use super::super::{Matched, NodeView, Probe, ProxyError, ServiceTable, Watch};
use crate::net::conntrack::{Flow, Tuple};
use crate::plan::Mode;

/// Mode userspace being watched.
#[derive(Debug)]
pub(super) struct UserspaceWatch(pub(super) Counting);

impl Watch for UserspaceWatch {
    /// Both connections' rules, the client's first. The rules walked are both connections' too:
    /// the request waits for both.
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        _: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        let to_backend = |flow: &Flow| {
            flow.original == Tuple::tcp(flow.original.source, probe.backend)
                && flow.original.source != probe.client
        };
        let counted = self.0.end(node)?;
        let walks = counted.walks(node, probe, |_| Carrier::Stack, to_backend)?;
        let mut objects: Vec<String> =
            conntrack_entry(Mode::Userspace, node, probe)?.into_iter().collect();
        let endpoint = match &walks[..] {
            [_] if probe.destination == probe.backend => None,
            [(asked, _), (passed_on, _)] if probe.destination != probe.backend => {
                let Some(accepted_at) = asked.dnat() else {
                    let what = format!("{} is not led to the process", asked.original);
                    return Err(not_one(Mode::Userspace, node, what));
                };
                objects.push(format!(
                    "relay: the process accepted {} at {accepted_at} and connected {}",
                    asked.original.source, passed_on.original
                ));
                Some(passed_on.original.destination)
            }
            others => {
                let count = others.len() - 1;
                let what = format!("{count} connections of the node to {} began", probe.backend);
                return Err(not_one(Mode::Userspace, node, what));
            }
        };
        let walked = walks.iter().map(|(_, walk)| walk.walked).sum();
        let rules = walks.into_iter().flat_map(|(_, walk)| walk.rules).collect();
        Ok(Matched { rules, walked, objects, endpoint })
    }
}
