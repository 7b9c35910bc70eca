// SPDX-License-Identifier: Apache-2.0
//! Rules on a node: put there, added to, taken away again without a trace.

use super::super::error::one_line;
use super::super::sysctl::Sysctls;
use super::super::{Installed, NodeView, Probe, ProxyError, RuleText, ServiceTable, Watch};
use super::backend::Backend;
use super::counters::Counters;
use super::restore::{Applied, Restore};
use super::tables::Tables;
use super::{REJECT, addition, evidence};
use crate::Unavailable;
use crate::net::addresses::word_of_nft;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::Mode;

/// Tables that the modes write to.
const TABLES: [&str; 2] = ["filter", "nat"];

/// iptables rules of a mode on a node.
#[derive(Debug)]
pub(crate) struct Rules {
    mode: Mode,
    tables: Tables,
    applied: Applied,
    /// Tables that were not there before.
    made: Vec<&'static str>,
}

impl Rules {
    /// Applies those of `texts` that are iptables' to a node.
    ///
    /// # Errors
    /// The tool says no; tables that were done before are undone.
    pub(crate) fn install(
        mode: Mode,
        tables: Tables,
        netns: &Netns,
        texts: &[RuleText],
    ) -> Result<Self, ProxyError> {
        let made = TABLES.into_iter().filter(|table| !tables.has_table(netns, table)).collect();
        let mut rules = Self { mode, tables, applied: Applied::default(), made };
        for text in texts.iter().filter(|text| text.name == "iptables.rules") {
            rules.applied.add(&text.text);
            if let Err(source) = text.apply(netns) {
                // A table is applied as a whole or not at all, so the removal of one that was not
                // fails, and that is no news.
                for removal in rules.applied.removals() {
                    let _ = tables.restore(netns, removal);
                }
                rules.sweep(netns)?;
                return Err(ProxyError::Tool { op: "install", mode, source });
            }
        }
        Ok(rules)
    }

    /// Asks a kernel whether it takes rules, by giving it them and taking them away.
    ///
    /// # Errors
    /// What it said.
    pub(crate) fn check(
        tables: Tables,
        scratch: &Netns,
        text: RuleText,
    ) -> Result<(), Unavailable> {
        let outcome = Self::install(Mode::Iptables, tables, scratch, &[text])
            .and_then(|rules| rules.remove(scratch));
        outcome.map_err(|error| {
            let (need, remedy) = match tables.backend {
                Backend::Nft => (
                    "a kernel that takes kube-proxy's rules through nf_tables",
                    "modprobe -a nf_tables nft_compat nft_chain_nat xt_statistic xt_recent \
                     xt_addrtype xt_conntrack xt_comment xt_mark xt_MASQUERADE xt_nat",
                ),
                Backend::Legacy => (
                    "a kernel that takes kube-proxy's rules through ip_tables",
                    "modprobe -a iptable_nat iptable_filter xt_statistic xt_recent xt_addrtype \
                     xt_conntrack xt_comment xt_mark xt_MASQUERADE xt_nat",
                ),
            };
            Unavailable::new(need, one_line(&error), remedy)
        })
    }

