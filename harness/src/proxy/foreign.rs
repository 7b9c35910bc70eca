// SPDX-License-Identifier: Apache-2.0
//! What of which modes a node holds: a mode is proved only where no other could have carried the
//! packets. Looks at the entrances, which every packet of a mode passes, so that it takes the
//! same time beside one Service and beside ten thousand.

use std::io::{BufRead, BufReader};

use super::ProxyError;
use super::iptables::Backend;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::Mode;

/// One mode's entrance on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entrance {
    mode: Mode,
    /// In words, for messages.
    shown: String,
}

/// Fails if any mode but `own` is on the node. `backend` is where `own`'s rules are, if it has
/// iptables rules.
///
/// # Errors
/// [`ProxyError::NotProved`] names what was found.
pub(crate) fn expect_only(
    netns: &Netns,
    own: Mode,
    backend: Option<Backend>,
) -> Result<String, ProxyError> {
    let found = entrances(netns, own, backend).map_err(|source| ProxyError::Tool {
        op: "look for other",
        mode: own,
        source,
    })?;
    match found.as_slice() {
        [] => Ok("no other mode has rules, tables or virtual servers on the node".to_owned()),
        others => Err(ProxyError::NotProved {
            mode: own,
            host: netns.name().to_owned(),
            expected: "no other mode on the node".to_owned(),
            found: others
                .iter()
                .map(|other| format!("{} of mode {}", other.shown, other.mode))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn entrances(
    netns: &Netns,
    own: Mode,
    backend: Option<Backend>,
) -> Result<Vec<Entrance>, ToolError> {
    let mut found = Vec::new();
    if own != Mode::Nftables && nft_table(netns)? {
        found.push(Entrance { mode: Mode::Nftables, shown: "nft table kube-proxy".to_owned() });
    }
    if own != Mode::Ipvs
        && let Some(server) = virtual_server(netns)
    {
        found.push(Entrance { mode: Mode::Ipvs, shown: format!("virtual server {server}") });
    }
    for one in [Backend::Nft, Backend::Legacy] {
        let own_here = (backend == Some(one)).then_some(own);
        found.extend(jumps(netns, one, own_here)?);
    }
    if own == Mode::Ipvs
        && let Some(backend) = backend
    {
        found.extend(per_service_rules(netns, backend)?);
    }
    Ok(found)
}

fn nft_table(netns: &Netns) -> Result<bool, ToolError> {
    match Tool::new("nft").args(["list", "chain", "ip", "kube-proxy", "services"]).run_on(netns) {
        Ok(_) => Ok(true),
        Err(ToolError::Failed { .. }) => Ok(false),
        // Without the program nothing on this machine could have made the table.
        Err(ToolError::Start { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first virtual server of ip_vs, if there is one. Three lines of headings come before it.
fn virtual_server(netns: &Netns) -> Option<String> {
    netns.run(|| {
        let file = std::fs::File::open("/proc/thread-self/net/ip_vs").ok()?;
        BufReader::new(file).lines().nth(3)?.ok()
    })
}

/// Jumps from table nat's built-in chains into the chains of modes other than `own`.
fn jumps(netns: &Netns, backend: Backend, own: Option<Mode>) -> Result<Vec<Entrance>, ToolError> {
    if backend == Backend::Legacy && !backend.has_table(netns, "nat") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for chain in ["PREROUTING", "OUTPUT"] {
        let listing = match backend.chain(netns, "nat", chain) {
            Ok(listing) => listing,
            // The tool of the backend that is not used need not be there.
            Err(ToolError::Start { .. }) if own.is_none() => continue,
            Err(error) => return Err(error),
        };
        for line in listing.lines() {
            let Some((_, target)) = line.split_once(" -j ") else { continue };
            let modes: &[Mode] = match target {
                "KUBE-SERVICES" => &[Mode::Iptables, Mode::Ipvs],
                "KUBE-PORTALS-CONTAINER" | "KUBE-PORTALS-HOST" => &[Mode::Userspace],
                _ => continue,
            };
            if own.is_none_or(|own| !modes.contains(&own)) {
                let shown = format!("{} jump from {chain} to {target}", backend.word());
                found.push(Entrance { mode: modes[0], shown });
            }
        }
    }
    Ok(found)
}

/// Modes ipvs and iptables both have a chain KUBE-SERVICES; only the latter has one rule for each
/// Service in it. kube-proxy has been known to fall back from one to the other without a word.
fn per_service_rules(netns: &Netns, backend: Backend) -> Result<Option<Entrance>, ToolError> {
    let rules = backend.chain(netns, "nat", "KUBE-SERVICES")?;
    let rule = rules.lines().find(|line| line.contains(" -j KUBE-SVC-"));
    Ok(rule.map(|rule| Entrance { mode: Mode::Iptables, shown: format!("rule {rule}") }))
}
