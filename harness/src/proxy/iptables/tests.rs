// SPDX-License-Identifier: Apache-2.0
//! The text, against kube-proxy's own and against what it has to mean.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::proxy::{Endpoint, Policy, ServicePort};

fn text(table: &ServiceTable) -> String {
    Iptables::default().whole(Backend::Nft.of(IpFamily::Ipv4), table, sample::NODE).text
}

#[test]
fn every_kind_of_service_is_written_as_kube_proxy_writes_it() {
    insta::assert_snapshot!(text(&sample::every_kind()));
}

/// But for addresses and what is named after them, the words are the same, and two rules are IPv4's alone.
#[test]
fn of_ipv6_it_is_the_same_for_ip6tables() {
    let node: IpAddr = "fd00:10:9::b".parse().unwrap();
    let of = |table, node| Iptables::default().render(&table, sample::NODE, node).remove(0);
    let four = of(sample::every_kind(), "10.9.0.11".parse().unwrap());
    let six = of(sample::in_ipv6(sample::every_kind()), node);
    assert_eq!((&*four.tool[0], &*six.tool[0]), ("iptables-nft-restore", "ip6tables-nft-restore"));
    let is_address = |word: &str| word.contains("10.") || word.contains("fd00:");
    let words = |text: &str| -> Vec<String> {
        let words = text.split([' ', '\n', '"']).map(|word| match word {
            word if is_address(word) => "ADDRESS".to_owned(),
            // Named after the endpoint's address.
            word if word.contains("KUBE-SEP-") => "KUBE-SEP".to_owned(),
            word => word.to_owned(),
        });
        words.collect()
    };
    let localnet = |line: &&str| !line.contains("block incoming localnet connections");
    let of_four: Vec<_> = four.text.lines().filter(localnet).collect();
    let of_six = six.text.replace("! -d ::1/128 ", "");
    assert_ne!(of_six, six.text);
    assert_eq!(words(of_six.trim_end()), words(&of_four.join("\n")));
    let endpoint = "-j DNAT --to-destination [fd00:10:244::2]:8080\n";
    assert!(six.text.contains(endpoint), "{}", six.text);
}

#[test]
fn a_large_cluster_has_no_comments_on_endpoint_rules() {
    let mut service = sample::plain();
    let endpoint = service.ports[0].endpoints[0].clone();
    service.ports[0].endpoints = vec![endpoint; BRIEF_BEYOND];
    let small = text(&ServiceTable { services: vec![service.clone()] });
    assert!(small.contains("--comment \"sample/plain:http -> "));
    let endpoints = &mut service.ports[0].endpoints;
    endpoints.push(endpoints[0].clone());
    let large = text(&ServiceTable { services: vec![service] });
    assert!(!large.contains("--comment \"sample/plain:http -> "));
    assert!(large.contains("--comment \"sample/plain:http cluster IP\""));
}

#[test]
fn a_service_is_added_before_the_rule_to_the_node_ports() {
    let mut table = sample::every_kind();
    let mut added = sample::every_kind().services.remove(1);
    added.name = "added".to_owned();
    table.services.push(added);
    insta::assert_snapshot!(addition(&table, sample::NODE, 10));
}

#[test]
fn what_a_proof_expects_in_kube_services_is_what_was_written() {
    let table = sample::every_kind();
    let text = text(&table);
    let nat = &text[text.find("*nat").expect("a nat table")..];
    let written = nat.lines().filter(|line| line.starts_with("-A KUBE-SERVICES ")).count() as u64;
    assert_eq!(evidence::service_rules(&table.services, sample::NODE) + 1, written);
}

/// A chain's rules: matches and target.
type Chains<'a> = HashMap<&'a str, Vec<(&'a str, &'a str)>>;

fn chains<'a>(text: &'a str, table: &str) -> (HashSet<&'a str>, Chains<'a>) {
    let start = text.find(&format!("*{table}\n")).expect("the table");
    let body = &text[start..start + text[start..].find("COMMIT").expect("its end")];
    let mut declared = HashSet::new();
    let mut rules = Chains::new();
    for line in body.lines() {
        if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().expect("a name");
            assert!(declared.insert(name), "{name} declared twice");
        } else if let Some(rule) = line.strip_prefix("-A ").or(line.strip_prefix("-I ")) {
            let (chain, rest) = rule.split_once(' ').expect("a rule after the chain");
            let (matches, target) = match rest.rsplit_once("-j ") {
                Some(parts) => parts,
                None => panic!("no target in {line}"),
            };
            rules.entry(chain).or_default().push((matches, target));
        }
    }
    (declared, rules)
}

