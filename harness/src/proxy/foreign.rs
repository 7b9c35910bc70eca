// SPDX-License-Identifier: Apache-2.0
//! What of which modes a node holds: a mode is proved only where no other could have carried the
//! packets. Looks at the entrances, which every packet of a mode passes, so that it takes the
//! same time beside one Service and beside ten thousand.

use std::io::{BufRead, BufReader};

use super::ProxyError;
use super::iptables::Backend;
use crate::net::addresses::word_of_nft;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::{IpFamily, Mode};
use crate::proxy::iptables::Tables;

/// One mode's entrance on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entrance {
    mode: Mode,
    /// In words, for messages.
    shown: String,
}

/// Fails if any mode but `own` is on the node. `backend` is where `own`'s rules are, if it has
/// iptables rules; looked for are rules of one family.
///
/// # Errors
/// [`ProxyError::NotProved`] names what was found.
pub(crate) fn expect_only(
    netns: &Netns,
    own: Mode,
    backend: Option<Backend>,
    family: IpFamily,
) -> Result<String, ProxyError> {
    let mut found = entrances(netns, own, backend, family).map_err(|source| ProxyError::Tool {
        op: "look for other",
        mode: own,
        source,
    })?;
    found.extend(programs(netns, own)?);
    refuse(netns, own, &found)?;
    let kinds =
        if cfg!(feature = "bpf") { ", virtual servers or programs" } else { " or virtual servers" };
    Ok(format!("no other mode has rules, tables{kinds} on the node"))
}

fn refuse(netns: &Netns, own: Mode, others: &[Entrance]) -> Result<(), ProxyError> {
    if others.is_empty() {
        return Ok(());
    }
    let shown = |other: &Entrance| format!("{} of mode {}", other.shown, other.mode);
    Err(ProxyError::NotProved {
        mode: own,
        host: netns.name().to_owned(),
        expected: "no other mode on the node".to_owned(),
        found: others.iter().map(shown).collect::<Vec<_>>().join(", "),
    })
}

fn entrances(
    netns: &Netns,
    own: Mode,
    backend: Option<Backend>,
    family: IpFamily,
) -> Result<Vec<Entrance>, ToolError> {
    let mut found = Vec::new();
    if own != Mode::Nftables && nft_table(netns, family)? {
        found.push(Entrance { mode: Mode::Nftables, shown: "nft table kube-proxy".to_owned() });
    }
    if own != Mode::Ipvs
        && let Some(server) = virtual_server(netns)
    {
        found.push(Entrance { mode: Mode::Ipvs, shown: format!("virtual server {server}") });
    }
    for one in [Backend::Nft, Backend::Legacy] {
        let own_here = (backend == Some(one)).then_some(own);
        found.extend(jumps(netns, one.of(family), own_here)?);
    }
    if own == Mode::Ipvs
        && let Some(backend) = backend
    {
        found.extend(per_service_rules(netns, backend.of(family))?);
    }
    Ok(found)
}

/// Programs at the devices' ingress. Mode ebpf knows its own by their numbers and looks itself.
#[cfg(feature = "bpf")]
fn programs(netns: &Netns, own: Mode) -> Result<Vec<Entrance>, ProxyError> {
    if own == Mode::Ebpf {
        return Ok(Vec::new());
    }
    let found = crate::bpf::ingress_programs(netns)
        .map_err(|source| ProxyError::Bpf { op: "look for programs of", source })?;
    let others = found.into_iter().filter(|program| !is_probe(&program.name));
    Ok(others
        .map(|program| {
            let shown = format!("BPF program {} at {}", program.name, program.device);
            Entrance { mode: Mode::Ebpf, shown }
        })
        .collect())
}

#[cfg(not(feature = "bpf"))]
fn programs(_: &Netns, _: Mode) -> Result<Vec<Entrance>, ProxyError> {
    Ok(Vec::new())
}

/// Whether a program of this name is one of the engine `bpf`, which looks and touches nothing
/// (`harness/bpf/probes.bpf.c`).
#[cfg(feature = "bpf")]
pub(crate) fn is_probe(name: &str) -> bool {
    name == "device_in"
}

/// Fails if programs at the devices could have carried the packets of a mode that has none.
///
/// # Errors
/// [`ProxyError::NotProved`] names what was found.
pub(crate) fn expect_no_programs(netns: &Netns, own: Mode) -> Result<(), ProxyError> {
    refuse(netns, own, &programs(netns, own)?)
}

fn nft_table(netns: &Netns, family: IpFamily) -> Result<bool, ToolError> {
    let ip = word_of_nft(family);
    match Tool::new("nft").args(["list", "chain", ip, "kube-proxy", "services"]).run_on(netns) {
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
fn jumps(netns: &Netns, tables: Tables, own: Option<Mode>) -> Result<Vec<Entrance>, ToolError> {
    if tables.backend == Backend::Legacy && !tables.has_table(netns, "nat") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for chain in ["PREROUTING", "OUTPUT"] {
        let listing = match tables.chain(netns, "nat", chain) {
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
                let shown = format!("{} jump from {chain} to {target}", tables.word());
                found.push(Entrance { mode: modes[0], shown });
            }
        }
    }
    Ok(found)
}

/// Modes ipvs and iptables both have a chain KUBE-SERVICES; only the latter has one rule for each
/// Service in it. kube-proxy has been known to fall back from one to the other without a word.
fn per_service_rules(netns: &Netns, tables: Tables) -> Result<Option<Entrance>, ToolError> {
    let rules = tables.chain(netns, "nat", "KUBE-SERVICES")?;
    let rule = rules.lines().find(|line| line.contains(" -j KUBE-SVC-"));
    Ok(rule.map(|rule| Entrance { mode: Mode::Iptables, shown: format!("rule {rule}") }))
}