    /// Asks a kernel whether it has the target REJECT, which only Services without endpoints need.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check_reject(tables: Tables, scratch: &Netns) -> Result<(), Unavailable> {
        let mut restore = Restore::with_capacity(64, 64);
        restore.filter.chain("KUBE-CHECK");
        restore.filter.rule(format_args!("-A KUBE-CHECK{REJECT}"));
        let text = tables.rule_text(restore.whole());
        let outcome = Self::install(Mode::Iptables, tables, scratch, &[text])
            .and_then(|rules| rules.remove(scratch));
        outcome.map_err(|error| {
            Unavailable::new(
                "iptables' target REJECT (kernel option CONFIG_IP_NF_TARGET_REJECT), for Services \
                 without endpoints",
                one_line(&error),
                "modprobe ipt_REJECT, or a table without such Services",
            )
        })
    }

    /// Applies a change.
    ///
    /// # Errors
    /// The tool says no.
    pub(crate) fn change(&mut self, netns: &Netns, text: String) -> Result<(), ProxyError> {
        if text.is_empty() {
            return Ok(());
        }
        self.applied.add(&text);
        self.tables.restore(netns, text).map_err(|source| ProxyError::Tool {
            op: "add to",
            mode: self.mode,
            source,
        })
    }

    /// Removes it all and looks whether it is gone.
    ///
    /// # Errors
    /// The tool says no, or a chain or a jump is left.
    pub(crate) fn remove(self, netns: &Netns) -> Result<(), ProxyError> {
        for removal in self.applied.removals() {
            self.tables.restore(netns, removal).map_err(self.failed("remove"))?;
        }
        self.sweep(netns)
    }

    /// Looks for remains, and removes the tables that came with the rules. They would go on
    /// costing every packet their hooks.
    fn sweep(&self, netns: &Netns) -> Result<(), ProxyError> {
        for table in
            self.applied.tables().filter_map(|name| TABLES.into_iter().find(|table| *table == name))
        {
            if !self.tables.has_table(netns, table) {
                self.drop_husk(netns, table);
                continue;
            }
            let text = self.tables.save(netns, table).map_err(self.failed("read back"))?;
            if let Some(line) = text.lines().find(|line| line.contains("KUBE-")) {
                let left = format!("{line} in table {table} ({})", self.tables.word());
                let host = netns.name().to_owned();
                return Err(ProxyError::Left { mode: self.mode, host, left });
            }
            let empty = !text.lines().any(|line| line.starts_with("-A"));
            // A legacy table cannot be removed from a namespace; its empty hooks stay with it.
            if empty && self.tables.backend == Backend::Nft && self.made.contains(&table) {
                Tool::new("nft")
                    .args(["delete", "table", word_of_nft(self.tables.family), table])
                    .run_on(netns)
                    .map_err(self.failed("remove"))?;
            }
        }
        Ok(())
    }

    /// Removes a table that came with rules that were refused: iptables-nft makes it first, by
    /// itself, so that it stays, without chains.
    fn drop_husk(&self, netns: &Netns, table: &str) {
        if self.tables.backend != Backend::Nft {
            return;
        }
        let nft = |op: &str| {
            Tool::new("nft")
                .args([op, "table", word_of_nft(self.tables.family), table])
                .run_on(netns)
        };
        if nft("list").is_ok_and(|text| text.lines().count() == 2) {
            // Nothing is in it: if it stays, it costs no packet anything.
            let _ = nft("delete");
        }
    }

    fn failed(&self, op: &'static str) -> impl Fn(ToolError) -> ProxyError {
        let mode = self.mode;
        move |source| ProxyError::Tool { op, mode, source }
    }

    /// Where the rules are.
    pub(crate) fn tables(&self) -> Tables {
        self.tables
    }
}

/// Mode iptables on a node.
#[derive(Debug)]
pub(super) struct InstalledIptables {
    rules: Rules,
    counters: Counters,
    sysctls: Sysctls,
}

impl InstalledIptables {
    pub(super) fn new(rules: Rules, sysctls: Sysctls) -> Self {
        Self { rules, counters: Counters::default(), sysctls }
    }
}

impl Installed for InstalledIptables {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        evidence::of(self.rules.tables, &mut self.counters, node, table, probe)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        super::watch(self.rules.tables, node)
    }

    fn add_last(&mut self, node: &NodeView<'_>, table: &ServiceTable) -> Result<(), ProxyError> {
        let before = &table.services[..table.services.len().saturating_sub(1)];
        let rules = evidence::service_rules(before, node.name) + 1;
        self.rules.change(node.netns, addition(table, node.name, rules))
    }

    fn remove(self: Box<Self>, node: &NodeView<'_>) -> Result<(), ProxyError> {
        let rules = self.rules.remove(node.netns);
        let sysctls = self.sysctls.put_back(node.netns);
        rules?;
        sysctls.map_err(|source| ProxyError::Net { mode: Mode::Iptables, source })
    }
}