fn probability(matches: &str) -> f64 {
    match matches.split_once("--probability ") {
        Some((_, rest)) => rest.split(' ').next().expect("a word").parse().expect("a number"),
        None => 1.0,
    }
}

/// Share of the traffic that enters `chain` and leaves it for each endpoint.
fn shares(rules: &Chains<'_>, chain: &str) -> HashMap<SocketAddr, f64> {
    let mut left = 1.0;
    let mut shares = HashMap::new();
    for (matches, target) in &rules[chain] {
        if *target == "KUBE-MARK-MASQ" || matches.contains("-m recent") {
            continue;
        }
        let to_endpoint: Vec<_> = rules[target]
            .iter()
            .filter_map(|(_, target)| target.strip_prefix("DNAT --to-destination "))
            .collect();
        assert_eq!(to_endpoint.len(), 1, "{target} leads to one endpoint");
        let endpoint = to_endpoint[0].parse().expect("an address");
        let share = left * probability(matches);
        left -= share;
        assert!(shares.insert(endpoint, share).is_none(), "{endpoint} reached twice");
    }
    assert!(left.abs() < 1e-9, "{left} of the traffic falls through {chain}");
    shares
}

fn policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(vec![Policy::Cluster, Policy::Local])
}

prop_compose! {
    fn service()(
        name in "[a-z]{1,20}", port_name in "[a-z]{0,10}", nodes in prop::collection::vec(0u8..2, 0..40),
        node_port in prop::option::of(30_000u16..32_768), balanced: bool, sticky: bool,
        external_policy in policy(), internal_policy in policy(),
    ) -> Service {
        let endpoints = nodes.iter().enumerate().map(|(pod, node)| Endpoint {
            address: SocketAddr::new(IpAddr::from([10, 244, *node, pod as u8 + 2]), 8080),
            node: format!("node{}", node + 1),
        });
        let mut service = sample::every_kind().services.remove(if sticky { 2 } else { 0 });
        service.ports = vec![ServicePort {
            name: port_name, node_port, endpoints: endpoints.collect(), ..service.ports[0].clone()
        }];
        let load_balancer_ips =
            if balanced { vec![IpAddr::from([10, 112, 0, 1])] } else { Vec::new() };
        Service { name, load_balancer_ips, external_policy, internal_policy, ..service }
    }
}

proptest! {
    #[test]
    fn every_endpoint_has_its_equal_share_and_no_jump_leads_nowhere(service in service()) {
        let table = ServiceTable { services: vec![service.clone()] };
        let text = text(&table);
        for name in ["filter", "nat"] {
            let (declared, rules) = chains(&text, name);
            for chain in &declared {
                prop_assert!(chain.len() <= 28, "{} is too long for a chain", chain);
            }
            for (from, rules) in &rules {
                let built_in = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
                prop_assert!(declared.contains(from) || built_in.contains(from), "{}", from);
                for (_, target) in rules.iter().filter(|(_, target)| target.starts_with("KUBE-")) {
                    prop_assert!(declared.contains(target), "{} is not declared", target);
                }
            }
        }
        let (_, rules) = chains(&text, "nat");
        let port = &service.ports[0];
        let rules_of = PortRules::new(&service, port, sample::NODE);
        let endpoints = |policy| port.endpoints.iter().filter(move |endpoint| {
            policy == Policy::Cluster || endpoint.node == sample::NODE
        });
        for policy in [service.internal_policy, service.external_policy] {
            let chain = rules_of.policy_chain(policy).to_string();
            let external = port.node_port.is_some() || !service.load_balancer_ips.is_empty();
            let used = policy == service.internal_policy || external;
            let count = endpoints(policy).count();
            if !used || count == 0 {
                continue;
            }
            let shares = shares(&rules, &chain);
            prop_assert_eq!(shares.len(), count);
            for endpoint in endpoints(policy) {
                let share = shares[&endpoint.address];
                // Ten decimals of a probability, multiplied at most forty times.
                prop_assert!((share - 1.0 / count as f64).abs() < 1e-8, "{} of {}", share, count);
            }
        }
    }
}
