// SPDX-License-Identifier: Apache-2.0
//! Input of `iptables-restore`: written, and turned round into the input that undoes it.

use std::collections::HashSet;
use std::fmt::{self, Write};

/// First command of every table. It has no chain, so iptables' nft backend reads the table once
/// and keeps it. Without it, under `--noflush`, the tool keeps a sorted list of the chains it has
/// to look at and searches it from the front for every line: iptables 1.8.9 took 69 s instead of
/// 2.9 s for 10,000 Services (`nft_cache_level_set` in its `iptables/nft-cache.c`). It zeroes the
/// table's counters, which only this lab reads, and changes nothing else.
const READ_TABLE: &str = "-Z\n";

/// One table: chains first, then rules, as `iptables-restore` wants them.
#[derive(Debug)]
pub(crate) struct Table {
    name: &'static str,
    chains: String,
    rules: String,
    count: u64,
}

impl Table {
    fn with_capacity(name: &'static str, chains: usize, rules: usize) -> Self {
        let (chains, rules) = (String::with_capacity(chains), String::with_capacity(rules));
        Self { name, chains, rules, count: 0 }
    }

    /// Declares a chain: made if there is none of that name, emptied if there is one.
    pub(crate) fn chain(&mut self, name: impl fmt::Display) {
        write(&mut self.chains, format_args!(":{name} - [0:0]\n"));
    }

    /// Adds a line such as `-A CHAIN ...`.
    pub(crate) fn rule(&mut self, rule: fmt::Arguments<'_>) {
        write(&mut self.rules, rule);
        self.rules.push('\n');
        self.count += 1;
    }

    /// Puts a jump in front of a built-in chain's rules.
    pub(crate) fn jump(&mut self, from: &str, matches: &str, comment: &str, to: &str) {
        let gap = if matches.is_empty() { "" } else { " " };
        if comment.is_empty() {
            self.rule(format_args!("-I {from}{gap}{matches} -j {to}"));
        } else {
            self.rule(format_args!(
                "-I {from}{gap}{matches} -m comment --comment \"{comment}\" -j {to}"
            ));
        }
    }
}

fn write(text: &mut String, line: fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes any text");
}

/// Tables filter and nat, written in that order as kube-proxy does.
#[derive(Debug)]
pub(crate) struct Restore {
    /// Table `filter`.
    pub(crate) filter: Table,
    /// Table `nat`.
    pub(crate) nat: Table,
}

impl Restore {
    /// With room for so many bytes of chains and rules in table nat.
    pub(crate) fn with_capacity(chains: usize, rules: usize) -> Self {
        Self {
            filter: Table::with_capacity("filter", 1 << 10, 1 << 12),
            nat: Table::with_capacity("nat", chains, rules),
        }
    }

    /// The text of a whole ruleset, and how many rules it has.
    pub(crate) fn whole(self) -> (String, u64) {
        self.text(READ_TABLE)
    }

    /// The text of a change to a ruleset that is there, and how many rules it has. The tool reads
    /// only the chains that are named.
    pub(crate) fn delta(self) -> (String, u64) {
        self.text("")
    }

    fn text(self, first: &str) -> (String, u64) {
        let tables = [self.filter, self.nat];
        let length: usize =
            tables.iter().map(|table| table.chains.len() + table.rules.len() + 40).sum();
        let mut text = String::with_capacity(length);
        let mut count = 0;
        for table in tables.iter().filter(|table| !table.chains.is_empty() || table.count > 0) {
            write(&mut text, format_args!("*{}\n{first}", table.name));
            text.push_str(&table.chains);
            text.push_str(&table.rules);
            text.push_str("COMMIT\n");
            count += table.count;
        }
        (text, count)
    }
}

/// Everything some `iptables-restore` inputs put on a node, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    tables: Vec<AppliedTable>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AppliedTable {
    name: String,
    /// In the order they were first declared; a change may declare one again.
    chains: Vec<String>,
    known: HashSet<String>,
    /// Rules in built-in chains, without the `-I` in front.
    jumps: Vec<String>,
}

impl Applied {
    /// Takes note of an input that was applied.
    pub(crate) fn add(&mut self, text: &str) {
        let mut current = 0;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                current = self.table(name);
            } else if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or(chain);
                self.tables[current].chain(name);
            } else if let Some(rule) = line.strip_prefix("-I ")
                && !rule.starts_with("KUBE-")
            {
                self.tables[current].jumps.push(rule.to_owned());
            }
        }
    }

    fn table(&mut self, name: &str) -> usize {
        self.tables.iter().position(|table| table.name == name).unwrap_or_else(|| {
            self.tables.push(AppliedTable { name: name.to_owned(), ..AppliedTable::default() });
            self.tables.len() - 1
        })
    }

    /// Names of the tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str())
    }

    /// Inputs that remove it all, one per table: `iptables-restore` applies each table at once,
    /// but one table after the other.
    pub(crate) fn removals(&self) -> Vec<String> {
        self.tables.iter().map(AppliedTable::removal).collect()
    }
}

impl AppliedTable {
    fn chain(&mut self, name: &str) {
        if self.known.insert(name.to_owned()) {
            self.chains.push(name.to_owned());
        }
    }

    fn removal(&self) -> String {
        let mut text = String::with_capacity(64 + self.chains.len() * 80);
        write(&mut text, format_args!("*{}\n{READ_TABLE}", self.name));
        // To declare a chain is to empty it; an empty chain that nothing jumps to can be deleted.
        for chain in &self.chains {
            write(&mut text, format_args!(":{chain} - [0:0]\n"));
        }
        for jump in &self.jumps {
            write(&mut text, format_args!("-D {jump}\n"));
        }
        for chain in &self.chains {
            write(&mut text, format_args!("-X {chain}\n"));
        }
        text.push_str("COMMIT\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_undoes_every_chain_and_jump_once() {
        let mut restore = Restore::with_capacity(0, 0);
        restore.nat.chain("KUBE-A");
        restore.nat.jump("PREROUTING", "", "a comment", "KUBE-A");
        restore.nat.rule(format_args!("-A KUBE-A -j ACCEPT"));
        let (text, rules) = restore.whole();
        assert_eq!(rules, 2);
        let mut applied = Applied::default();
        applied.add(&text);
        applied.add("*nat\n:KUBE-B - [0:0]\n:KUBE-A - [0:0]\n-I KUBE-A 1 -j KUBE-B\nCOMMIT\n");
        assert_eq!(
            applied.removals(),
            ["*nat\n-Z\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n\
              -D PREROUTING -m comment --comment \"a comment\" -j KUBE-A\n\
              -X KUBE-A\n-X KUBE-B\nCOMMIT\n"]
        );
    }

    #[test]
    fn a_table_without_content_is_left_out() {
        let mut restore = Restore::with_capacity(0, 0);
        restore.filter.rule(format_args!("-A INPUT -j ACCEPT"));
        assert_eq!(restore.delta(), ("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n".to_owned(), 1));
    }
}
