// SPDX-License-Identifier: Apache-2.0
//! A kube-proxy that runs on the node: nothing is rendered or applied here. It was told by its API
//! server, and what it made of that is read back from the kernel.

use super::super::foreign;
use super::super::ipvs::Carriage;
use super::super::watch::net;
use super::super::{
    Backend, Installed, NodeView, Options, Probe, ProxyError, RuleText, ServiceTable, Watch,
    iptables, ipvs, nftables,
};
use crate::net::addresses::word_of_nft;
use crate::net::conntrack::{self, Tuple};
use crate::net::{Netns, Tool, ToolError};
use crate::plan::{IpFamily, Mode};
use crate::proxy::iptables::Tables;

/// A kube-proxy on a node.
#[derive(Debug)]
pub struct KubeProxy {
    mode: Mode,
    /// Of the Services that it is watched for.
    family: IpFamily,
    /// Where its rules are, if it has iptables rules.
    tables: Option<Tables>,
    /// What it says of itself.
    word: String,
    /// What its servers have carried, where it has ip_vs.
    carriage: Carriage,
}

impl KubeProxy {
    /// The kube-proxy of a node, in a mode that it has said it is in, and its rules for a family; `word` is how it
    /// said so.
    ///
    /// # Errors
    /// [`ProxyError::NotProved`] where the kernel has no rules of such a mode.
    pub fn find(
        mode: Mode,
        family: IpFamily,
        word: String,
        netns: &Netns,
    ) -> Result<Self, ProxyError> {
        let tables = match mode {
            Mode::Iptables | Mode::Ipvs => Some(tables(mode, family, netns)?),
            _ => None,
        };
        Ok(Self { mode, family, tables, word, carriage: Carriage::default() })
    }

    /// The same, which is to have its rules in that iptables, if it has any there, and ip_vs choose by that
    /// scheduler.
    ///
    /// # Errors
    /// As [`KubeProxy::find`]; or its rules are in the other one.
    pub(super) fn find_as(
        Options { backend: asked, scheduler, .. }: Options,
        (mode, family): (Mode, IpFamily),
        word: String,
        netns: &Netns,
    ) -> Result<Self, ProxyError> {
        let found = Self::find(mode, family, word, netns)?;
        match found.tables.map(|tables| tables.backend) {
            Some(other) if other != asked => Err(ProxyError::NotProved {
                mode,
                host: netns.name().to_owned(),
                expected: format!("kube-proxy's chains in iptables-{}", asked.word()),
                found: format!("them in iptables-{}", other.word()),
            }),
            _ => Ok(Self { carriage: Carriage::by(Some(scheduler)), ..found }),
        }
    }

    /// Its rules, sets and servers as the kernel holds them, for the record.
    ///
    /// # Errors
    /// The kernel tool says no.
    pub fn texts(&self, netns: &Netns) -> Result<Vec<RuleText>, ProxyError> {
        let failed = |source| ProxyError::Tool { op: "read back", mode: self.mode, source };
        let read = |name, tool: &str, args: &[&str], counts: fn(&str) -> u64| {
            let text = Tool::new(tool).args(args.iter().copied()).run_on(netns).map_err(failed)?;
            Ok::<_, ProxyError>(RuleText { name, tool: Vec::new(), rules: counts(&text), text })
        };
        let mut texts = Vec::new();
        if self.mode == Mode::Ipvs {
            texts.push(read("ipset.rules", "ipset", &["save"], lines)?);
        }
        if let Some(tables) = self.tables {
            let text = tables.save_counters(netns).map_err(failed)?;
            let rules = text.lines().filter(|line| line.contains("] -A KUBE-")).count() as u64;
            texts.push(RuleText { name: "iptables.rules", tool: Vec::new(), text, rules });
        }
        match self.mode {
            Mode::Ipvs => texts.push(read("ipvs.rules", "ipvsadm", &["-S", "-n"], lines)?),
            Mode::Nftables => {
                let list = ["list", "table", word_of_nft(self.family), "kube-proxy"];
                texts.push(read("nftables.nft", "nft", &list, rules_and_elements)?);
            }
            _ => {}
        }
        Ok(texts)
    }

    fn not_proved(&self, node: &NodeView<'_>, expected: String, found: String) -> ProxyError {
        ProxyError::NotProved { mode: self.mode, host: node.name.to_owned(), expected, found }
    }

    /// That one of its rules sends packets to the pod that answered, by the rule's own text.
    fn translating_rule(
        &self,
        tables: Tables,
        node: &NodeView<'_>,
        probe: &Probe,
    ) -> Result<String, ProxyError> {
        let failed = |source| ProxyError::Tool { op: "read back", mode: self.mode, source };
        let rules = tables.save(node.netns, "nat").map_err(failed)?;
        let target = format!("-j DNAT --to-destination {}", probe.backend);
        let rule =
            rules.lines().find(|line| line.starts_with("-A KUBE-SEP-") && line.ends_with(&target));
        match rule {
            Some(rule) => Ok(format!("{} has `{rule}`", node.name)),
            None => {
                let found = format!("{} rules without it", rules.lines().count());
                Err(self.not_proved(node, format!("a rule with `{target}`"), found))
            }
        }
    }

