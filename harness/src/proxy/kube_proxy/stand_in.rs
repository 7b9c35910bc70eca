// SPDX-License-Identifier: Apache-2.0
//! A mode whose rules a kube-proxy program writes in place of us.

use std::net::IpAddr;
use std::sync::Arc;

use super::Program;
use super::config::configuration;
use super::installed::Running;
use crate::Unavailable;
use crate::net::Netns;
use crate::net::addresses::family;
use crate::plan::Mode;
use crate::proxy::{
    Installed, NodeView, Options, Policy, ProxyError, ProxyMode, RuleText, ServiceTable, mode,
};

/// File name of kube-proxy's configuration in the record.
pub(super) const CONFIGURATION: &str = "kube-proxy.json";

/// A mode as a kube-proxy program has it.
#[derive(Clone, Debug)]
pub struct StandIn {
    pub(super) program: Arc<Program>,
    pub(super) mode: Mode,
    pub(super) options: Options,
}

impl StandIn {
    /// `mode` by `program`, with the choices that our own mode has too.
    pub fn new(program: Arc<Program>, mode: Mode, options: Options) -> Self {
        Self { program, mode, options }
    }

    /// Whether node and program can have such a table.
    fn takes(&self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), Unavailable> {
        let local = |policy| policy == Policy::Local;
        if !self.program.knows_internal_policy()
            && table.services.iter().any(|service| local(service.internal_policy))
        {
            return Err(Unavailable::new(
                "a kube-proxy that knows internalTrafficPolicy: Local, Kubernetes 1.22 or later",
                self.program.to_string(),
                "a newer program, or service.internal_policy = \"cluster\"",
            ));
        }
        // What our own rules for such a table ask the kernel for, its rules do too.
        let own = mode(self.mode, self.options);
        own.check_texts(node.netns, &own.render(table, node.name, node.address))
    }
}

impl ProxyMode for StandIn {
    fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the kernel lacks the mode, kube-proxy may run another one without a word.
    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        self.program.has(self.mode)?;
        mode(self.mode, self.options).check(scratch)
    }

    /// Not the rules, which are kube-proxy's to write, but its configuration.
    fn render(&self, _: &ServiceTable, node_name: &str, address: IpAddr) -> Vec<RuleText> {
        let program = self.program.path.to_string_lossy().into_owned();
        let tool = vec![program, "--config".to_owned(), CONFIGURATION.to_owned()];
        let text = configuration(self.mode, self.options.scheduler, node_name, family(address));
        vec![RuleText { name: CONFIGURATION, tool, text, rules: 0 }]
    }

    fn install(
        &self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        self.takes(node, table)?;
        Ok(Box::new(Running::start(self, node, table, texts)?))
    }
}
