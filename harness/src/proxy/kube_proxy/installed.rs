// SPDX-License-Identifier: Apache-2.0
//! A kube-proxy program as a mode that is installed on a node.

use std::time::{Duration, Instant};

use super::KubeProxy;
use super::process::Process;
use super::stand_in::{CONFIGURATION, StandIn};
use crate::net::addresses::family;
use crate::proxy::{
    Applied, Installed, NodeView, Probe, ProxyError, RuleText, ServiceTable, Watch,
};

/// A kube-proxy that has written a table's rules, in the mode it was asked for.
#[derive(Debug)]
pub(super) struct Running {
    found: KubeProxy,
    applied: Applied,
    process: Process,
}

impl Running {
    /// Starts it and waits until it has brought the kernel up to the table.
    ///
    /// # Errors
    /// It does not come up, runs another mode, or is not done in time; what it wrote is taken away again.
    pub(super) fn start(
        stand_in: &StandIn,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Self, ProxyError> {
        let configuration = texts.iter().find(|text| text.name == CONFIGURATION);
        let configuration = configuration.expect("it is what is rendered");
        let begun = Instant::now();
        let mut process = Process::start(stand_in, node, table, configuration)?;
        let asked = (stand_in.mode, family(node.address));
        let synced = process.mode(node).and_then(|word| {
            let took = process.synced(node, table, None, begun)?;
            Ok((KubeProxy::find_as(stand_in.options, asked, word, node.netns)?, took))
        });
        let (found, took) = match synced {
            Ok(synced) => synced,
            Err(error) => {
                // What led here is the one to tell.
                let _ = process.down(node);
                return Err(error);
            }
        };
        let note = format!(
            "rules by {}, told by an API server of nic2pod's on the node; its start is in install_ms, \
             and the order of Services in them is its own",
            stand_in.program
        );
        let mut texts = vec![configuration.clone()];
        texts.extend(found.texts(node.netns)?);
        Ok(Self { found, applied: Applied { texts, took, note }, process })
    }
}

impl Installed for Running {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        self.process.living(node)?;
        self.found.prove(node, table, probe)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        self.found.watch(node)
    }

    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError> {
        self.time_add_last(node, table).map(drop)
    }

    fn time_add_last(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
    ) -> Result<Duration, ProxyError> {
        let Some(service) = table.services.last() else { return Ok(Duration::ZERO) };
        let before = self.process.syncs(node);
        let begun = Instant::now();
        self.process.add(service.clone());
        self.process.synced(node, table, before, begun)
    }

    fn applied(&self) -> Option<&Applied> {
        Some(&self.applied)
    }

    fn talks(&self) -> bool {
        true
    }

    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError> {
        self.process.down(node)
    }
}
