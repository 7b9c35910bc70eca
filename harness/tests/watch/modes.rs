// SPDX-License-Identifier: Apache-2.0
//! Each mode's rules are named as its structure demands, and counted the same every time.

use std::net::SocketAddr;
use std::time::Instant;

use harness::plan::{IpvsScheduler, Mode, NftablesTransactions};
use harness::proxy::{Backend, Endpoint, Matched, Options, Probe, ProxyError};
use record::MatchedRule;

use crate::bench::{Asker, Bench, NODE_PORT, VIP, endpoint};
use crate::listing;
use crate::service_lab::{NODE, ask, nft};

const NFT: Options = Options {
    backend: Backend::Nft,
    scheduler: IpvsScheduler::Rr,
    transactions: NftablesTransactions::Whole,
};
const LEGACY: Options = Options { backend: Backend::Legacy, ..NFT };

fn local() -> Vec<Endpoint> {
    vec![endpoint(1, NODE)]
}

/// Chains with matched rules of a table, runs of the same one named once. A Service's own chains
/// are cut to their prefix.
fn chains(rules: &[MatchedRule], table: &str) -> Vec<String> {
    let mut chains: Vec<String> = rules
        .iter()
        .filter(|rule| rule.table == table)
        .map(|rule| {
            let prefixes =
                ["KUBE-SVC-", "KUBE-EXT-", "KUBE-SEP-", "service-", "external-", "endpoint-"];
            let own = rule.chain != "service-endpoints-check";
            let prefix = prefixes.iter().find(|prefix| own && rule.chain.starts_with(**prefix));
            prefix.map_or(rule.chain.clone(), |prefix| (*prefix).to_owned())
        })
        .collect();
    chains.dedup();
    chains
}

fn tells_who_answered(matched: &Matched, probe: &Probe) {
    assert_eq!(matched.endpoint, Some(probe.backend), "{matched:#?}");
    let client = probe.client.to_string();
    assert!(matched.objects.iter().any(|object| object.contains(&client)), "{matched:#?}");
}

/// Rules stand where an independent listing has them, and were met in that order.
fn stands_where_it_is_listed(bench: &Bench, matched: &Matched, backend: Option<Backend>) {
    assert!(!matched.rules.is_empty());
    for rule in matched.rules.iter().filter(|rule| rule.position > 0) {
        let listed = match backend {
            Some(backend) => listing::iptables(&bench.lab.node, backend, &rule.table, &rule.chain),
            None => listing::nft(&bench.lab.node, &rule.table, &rule.chain),
        };
        assert_eq!(listed.len(), rule.of as usize, "{rule:?}");
        assert_eq!(listed[rule.position as usize - 1], rule.text);
    }
    for pair in matched.rules.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let in_order = before.hook != after.hook || before.walked_before <= after.walked_before;
        assert!(in_order, "{before:?} then {after:?}");
    }
}

/// Watches the same twice, and returns it.
fn twice(bench: &mut Bench, asker: Asker, to: SocketAddr) -> Matched {
    let (first, probe) = bench.watch(asker, to);
    let (second, _) = bench.watch(asker, to);
    assert_eq!((&first.rules, first.walked), (&second.rules, second.walked), "{:?}", bench.mode);
    if probe.destination != probe.backend {
        tells_who_answered(&first, &probe);
    }
    first
}

/// Rules walked to the NodePort, and to the cluster address from a pod, with this many Services.
fn walked(which: Mode, options: Options, services: u32) -> Option<[u64; 2]> {
    let mut bench = Bench::up(which, options, services, local())?;
    let walked = [(Asker::Client, NODE_PORT), (Asker::Pod, VIP)]
        .map(|(asker, to)| twice(&mut bench, asker, to).walked);
    eprintln!("{which} {} with {services} Services: {walked:?}", options.backend.word());
    bench.down();
    Some(walked)
}

/// Every Service before the measured one costs `each` rules, on either road.
fn grows_by(which: Mode, options: Options, each: [u64; 2]) {
    let Some(one) = walked(which, options, 1) else { return };
    for services in [50, 200] {
        let more = walked(which, options, services).unwrap();
        for road in 0..2 {
            let expected = one[road] + each[road] * u64::from(services - 1);
            assert_eq!(more[road], expected, "{which}, road {road}, {services} Services");
        }
    }
}

