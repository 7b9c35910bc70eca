// SPDX-License-Identifier: Apache-2.0
//! Packet counters of rules, read back from the kernel and compared with the last look.

use std::collections::HashMap;

use super::tables::Tables;
use crate::net::{Netns, ToolError};

/// What the counters stood at when they were last looked at; zero where they never were, as they
/// are when a rule is made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    seen: HashMap<String, u64>,
}

/// A rule as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The rule as the tool prints it, without its counters.
    pub(crate) rule: String,
    /// Packets since the last look.
    pub(crate) packets: u64,
}

impl Counted {
    /// Whether all of `marks`, such as `--dport 80`, are among the rule's words.
    pub(crate) fn bears(&self, marks: &[&str]) -> bool {
        marks.iter().all(|mark| self.rule.contains(&format!(" {mark} ")))
    }

    /// Where the rule sends its packets.
    pub(crate) fn jumps_to(&self, target: &str) -> bool {
        self.rule.split_once(" -j ").is_some_and(|(_, to)| to == target)
    }
}

impl Counters {
    /// Rules of a chain with what they counted since the last call for that chain.
    ///
    /// # Errors
    /// The tool says no; [`ToolError::Failed`] when there is no such chain.
    pub(crate) fn since_last_look(
        &mut self,
        tables: Tables,
        netns: &Netns,
        table: &str,
        chain: &str,
    ) -> Result<Vec<Counted>, ToolError> {
        let listing = tables.chain(netns, table, chain)?;
        Ok(listing
            .lines()
            .filter_map(parse)
            .map(|(rule, packets)| {
                let before = self.seen.insert(format!("{table} {rule}"), packets).unwrap_or(0);
                // A rule that was made anew counts from zero again.
                let packets = packets.checked_sub(before).unwrap_or(packets);
                Counted { rule, packets }
            })
            .collect())
    }
}

/// Splits `-A CHAIN matches -c PACKETS BYTES -j TARGET` into the rule and its packets.
fn parse(line: &str) -> Option<(String, u64)> {
    if !line.starts_with("-A ") {
        return None;
    }
    let (matches, rest) = line.rsplit_once(" -c ")?;
    let mut words = rest.splitn(3, ' ');
    let packets = words.next()?.parse().ok()?;
    let _bytes = words.next()?;
    let rule = match words.next() {
        Some(target) => format!("{matches} {target}"),
        None => matches.to_owned(),
    };
    Some((rule, packets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_rule_is_split_into_rule_and_packets() {
        let line = "-A KUBE-X -s 10.0.0.1/32 -m comment --comment \"a -c 1 2 b\" -c 7 420 -j DNAT \
                    --to-destination 10.0.0.2:80";
        let (rule, packets) = parse(line).expect("a rule");
        assert_eq!(packets, 7);
        assert!(rule.ends_with("b\" -j DNAT --to-destination 10.0.0.2:80"), "{rule}");
        let counted = Counted { rule, packets };
        assert!(counted.jumps_to("DNAT --to-destination 10.0.0.2:80"));
        assert!(counted.bears(&["-s 10.0.0.1/32"]) && !counted.bears(&["-s 10.0.0.1/3"]));
        assert_eq!(parse("-N KUBE-X"), None);
        assert_eq!(parse("-P PREROUTING ACCEPT -c 5 6"), None);
    }
}