    /// That connection tracking translated the probe to the pod that answered.
    fn translated(&self, node: &NodeView<'_>, probe: &Probe) -> Result<String, ProxyError> {
        let tuple = Tuple::tcp(probe.client, probe.destination);
        let flow = conntrack::find(node.netns, tuple).map_err(net(self.mode))?;
        match flow.and_then(|flow| flow.dnat()) {
            Some(to) if to == probe.backend => {
                Ok(format!("{}: {tuple} was translated to {to}", node.name))
            }
            other => {
                let expected = format!("{tuple} translated to {}", probe.backend);
                Err(self.not_proved(node, expected, format!("{other:?}")))
            }
        }
    }
}

fn lines(text: &str) -> u64 {
    text.lines().count() as u64
}

/// Rules and elements in what `nft list table` says. Rules are in blocks of chains, behind two tabs, as are a
/// chain's hook and comment; elements of maps and sets are between braces, with commas, which no name has.
fn rules_and_elements(listing: &str) -> u64 {
    let (mut in_chain, mut in_elements) = (false, false);
    let mut count = 0;
    for line in listing.lines() {
        let Some(inner) = line.strip_prefix("\t\t") else {
            in_chain = line.starts_with("\tchain ");
            continue;
        };
        if in_chain {
            let about_it = ["type ", "comment "].iter().any(|word| inner.starts_with(word));
            count += u64::from(!about_it);
            continue;
        }
        in_elements |= inner.starts_with("elements = {");
        if in_elements {
            // One more than commas: the last has none.
            let ends = inner.ends_with('}');
            count += inner.matches(',').count() as u64 + u64::from(ends);
            in_elements = !ends;
        }
    }
    count
}

/// Where kube-proxy's chains are: its image chooses, not the node.
fn tables(mode: Mode, family: IpFamily, netns: &Netns) -> Result<Tables, ProxyError> {
    for tables in [Backend::Nft, Backend::Legacy].map(|backend| backend.of(family)) {
        if !tables.has_table(netns, "nat") {
            continue;
        }
        match tables.chain(netns, "nat", "KUBE-SERVICES") {
            Ok(_) => return Ok(tables),
            Err(ToolError::Failed { .. } | ToolError::Start { .. }) => {}
            Err(source) => return Err(ProxyError::Tool { op: "look for", mode, source }),
        }
    }
    Err(ProxyError::NotProved {
        mode,
        host: netns.name().to_owned(),
        expected: "a chain KUBE-SERVICES in table nat".to_owned(),
        found: "none, with iptables-nft or iptables-legacy".to_owned(),
    })
}

impl Installed for KubeProxy {
    fn prove(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Vec<String>, ProxyError> {
        let mut evidence = vec![self.word.clone()];
        let backend = self.tables.map(|tables| tables.backend);
        evidence.push(foreign::expect_only(node.netns, self.mode, backend, self.family)?);
        if probe.destination == probe.backend {
            return Ok(evidence);
        }
        match (self.mode, self.tables) {
            (Mode::Iptables, Some(tables)) => {
                evidence.push(self.translating_rule(tables, node, probe)?);
            }
            (Mode::Ipvs, _) => evidence.extend(self.carriage.prove(node, table, probe)?),
            (Mode::Nftables, _) => evidence.extend(nftables::evidence(node, table, probe)?),
            _ => {}
        }
        evidence.push(self.translated(node, probe)?);
        Ok(evidence)
    }

    fn watch(&mut self, node: &NodeView<'_>) -> Result<Box<dyn Watch>, ProxyError> {
        match (self.mode, self.tables) {
            (Mode::Iptables, Some(tables)) => iptables::watch(tables, node),
            (Mode::Ipvs, Some(tables)) => ipvs::watch(tables, node),
            (Mode::Nftables, _) => nftables::watch(node),
            (mode, _) => Err(ProxyError::Unsupported {
                mode,
                what: "kube-proxy has no such mode".to_owned(),
            }),
        }
    }

    fn add_last(&mut self, _: &NodeView<'_>, _: &ServiceTable) -> Result<(), ProxyError> {
        let what = "kube-proxy adds Services by itself; tell its API server".to_owned();
        Err(ProxyError::Unsupported { mode: self.mode, what })
    }

    /// It stays: it is the cluster's.
    fn remove(self: Box<Self>, _: &NodeView<'_>) -> Result<(), ProxyError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_elements_are_counted_and_what_chains_have_besides_is_not() {
        let listing = "\
table ip kube-proxy {
\tset nodeport-ips {
\t\ttype ipv4_addr
\t\telements = { 10.8.0.2 }
\t}

\tmap service-ips {
\t\ttype ipv4_addr . inet_proto . inet_service : verdict
\t\telements = { 10.96.0.1 . tcp . 80 : goto a,
\t\t\t     10.96.0.2 . tcp . 80 : goto b }
\t}

\tchain nat-prerouting {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tjump services
\t}

\tchain a {
\t\tcomment \"helper\"
\t\tip saddr != 10.244.0.0/16 jump mark-for-masquerade
\t\tnumgen random mod 2 vmap { 0 : goto endpoint-1, 1 : goto endpoint-2 }
\t}
}
";
        assert_eq!(rules_and_elements(listing), 3 + 3);
        assert_eq!(rules_and_elements(""), 0);
    }
}