#[test]
fn every_service_before_it_is_one_rule_more_to_walk_in_iptables_nft() {
    grows_by(Mode::Iptables, NFT, [1, 1]);
}

#[test]
fn every_service_before_it_is_one_rule_more_to_walk_in_iptables_legacy() {
    grows_by(Mode::Iptables, LEGACY, [1, 1]);
}

#[test]
fn every_service_before_it_is_walked_by_both_connections_of_the_relay() {
    grows_by(Mode::Userspace, NFT, [2, 2]);
}

#[test]
fn services_before_it_are_not_walked_in_nftables() {
    grows_by(Mode::Nftables, NFT, [0, 0]);
}

#[test]
fn services_before_it_are_not_walked_in_ipvs() {
    grows_by(Mode::Ipvs, NFT, [0, 0]);
}

/// Two looks at the counters of ninety thousand rules, and the replay between them.
#[test]
fn of_ten_thousand_services_the_last_one_is_told_in_seconds() {
    for options in [NFT, LEGACY] {
        let Some(mut bench) = Bench::up(Mode::Iptables, options, 10_000, local()) else { continue };
        let start = Instant::now();
        let (matched, probe) = bench.watch(Asker::Client, NODE_PORT);
        eprintln!("{} watched in {:?}", options.backend.word(), start.elapsed());
        tells_who_answered(&matched, &probe);
        let services = matched.rules.iter().find(|rule| rule.chain == "KUBE-SERVICES").unwrap();
        assert_eq!((services.position, services.of), (10_001, 10_001));
        bench.down();
    }
}

fn iptables_names_its_chains(options: Options) {
    let backend = Some(options.backend);
    // Where an endpoint is makes no difference to the rules, only to the way its packets take.
    for node in [NODE, "node2"] {
        let Some(mut bench) = Bench::up(Mode::Iptables, options, 3, vec![endpoint(1, node)]) else {
            return;
        };
        let matched = twice(&mut bench, Asker::Client, NODE_PORT);
        stands_where_it_is_listed(&bench, &matched, backend);
        assert_eq!(
            chains(&matched.rules, "nat"),
            [
                "PREROUTING",
                "KUBE-SERVICES",
                "KUBE-NODEPORTS",
                "KUBE-EXT-",
                "KUBE-MARK-MASQ",
                "KUBE-EXT-",
                "KUBE-SVC-",
                "KUBE-SEP-",
                "POSTROUTING",
                "KUBE-POSTROUTING",
            ]
        );
        // Marked packets leave FORWARD by the rule that lets them through.
        let last = matched.rules.iter().rfind(|rule| rule.hook == "FORWARD").unwrap();
        assert!(last.chain == "KUBE-FORWARD" && last.text.ends_with("-j ACCEPT"), "{last:?}");
        let masquerade = matched.rules.last().unwrap();
        assert!(masquerade.text.contains("-j MASQUERADE"), "{masquerade:?}");

        let matched = twice(&mut bench, Asker::Pod, VIP);
        stands_where_it_is_listed(&bench, &matched, backend);
        assert_eq!(
            chains(&matched.rules, "nat"),
            [
                "PREROUTING",
                "KUBE-SERVICES",
                "KUBE-SVC-",
                "KUBE-SEP-",
                "POSTROUTING",
                "KUBE-POSTROUTING",
            ]
        );
        let services = matched.rules.iter().find(|rule| rule.chain == "KUBE-SERVICES").unwrap();
        // Two Services before it; before them, the jump from PREROUTING.
        assert_eq!((services.position, services.of, services.walked_before), (3, 4, 3));

        // Straight to a pod: the entrance is walked and nothing chosen.
        let pod = endpoint(1, node).address;
        let matched = twice(&mut bench, Asker::Client, pod);
        assert_eq!(matched.endpoint, None);
        let expected = ["PREROUTING", "POSTROUTING", "KUBE-POSTROUTING"];
        assert_eq!(chains(&matched.rules, "nat"), expected);
        bench.down();
    }
}

#[test]
fn iptables_nft_names_the_chains_of_kube_proxy_in_order() {
    iptables_names_its_chains(NFT);
}

#[test]
fn iptables_legacy_names_the_chains_of_kube_proxy_in_order() {
    iptables_names_its_chains(LEGACY);
}

