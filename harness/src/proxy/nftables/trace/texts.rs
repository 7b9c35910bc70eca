// SPDX-License-Identifier: Apache-2.0
//! Texts of rules as `nft` prints them, found by the kernel's number for each.

use std::collections::{BTreeSet, HashMap};

use super::super::super::APPLY_PATIENCE;
use crate::net::addresses::word_of_nft;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::IpFamily;

/// Lists tables and returns texts by table and handle. Whole tables, because every call of nft
/// reads all sets and rules of the table anyway: beside 10,000 Services version 1.0.6 took 5 s for
/// one chain and 7 s for all of them, and two chains in one call it does not find.
pub(super) fn read(
    netns: &Netns,
    family: IpFamily,
    tables: &BTreeSet<String>,
) -> Result<HashMap<(String, u64), String>, ToolError> {
    let ip = word_of_nft(family);
    let mut texts = HashMap::new();
    for table in tables {
        // Terse: without the elements of sets that have names.
        let listing = Tool::new("nft")
            .args(["--handle", "--terse", "list", "table", ip, table])
            .within(APPLY_PATIENCE)
            .run_on(netns)?;
        texts.extend(parse(&listing));
    }
    Ok(texts)
}

/// A rule ends with `# handle NUMBER` and is within a chain, which is within a table. One with a
/// long map may take several lines.
fn parse(listing: &str) -> HashMap<(String, u64), String> {
    let mut texts = HashMap::new();
    let (mut table, mut open, mut in_chain) = (String::new(), String::new(), false);
    for line in listing.lines().map(str::trim) {
        let begun = line.strip_prefix("table ip ").or_else(|| line.strip_prefix("table ip6 "));
        if let Some(rest) = begun.filter(|_| !in_chain) {
            table = rest.split(' ').next().unwrap_or_default().to_owned();
        } else if !in_chain {
            in_chain = line.starts_with("chain ");
        } else if line == "}" && open.is_empty() {
            in_chain = false;
        } else if !open.is_empty() || !is_property(line) {
            let gap = if open.is_empty() { "" } else { " " };
            open.push_str(gap);
            open.push_str(line);
            let Some((text, handle)) = open.rsplit_once(" # handle ") else { continue };
            if let Ok(handle) = handle.parse() {
                texts.insert((table.clone(), handle), text.to_owned());
                open.clear();
            }
        }
    }
    texts
}

/// Whether a line in a chain is of the chain itself.
fn is_property(line: &str) -> bool {
    line.starts_with("comment ") || (line.starts_with("type ") && line.contains(" hook "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LISTING: &str = "\
table ip kube-proxy {
\tmap service-ips { # handle 9
\t\ttype ipv4_addr . inet_proto . inet_service : verdict
\t\tcomment \"ClusterIP, ExternalIP and LoadBalancer IP traffic\"
\t}

\tchain services { # handle 14
\t\tcomment \"a chain's own\"
\t\tip daddr . meta l4proto . th dport vmap @service-ips # handle 41
\t\tip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports # handle 42
\t}
}
table ip kube-proxy {
\tchain nat-prerouting { # handle 6
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tjump services # handle 30
\t}
\tchain service-X { # handle 50
\t\tnumgen random mod 2 vmap { 0 : goto endpoint-A,
\t\t\t1 : goto endpoint-B } # handle 53
\t}
}
";

    #[test]
    fn rules_are_found_by_table_and_handle() {
        let texts = parse(LISTING);
        let text = |handle| texts[&("kube-proxy".to_owned(), handle)].as_str();
        assert_eq!(text(41), "ip daddr . meta l4proto . th dport vmap @service-ips");
        assert_eq!(text(30), "jump services");
        assert_eq!(
            text(53),
            "numgen random mod 2 vmap { 0 : goto endpoint-A, 1 : goto endpoint-B }"
        );
        assert_eq!(texts.len(), 4);
    }

    proptest! {
        #[test]
        fn a_damaged_listing_is_read_without_a_panic(
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = LISTING.as_bytes().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
