// SPDX-License-Identifier: Apache-2.0
//! What `iptables-save -c` prints: tables, chains, rules with their packet counters. Pure, and
//! bounded by the input.

use std::collections::HashMap;

/// All tables of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Save {
    pub(super) tables: Vec<Table>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) chains: Vec<Chain>,
    places: HashMap<String, usize>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// As printed, without the counters: `-A CHAIN ...`.
    pub(super) text: String,
    /// Packets it matched.
    pub(super) packets: u64,
}

/// Text that is not what `iptables-save` prints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct Garbled {
    /// Line, from 1.
    pub(super) line: usize,
    /// What is wrong with it.
    pub(super) what: &'static str,
}

impl Save {
    /// Reads the tool's output.
    pub(super) fn parse(text: &str) -> Result<Self, Garbled> {
        let mut save = Self::default();
        // Rules of one chain stand together, so a name is looked up once for each chain.
        let mut at: Option<usize> = None;
        for (index, line) in text.lines().enumerate() {
            let garbled = |what| Garbled { line: index + 1, what };
            if let Some(name) = line.strip_prefix('*') {
                save.tables.push(Table { name: name.to_owned(), ..Table::default() });
                at = None;
            } else if let Some(chain) = line.strip_prefix(':') {
                let table = save.tables.last_mut().ok_or(garbled("a chain outside of a table"))?;
                let name = chain.split(' ').next().unwrap_or_default();
                if !table.declare(name) {
                    return Err(garbled("a chain declared twice"));
                }
            } else if line.starts_with('[') {
                let (packets, rule) = counted(line).ok_or(garbled("no rule with counters"))?;
                let table = save.tables.last_mut().ok_or(garbled("a rule outside of a table"))?;
                let name = rule.split(' ').nth(1).unwrap_or_default();
                let place = match at.filter(|&at| table.chains[at].name == name) {
                    Some(place) => place,
                    None => *table.places.get(name).ok_or(garbled("a rule of no chain"))?,
                };
                at = Some(place);
                table.chains[place].rules.push(Rule { text: rule.to_owned(), packets });
            } else if line.contains("is incompatible, use 'nft' tool") {
                return Err(garbled("a table that iptables cannot read"));
            } else if !(line.is_empty() || line.starts_with('#') || line == "COMMIT") {
                return Err(garbled("neither table, chain nor rule"));
            }
        }
        Ok(save)
    }

    /// What each rule has counted since `before`; `None` if the rules are not the same.
    pub(super) fn since(mut self, before: &Self) -> Option<Self> {
        if self.tables.len() != before.tables.len() {
            return None;
        }
        for (table, old) in self.tables.iter_mut().zip(&before.tables) {
            if table.name != old.name || table.chains.len() != old.chains.len() {
                return None;
            }
            for (chain, old) in table.chains.iter_mut().zip(&old.chains) {
                if chain.name != old.name || chain.rules.len() != old.rules.len() {
                    return None;
                }
                for (rule, old) in chain.rules.iter_mut().zip(&old.rules) {
                    if rule.text != old.text {
                        return None;
                    }
                    rule.packets = rule.packets.checked_sub(old.packets)?;
                }
            }
        }
        Some(self)
    }

    /// A table's place.
    pub(super) fn table(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name == name)
    }
}

impl Table {
    fn declare(&mut self, name: &str) -> bool {
        let new = self.places.insert(name.to_owned(), self.chains.len()).is_none();
        if new {
            self.chains.push(Chain { name: name.to_owned(), rules: Vec::new() });
        }
        new
    }

    /// A chain's place.
    pub(super) fn chain(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

/// Splits `[PACKETS:BYTES] -A CHAIN ...`.
fn counted(line: &str) -> Option<(u64, &str)> {
    let (counters, rule) = line.strip_prefix('[')?.split_once("] ")?;
    let (packets, bytes) = counters.split_once(':')?;
    let _bytes: u64 = bytes.parse().ok()?;
    rule.starts_with("-A ").then_some((packets.parse().ok()?, rule))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAVE: &str = "\
# Generated by iptables-nft-save v1.8.9 (nf_tables) on Tue Nov 24 15:12:39 2026
*nat
:PREROUTING ACCEPT [3:180]
:KUBE-SERVICES - [0:0]
[7:420] -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
[2:120] -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j ACCEPT
[0:0] -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j RETURN
COMMIT
# Completed on Tue Nov 24 15:12:39 2026
";

    #[test]
    fn rules_are_told_apart_by_table_and_chain() {
        let save = Save::parse(SAVE).unwrap();
        let table = &save.tables[save.table("nat").unwrap()];
        let chain = &table.chains[table.chain("KUBE-SERVICES").unwrap()];
        assert_eq!(chain.rules.iter().map(|rule| rule.packets).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(chain.rules[1].text, "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j RETURN");
        assert_eq!((save.table("filter"), table.chain("INPUT")), (None, None));
    }

    #[test]
    fn the_difference_of_two_looks_is_what_was_counted_between_them() {
        let before = Save::parse(SAVE).unwrap();
        let after = Save::parse(&SAVE.replace("[7:420]", "[9:540]")).unwrap();
        let since = after.clone().since(&before).unwrap();
        let counted: Vec<u64> = since.tables[0]
            .chains
            .iter()
            .flat_map(|chain| chain.rules.iter().map(|rule| rule.packets))
            .collect();
        assert_eq!(counted, [2, 0, 0]);
        assert_eq!(before.since(&after), None, "a counter went back");
        let other = Save::parse(&SAVE.replace("RETURN", "ACCEPT")).unwrap();
        assert_eq!(other.since(&after), None, "another rule");
    }

    #[test]
    fn what_iptables_cannot_read_is_not_taken_for_nothing() {
        let text = "# Table `nat' is incompatible, use 'nft' tool.\n";
        assert_eq!(Save::parse(text).unwrap_err().line, 1);
        assert_eq!(Save::parse("*nat\n[0:0] -A KUBE-X -j ACCEPT\n").unwrap_err().line, 2);
        assert_eq!(Save::parse("*nat\n-A KUBE-X -j ACCEPT\n").unwrap_err().line, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = Save::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_damaged_save_is_read_without_a_panic(
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = SAVE.as_bytes().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(save) = Save::parse(&String::from_utf8_lossy(&bytes)) {
                let _ = save.since(&Save::parse(SAVE).unwrap());
            }
        }
    }
}
