// SPDX-License-Identifier: Apache-2.0
//! Whether a kube-proxy has done what its API server told it.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::net::addresses::word_of_nft;
use crate::net::{Netns, Tool, ToolError};
use crate::plan::{IpFamily, Mode};
use crate::proxy::{Backend, ServiceTable};

/// What is not yet in a node's kernel, or no longer should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Cluster addresses that are not there.
    pub(crate) services: usize,
    /// Endpoints that nothing translates to.
    pub(crate) endpoints: usize,
    /// Cluster addresses of Services that are gone.
    pub(crate) stale: usize,
}

impl Missing {
    /// Whether nothing is.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, endpoints, stale } = self;
        write!(
            f,
            "{services} Services and {endpoints} endpoints are not in its kernel, and {stale} are that \
             should be gone"
        )
    }
}

/// Compares a node's kernel with a table of a family; `gone` are cluster addresses that it had before.
pub(crate) fn missing(
    mode: Mode,
    family: IpFamily,
    netns: &Netns,
    table: &ServiceTable,
    gone: &[IpAddr],
) -> Result<Missing, ToolError> {
    let text = match mode {
        Mode::Iptables => {
            let mut text = String::new();
            for backend in [Backend::Nft, Backend::Legacy] {
                let tables = backend.of(family);
                if tables.has_table(netns, "nat") {
                    text.push_str(&tables.save(netns, "nat")?);
                }
            }
            text
        }
        Mode::Ipvs => listing(netns, "ipvsadm", &["-Sn"])?,
        Mode::Nftables => {
            listing(netns, "nft", &["list", "table", word_of_nft(family), "kube-proxy"])?
        }
        Mode::None | Mode::Userspace | Mode::Ebpf => return Ok(Missing::default()),
    };
    Ok(compare(&text, table, gone))
}

/// The tool's text; none where the table is not there yet.
fn listing(netns: &Netns, tool: &str, args: &[&str]) -> Result<String, ToolError> {
    match Tool::new(tool).args(args).run_on(netns) {
        Err(ToolError::Failed { .. }) => Ok(String::new()),
        outcome => outcome,
    }
}

fn compare(text: &str, table: &ServiceTable, gone: &[IpAddr]) -> Missing {
    // All three tools print addresses and endpoints as words of their own.
    let of_address = |sign: char| sign.is_ascii_hexdigit() || ".:[]".contains(sign);
    let words: HashSet<&str> = text.split(|sign| !of_address(sign)).collect();
    let has = |address: IpAddr, ports: &[u16]| {
        words.contains(address.to_string().as_str())
            || ports
                .iter()
                .any(|&port| words.contains(SocketAddr::new(address, port).to_string().as_str()))
    };
    let mut missing = Missing::default();
    for service in &table.services {
        let served: Vec<_> =
            service.ports.iter().filter(|port| !port.endpoints.is_empty()).collect();
        // Without endpoints there is nothing to translate to.
        if served.is_empty() {
            continue;
        }
        let ports: Vec<u16> = served.iter().map(|port| port.port).collect();
        if !has(service.cluster_ip, &ports) {
            missing.services += 1;
        }
        let endpoints = served.iter().flat_map(|port| &port.endpoints);
        let absent = endpoints.filter(|e| !words.contains(e.address.to_string().as_str()));
        missing.endpoints += absent.count();
    }
    missing.stale = gone.iter().filter(|&&address| has(address, &[])).count();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Position;
    use crate::proxy::Fill;

    fn table(services: u32) -> ServiceTable {
        let fill = Fill { services, endpoints: 1, position: Position::Last, seed: 1 };
        fill.table(Vec::new()).unwrap()
    }

    fn rules(table: &ServiceTable) -> String {
        table.services.iter().fold(String::new(), |mut text, service| {
            let endpoint = service.ports[0].endpoints[0].address;
            text.push_str(&format!(
                "-A KUBE-SERVICES -d {}/32 -j KUBE-SVC-X\n",
                service.cluster_ip
            ));
            text.push_str(&format!("-A KUBE-SEP-X -j DNAT --to-destination {endpoint}\n"));
            text
        })
    }

    #[test]
    fn what_is_there_is_not_missing_and_what_is_not_is_counted() {
        let (three, two) = (table(3), table(2));
        assert!(compare(&rules(&three), &three, &[]).is_nothing());
        let missing = compare(&rules(&two), &three, &[]);
        assert_eq!(missing, Missing { services: 1, endpoints: 1, stale: 0 });
    }

    #[test]
    fn an_address_is_not_taken_for_one_that_begins_like_it() {
        let mut short = table(1);
        short.services[0].cluster_ip = IpAddr::from([10, 96, 0, 1]);
        let text = rules(&short).replace("10.96.0.1/", "10.96.0.10/");
        assert_eq!(compare(&text, &short, &[]).services, 1);
    }

    #[test]
    fn services_that_are_gone_are_stale_as_long_as_they_are_there() {
        let two = table(2);
        let gone = [two.services[1].cluster_ip];
        let one = ServiceTable { services: two.services[..1].to_vec() };
        assert_eq!(compare(&rules(&two), &one, &gone).stale, 1);
        assert_eq!(compare(&rules(&one), &one, &gone).stale, 0);
    }
}