#[test]
fn userspace_names_the_rules_of_both_connections_and_the_relay() {
    let Some(mut bench) = Bench::up(Mode::Userspace, NFT, 3, local()) else { return };
    for (asker, to, portal) in [
        (Asker::Client, NODE_PORT, "KUBE-NODEPORT-CONTAINER"),
        (Asker::Pod, VIP, "KUBE-PORTALS-CONTAINER"),
    ] {
        let matched = twice(&mut bench, asker, to);
        stands_where_it_is_listed(&bench, &matched, Some(Backend::Nft));
        let nat = chains(&matched.rules, "nat");
        assert!(nat.iter().any(|chain| chain == portal), "{nat:?}");
        let hooks: Vec<&str> = matched.rules.iter().map(|rule| rule.hook.as_str()).collect();
        let own = hooks.iter().position(|hook| *hook == "INPUT").unwrap();
        let relays = hooks.iter().position(|hook| *hook == "OUTPUT").unwrap();
        assert!(own < relays, "{hooks:?}");
        assert!(matched.objects.iter().any(|object| object.starts_with("relay: ")), "{matched:?}");
    }
    bench.down();
}

#[test]
fn nftables_names_its_chains_and_the_elements_of_its_maps() {
    for node in [NODE, "node2"] {
        let Some(mut bench) = Bench::up(Mode::Nftables, NFT, 3, vec![endpoint(1, node)]) else {
            return;
        };
        let matched = twice(&mut bench, Asker::Client, NODE_PORT);
        stands_where_it_is_listed(&bench, &matched, None);
        assert_eq!(
            chains(&matched.rules, "kube-proxy"),
            [
                "filter-prerouting",
                "nat-prerouting",
                "services",
                "external-",
                "mark-for-masquerade",
                "external-",
                "service-",
                "endpoint-",
                "filter-forward",
                "nat-postrouting",
                "masquerading",
            ]
        );
        let element = matched.rules.iter().find(|rule| rule.position == 0).unwrap();
        assert_eq!((element.table.as_str(), element.of), ("service-nodeports", 1));
        assert!(element.text.starts_with("tcp . 30080 : goto external-"), "{element:?}");

        let matched = twice(&mut bench, Asker::Pod, VIP);
        stands_where_it_is_listed(&bench, &matched, None);
        assert_eq!(
            chains(&matched.rules, "kube-proxy"),
            [
                "filter-prerouting",
                "nat-prerouting",
                "services",
                "service-",
                "endpoint-",
                "filter-forward",
                "nat-postrouting",
                "masquerading",
            ]
        );
        let element = matched.rules.iter().find(|rule| rule.position == 0).unwrap();
        assert_eq!((element.table.as_str(), element.of), ("service-ips", 3));
        assert!(element.text.starts_with("10.96.0.100 . tcp . 80 : goto service-"), "{element:?}");
        let lab = bench.down();
        let tables = harness::net::Tool::new("nft").args(["list", "tables"]).run_on(&lab.node);
        assert_eq!(tables.unwrap(), "", "the table of the watch is left");
    }
}

#[test]
fn ipvs_names_its_sets_its_server_and_its_connection() {
    let Some(mut bench) = Bench::up(Mode::Ipvs, NFT, 3, local()) else { return };
    let matched = twice(&mut bench, Asker::Client, NODE_PORT);
    stands_where_it_is_listed(&bench, &matched, Some(Backend::Nft));
    assert_eq!(
        chains(&matched.rules, "nat"),
        [
            "PREROUTING",
            "KUBE-SERVICES",
            "KUBE-NODE-PORT",
            "KUBE-MARK-MASQ",
            "POSTROUTING",
            "KUBE-POSTROUTING",
        ]
    );
    let members = |matched: &Matched| -> Vec<String> {
        let sets = matched.rules.iter().filter(|rule| rule.position == 0);
        sets.map(|rule| format!("{} {} of {}", rule.table, rule.text, rule.of)).collect()
    };
    assert!(members(&matched).contains(&"KUBE-NODE-PORT-TCP 30080 of 1".to_owned()));
    for what in ["ip_vs virtual server: TCP 10.9.0.11:30080 rr", "ip_vs connection: tcp "] {
        assert!(matched.objects.iter().any(|object| object.starts_with(what)), "{matched:#?}");
    }
    let matched = twice(&mut bench, Asker::Pod, VIP);
    stands_where_it_is_listed(&bench, &matched, Some(Backend::Nft));
    let member = "KUBE-CLUSTER-IP 10.96.0.100,tcp:80 of 3".to_owned();
    assert!(members(&matched).contains(&member), "{matched:#?}");
    bench.down();
}

