// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's nftables mode: one table, one map look-up for all Services, one chain for each.
//!
//! The ruleset is the one that `pkg/proxy/nftables/proxier.go` of Kubernetes writes at commit
//! b0f823e6ccd8 (the 1.33 cycle), given to `nft -f -` as one transaction or as several. Later versions
//! name and place some of the filter chains differently; what a Service's packets pass is the same.

mod base;
mod check;
mod choice;
pub mod kernel;
mod names;
mod proof;
mod service;
mod trace;
mod transaction;

use std::io::ErrorKind;
use std::net::IpAddr;

use super::watch::net;
use super::{
    APPLY_PATIENCE, Installed, NodeView, Probe, ProxyError, ProxyMode, RuleText, Service,
    ServiceTable, Watch,
};
use crate::Unavailable;
use crate::net::addresses::family;
use crate::net::{NetError, Netns, Tool, ToolError};
use crate::plan::{CHOICES_PER_TRANSACTION, IpFamily, Mode, NftablesTransactions};
use trace::NftablesWatch;
pub(super) use trace::Tracing;
use transaction::{TABLE, Transaction};

/// The proxy mode `nftables`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nftables {
    /// In how many pieces the kernel is given the rules.
    pub transactions: NftablesTransactions,
}

impl ProxyMode for Nftables {
    fn mode(&self) -> Mode {
        Mode::Nftables
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check::check(scratch)
    }

    fn check_texts(&self, node: &Netns, texts: &[RuleText]) -> Result<(), Unavailable> {
        let six = format!("add table {}", transaction::table(IpFamily::Ipv6));
        match texts.iter().any(|text| text.text.starts_with(&six)) {
            true => check::features(node, IpFamily::Ipv6),
            false => Ok(()),
        }
    }

    fn render(&self, table: &ServiceTable, node_name: &str, node_address: IpAddr) -> Vec<RuleText> {
        // A Service with two endpoints is about 1,700 bytes.
        let bytes = 8_192 + 2_048 * table.services.len();
        let mut transaction = Transaction::with_capacity(family(node_address), bytes);
        base::write(&mut transaction, node_address);
        for service in &table.services {
            service::write(&mut transaction, service, node_name);
        }
        vec![rule_text(transaction)]
    }

    fn install(
        &self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        texts: &[RuleText],
    ) -> Result<Box<dyn Installed>, ProxyError> {
        let parts = self.transactions.are_parts(table.services.len());
        for RuleText { tool: program, text, .. } in texts {
            if parts {
                let (text, choices) = choice::split(text, family(node.address));
                apply(node.netns, program, &text).map_err(tool("install"))?;
                if let Err(error) = append(node, choices) {
                    delete_table(node)?;
                    return Err(error);
                }
            } else {
                apply(node.netns, program, text).map_err(tool("install"))?;
            }
        }
        Ok(Box::new(InstalledNftables))
    }
}

/// Evidence that rules of this mode carried a connection, whoever made them.
pub(in crate::proxy) fn evidence(
    node: &NodeView<'_>,
    table: &ServiceTable,
    probe: &Probe,
) -> Result<Vec<String>, ProxyError> {
    proof::prove(node, table, probe)
}

/// Begins to watch rules of this mode, whoever made them.
pub(in crate::proxy) fn watch(node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
    Ok(Box::new(NftablesWatch(Tracing::begin(Mode::Nftables, node)?)))
}

/// All its state is the kernel's.
#[derive(Debug)]
struct InstalledNftables;

impl Installed for InstalledNftables {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        evidence(node, table, probe)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        watch(node)
    }

    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError> {
        let Some(service) = table.services.last() else { return Ok(()) };
        let RuleText { tool: program, text, .. } = render_addition(service, node.name);
        apply(node.netns, &program, &text).map_err(tool("add to"))
    }

    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError> {
        delete_table(node)?;
        let family = family(node.address);
        let left = proof::ask(node.netns, move || kernel::tables(family))?;
        if left.iter().any(|table| table == TABLE) {
            return Err(ProxyError::Left {
                mode: Mode::Nftables,
                host: node.name.to_owned(),
                left: format!("table {}", transaction::table(family)),
            });
        }
        Ok(())
    }
}

/// Names of the node's tables of a family; none where the kernel has no nf_tables.
pub(crate) fn tables(
    mode: Mode,
    netns: &Netns,
    family: IpFamily,
) -> Result<Vec<String>, ProxyError> {
    let tables = netns.run(move || match kernel::tables(family) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(Vec::new()),
        answer => answer,
    });
    let subject = format!("nf_tables of {}", netns.name());
    tables.map_err(NetError::os("read", subject)).map_err(net(mode))
}

/// What one Service more adds: kube-proxy's partial sync of one changed Service.
pub fn render_addition(service: &Service, node: &str) -> RuleText {
    let mut transaction = Transaction::with_capacity(family(service.cluster_ip), 2_048);
    service::write(&mut transaction, service, node);
    rule_text(transaction)
}

fn rule_text(transaction: Transaction) -> RuleText {
    let (text, rules) = transaction.finish();
    let tool = ["nft", "-f", "-"].map(str::to_owned).into();
    RuleText { name: "nftables.nft", tool, text, rules }
}

fn apply(host: &Netns, tool: &[String], text: &str) -> Result<(), ToolError> {
    let (program, args) = tool.split_first().expect("a rendered text names its tool");
    Tool::new(program).args(args).stdin(text).within(APPLY_PATIENCE).run_on(host).map(drop)
}

/// Appends what the text was without.
fn append(node: &NodeView<'_>, choices: Vec<choice::Choice>) -> Result<(), ProxyError> {
    let family = family(node.address);
    let made = node.netns.run(move || choice::append(&choices, family, CHOICES_PER_TRANSACTION));
    let subject = format!("nf_tables of {}", node.netns.name());
    made.map_err(NetError::os("add rules to", subject)).map_err(net(Mode::Nftables))
}

/// `nft destroy` is younger than the oldest `nft` we take; adding before deleting does as well.
fn delete_table(node: &NodeView<'_>) -> Result<(), ProxyError> {
    let table = transaction::table(family(node.address));
    let text = format!("add table {table}\ndelete table {table}\n");
    let outcome =
        Tool::new("nft").args(["-f", "-"]).stdin(text).within(APPLY_PATIENCE).run_on(node.netns);
    outcome.map(drop).map_err(tool("remove"))
}

fn tool(op: &'static str) -> impl FnOnce(ToolError) -> ProxyError {
    move |source| ProxyError::Tool { op, mode: Mode::Nftables, source }
}

#[cfg(test)]
mod tests;
