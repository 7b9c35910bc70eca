// SPDX-License-Identifier: Apache-2.0
//! Chains as the tools list them one by one: another way to the same rules.

use harness::net::{Netns, Tool};
use harness::proxy::Backend;

/// Rules of an iptables chain.
pub(crate) fn iptables(node: &Netns, backend: Backend, table: &str, chain: &str) -> Vec<String> {
    let program = format!("iptables-{}", backend.word());
    let listing = Tool::new(program).args(["-t", table, "-S", chain]).run_on(node).unwrap();
    listing.lines().filter(|line| line.starts_with("-A ")).map(str::to_owned).collect()
}

/// Rules of an nf_tables chain.
pub(crate) fn nft(node: &Netns, table: &str, chain: &str) -> Vec<String> {
    let listing = Tool::new("nft").args(["list", "chain", "ip", table, chain]).run_on(node);
    let listing = listing.unwrap();
    let rules = listing.lines().skip(2).map(str::trim).filter(|line| *line != "}");
    rules.filter(|line| !line.contains(" hook ")).map(str::to_owned).collect()
}