#[test]
fn of_two_endpoints_the_one_is_named_that_answered() {
    for (which, options) in [
        (Mode::Iptables, NFT),
        (Mode::Iptables, LEGACY),
        (Mode::Userspace, NFT),
        (Mode::Nftables, NFT),
    ] {
        let both = vec![endpoint(0, NODE), endpoint(1, NODE)];
        let Some(mut bench) = Bench::up(which, options, 1, both) else { continue };
        let mut chosen = Vec::new();
        for _ in 0..12 {
            let (matched, probe) = bench.watch(Asker::Client, VIP);
            tells_who_answered(&matched, &probe);
            chosen.extend(matched.endpoint);
        }
        chosen.sort_unstable();
        chosen.dedup();
        // One in two thousand runs, all of them go to one endpoint.
        assert_eq!(chosen.len(), 2, "{which}: {chosen:?}");
        bench.down();
    }
}

#[test]
fn without_a_mode_nothing_is_walked_unless_the_node_has_rules() {
    let Some(mut bench) = Bench::up(Mode::None, NFT, 1, local()) else { return };
    let pod = endpoint(1, NODE).address;
    assert_eq!(twice(&mut bench, Asker::Client, pod).walked, 0);
    nft(
        &bench.lab.node,
        "table ip other {\n chain forward {\n type filter hook forward priority 0;\n \
         ip daddr 1.2.3.4 drop\n ct state new accept\n }\n}\n",
    );
    let matched = twice(&mut bench, Asker::Client, pod);
    assert_eq!(matched.walked, 2);
    let [rule] = &matched.rules[..] else { panic!("{matched:#?}") };
    assert_eq!(
        (rule.table.as_str(), rule.position, rule.of, rule.walked_before),
        ("other", 2, 2, 1)
    );
    assert_eq!(rule.text, "ct state new accept");
    // The rule on `ct` has made the node track connections.
    let tracked = matched.objects.iter().any(|object| object.starts_with("conntrack entry: tcp"));
    assert!(tracked, "{matched:?}");
}

/// What counters and what the kernel's own tracing say of the same packet, in one watch.
#[test]
fn counters_and_tracing_agree_on_the_walk_through_iptables_nft() {
    let Some(mut bench) = Bench::up(Mode::Iptables, NFT, 20, local()) else { return };
    for (asker, to) in [(Asker::Client, NODE_PORT), (Asker::Pod, VIP)] {
        let (counted, traced) = bench.watch_by_both(asker, to);
        let places = |matched: &Matched| -> Vec<_> {
            let place = |rule: &MatchedRule| {
                let MatchedRule { hook, table, chain, position, of, walked_before, .. } = rule;
                (hook.clone(), table.clone(), chain.clone(), *position, *of, *walked_before)
            };
            matched.rules.iter().map(place).collect()
        };
        assert_eq!(places(&counted), places(&traced));
        assert_eq!((counted.walked, counted.endpoint), (traced.walked, traced.endpoint));
    }
    bench.down();
}

#[test]
fn a_packet_that_no_connection_explains_is_an_error() {
    for options in [NFT, LEGACY] {
        let Some(mut bench) = Bench::up(Mode::Iptables, options, 1, local()) else { continue };
        // Refused after table nat has counted it, so connection tracking never tells of it.
        let refused = SocketAddr::new(VIP.ip(), 81);
        let (matched, _) = bench.watch_while(Asker::Client, VIP, |lab| {
            nft(
                &lab.node,
                "table ip other {\n chain forward {\n type filter hook forward priority 10;\n \
                 tcp dport 81 reject with tcp reset\n }\n}\n",
            );
            assert!(ask(&lab.client, None, refused).is_err());
            nft(&lab.node, "delete table ip other\n");
        });
        let error = matched.unwrap_err();
        assert!(matches!(error, ProxyError::NotOne { .. }), "{error}");
        eprintln!("{error}");
        bench.down();
    }
}
