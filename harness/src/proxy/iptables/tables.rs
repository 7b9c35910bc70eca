// SPDX-License-Identifier: Apache-2.0
//! iptables' tables of an address family, and what is asked of them.

use std::time::Duration;

use super::super::error::one_line;
use super::super::{APPLY_PATIENCE, RuleText};
use super::backend::Backend;
use crate::Unavailable;
use crate::net::addresses::word_of_nft;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::IpFamily;

/// Longest the legacy backend waits for its lock, which all network namespaces share.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Tables of one implementation and one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) backend: Backend,
    pub(crate) family: IpFamily,
}

impl Tables {
    /// The implementation's word.
    pub(crate) fn word(self) -> &'static str {
        self.backend.word()
    }

    /// What the program for the family is called.
    fn name(self) -> &'static str {
        match self.family {
            IpFamily::Ipv4 => "iptables",
            IpFamily::Ipv6 => "ip6tables",
        }
    }

    fn program(self, suffix: &str) -> String {
        format!("{}-{}{suffix}", self.name(), self.word())
    }

    /// An input of `iptables-restore` with the call that applies it beside what is there.
    pub(crate) fn rule_text(self, (text, rules): (String, u64)) -> RuleText {
        let wait = LOCK_WAIT.as_secs().to_string();
        let args = ["--noflush", "--counters", "-w", &wait].map(str::to_owned);
        let tool = std::iter::once(self.program("-restore")).chain(args).collect();
        RuleText { name: "iptables.rules", tool, text, rules }
    }

    /// Applies an input of `iptables-restore` beside what is there.
    pub(crate) fn restore(self, netns: &Netns, text: String) -> Result<(), ToolError> {
        self.rule_text((text, 0)).apply(netns)
    }

    /// A chain with its counters, one rule a line.
    pub(crate) fn chain(
        self,
        netns: &Netns,
        table: &str,
        chain: &str,
    ) -> Result<String, ToolError> {
        let wait = LOCK_WAIT.as_secs().to_string();
        Tool::new(self.program(""))
            .args(["-w", &wait, "-t", table, "-S", chain, "-v"])
            .run_on(netns)
    }

    /// A whole table as text.
    pub(crate) fn save(self, netns: &Netns, table: &str) -> Result<String, ToolError> {
        Tool::new(self.program("-save")).args(["-t", table]).run_on(netns)
    }

    /// All tables that are there as text, with their counters. Asks the legacy tool only where
    /// there are tables: it would make them.
    pub(crate) fn save_counters(self, netns: &Netns) -> Result<String, ToolError> {
        if self.backend == Backend::Legacy && self.legacy(netns).is_empty() {
            return Ok(String::new());
        }
        Tool::new(self.program("-save")).args(["-c"]).within(APPLY_PATIENCE).run_on(netns)
    }

    /// Whether the legacy tables, if there are any, have rules. Tables without rules may be what a
    /// mode left: they cannot be removed from a namespace.
    ///
    /// # Errors
    /// There are tables, and the tool cannot read them.
    pub(crate) fn has_legacy_rules(self, netns: &Netns) -> Result<bool, ToolError> {
        let text = Self { backend: Backend::Legacy, ..self }.save_counters(netns)?;
        Ok(text.lines().any(|line| line.starts_with('[')))
    }

    /// Whether the namespace has the table. Asking the legacy tool would make one, and with it
    /// the hooks and the connection tracking that come with it.
    pub(crate) fn has_table(self, netns: &Netns, table: &'static str) -> bool {
        match self.backend {
            // Names the table, so that nft reads that one only; `list tables` reads all rules
            // of all tables (nft 1.0.6: 4.9 s beside 10,000 Services). A table that has chains
            // of its own is answered in full, so only one base chain is asked for.
            Backend::Nft => {
                let hooks: &[&str] = match table {
                    "nat" => &["PREROUTING", "OUTPUT", "POSTROUTING", "INPUT"],
                    _ => &["INPUT", "FORWARD", "OUTPUT"],
                };
                hooks.iter().any(|hook| {
                    Tool::new("nft")
                        .args(["list", "chain", word_of_nft(self.family), table, hook])
                        .run_on(netns)
                        .is_ok()
                })
            }
            Backend::Legacy => self.legacy(netns).iter().any(|name| name == table),
        }
    }

    /// Whether the tools are there.
    pub(crate) fn check(self, scratch: &Netns) -> Result<(), Unavailable> {
        let tools = [self.program("-restore"), self.program("-save"), "nft".to_owned()];
        for program in tools {
            let answer = Tool::new(&program).args(["--version"]).run_on(scratch);
            if let Err(error) = answer {
                let remedy = "apt-get install iptables nftables";
                return Err(Unavailable::new(program, one_line(&error), remedy));
            }
        }
        Ok(())
    }

    /// Names of the namespace's legacy tables.
    fn legacy(self, netns: &Netns) -> Vec<String> {
        let file = format!("/proc/thread-self/net/{}_tables_names", word_of_nft(self.family));
        let names = netns.run(move || std::fs::read_to_string(file));
        names.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl RuleText {
    /// Whether it is for ip6tables.
    pub(crate) fn is_of_ipv6(&self) -> bool {
        self.tool.first().is_some_and(|program| program.starts_with("ip6"))
    }

    /// Runs the tool on a host with the text as its input.
    pub(crate) fn apply(&self, netns: &Netns) -> Result<(), ToolError> {
        let (program, args) = self.tool.split_first().expect("a text names its tool");
        Tool::new(program)
            .args(args)
            .stdin(self.text.as_str())
            .within(APPLY_PATIENCE)
            .run_on(netns)
            .map(drop)
    }
}
