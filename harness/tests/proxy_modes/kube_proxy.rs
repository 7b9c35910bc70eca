// SPDX-License-Identifier: Apache-2.0
//! A real kube-proxy in place of our rules, on the same tables: it does what a Service is, is proved as our
//! rules are, and is not taken for what it is not. The program is the one that NIC2POD_KUBE_PROXY names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::net::{Netns, Tool};
use harness::plan::{IpFamily, Mode, Position};
use harness::proxy::{
    Affinity, Backend, Endpoint, Fill, Installed, KubeProxy, Matched, Options, Policy, Probe,
    Program, Protocol, ProxyError, ProxyMode, RuleText, Service, ServicePort, ServiceTable,
    StandIn,
};

use crate::bench::{Bench, answered, at, node, probe};
use crate::conformance::{INTERNAL_LOCAL, WEB, does_what_a_service_is, table_for, vip};
use crate::lab::{Answer, Lab, NIC, NODE, PODS, PORTS};

const VARIABLE: &str = "NIC2POD_KUBE_PROXY";
const LEGACY: Options = options(Backend::Legacy);
const NFT: Options = options(Backend::Nft);
const NODE_PORT: u16 = 30_080;

const fn options(backend: Backend) -> Options {
    Options {
        backend,
        scheduler: harness::plan::IpvsScheduler::Rr,
        transactions: harness::plan::NftablesTransactions::Whole,
    }
}

/// The program, or a word why there is none.
fn program() -> Option<Arc<Program>> {
    let Some(path) = std::env::var_os(VARIABLE) else {
        eprintln!("SKIP {VARIABLE} does not name a kube-proxy");
        return None;
    };
    let question = match Netns::create("question") {
        Ok(question) => question,
        Err(reason) => {
            eprintln!("SKIP {reason}");
            return None;
        }
    };
    // One that is named has to be one: a skip would hide that nothing was tested.
    Some(Arc::new(Program::find(Path::new(&path), &question).expect("a kube-proxy that runs here")))
}

/// The minor version that the program names.
fn minor(program: &Program) -> u32 {
    let rest = program.version.strip_prefix("Kubernetes v1.").expect("a version");
    rest.split('.').next().expect("a word").parse().expect("a number")
}

fn conforms(which: Mode, options: Options) {
    let Some(program) = program() else { return };
    let (mut table, rejects) = table_for(IpFamily::Ipv4, which, options);
    if !program.knows_internal_policy() {
        // A field that it does not know; it would send every other connection to the other node.
        table.services[INTERNAL_LOCAL].internal_policy = Policy::Cluster;
        table.services[INTERNAL_LOCAL].ports[0].endpoints.truncate(1);
    }
    let stand_in = StandIn::new(program, which, options);
    let Some(bench) = Bench::by_kube_proxy(stand_in, table) else { return };
    does_what_a_service_is(bench, rejects);
}

#[test]
fn a_kube_proxy_in_mode_iptables_does_what_a_service_is() {
    conforms(Mode::Iptables, NFT);
}

#[test]
fn a_kube_proxy_in_mode_iptables_legacy_does_what_a_service_is() {
    conforms(Mode::Iptables, LEGACY);
}

#[test]
fn a_kube_proxy_in_mode_ipvs_does_what_a_service_is() {
    conforms(Mode::Ipvs, NFT);
}

#[test]
fn a_kube_proxy_in_mode_nftables_does_what_a_service_is() {
    conforms(Mode::Nftables, NFT);
}

/// `services` Services, of which the last one has a NodePort and one pod.
fn filled(services: u32) -> ServiceTable {
    let endpoint = Endpoint { address: at(PODS[1], PORTS[0]), node: NODE.to_owned() };
    let measured = Service {
        namespace: "test".to_owned(),
        name: "web".to_owned(),
        cluster_ip: vip(WEB as u8),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(NODE_PORT),
            endpoints: vec![endpoint],
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    };
    let fill = Fill { services, endpoints: 2, position: Position::Last, seed: 1 };
    fill.table(vec![measured]).expect("addresses enough")
}

/// What one connection meets. Others may begin beside it: kube-proxy's own.
fn met(
    bench: &mut Bench,
    destination: SocketAddr,
    ask: impl Fn(&Lab) -> std::io::Result<Answer>,
) -> Matched {
    let service = bench.table.services.len() - 1;
    for _ in 0..8 {
        let watch = bench.watch().expect("rules can be watched");
        let answer = answered(ask(&bench.lab), &destination.to_string());
        let probe = probe(answer, destination, service, 0);
        match bench.matched(watch, &probe) {
            Err(ProxyError::NotOne { what, .. }) => eprintln!("once more: {what}"),
            matched => return matched.expect("told"),
        }
    }
    panic!("no connection was alone");
}

/// By the NodePort from outside, and by the cluster address from a pod.
fn both_roads(bench: &mut Bench) -> [Matched; 2] {
    let (node_port, cluster_ip) = (at(NIC, NODE_PORT), at(vip(WEB as u8), 80));
    [
        met(bench, node_port, |lab| lab.ask(node_port)),
        met(bench, cluster_ip, |lab| lab.ask_from_pod(0, cluster_ip)),
    ]
}

/// Chains of table nat with rules that matched, in order, each named once, a Service's own by its prefix.
fn chains(matched: &Matched) -> Vec<&str> {
    let own = ["KUBE-SVC-", "KUBE-EXT-", "KUBE-SEP-"];
    let mut chains: Vec<&str> = matched
        .rules
        .iter()
        .filter(|rule| rule.table == "nat")
        .map(|rule| {
            own.iter().find(|own| rule.chain.starts_with(**own)).map_or(&*rule.chain, |own| *own)
        })
        .collect();
    chains.dedup();
    chains
}

fn walks_as_its_shape_demands(backend: Options) {
    let Some(program) = program() else { return };
    let each = if minor(&program) < 22 { 2 } else { 1 };
    let mut own = Vec::new();
    let mut real = Vec::new();
    for services in [1, 1000] {
        let table = filled(services);
        let stand_in = StandIn::new(Arc::clone(&program), Mode::Iptables, backend);
        let Some(mut bench) = Bench::by_kube_proxy(stand_in, table.clone()) else { return };
        real.push(both_roads(&mut bench));
        bench.down();
        let mut bench = Bench::up(Mode::Iptables, backend, table).expect("the mode is there");
        own.push(both_roads(&mut bench));
        bench.down();
    }
    let walked = |of: &[[Matched; 2]], index: usize, road: usize| of[index][road].walked;
    for road in 0..2 {
        eprintln!(
            "{} {}: rules walked with 1 and 1000 Services: ours {} {}, {}'s {} {}",
            backend.backend.word(),
            ["NodePort", "ClusterIP"][road],
            walked(&own, 0, road),
            walked(&own, 1, road),
            program.version,
            walked(&real, 0, road),
            walked(&real, 1, road),
        );
    }
    // Both send it to the same pod, and walk the rules of all other Services on the way to a NodePort: ours
    // one for each, as kube-proxy since 1.22; before, a second one asks first whether the source is to be
    // replaced.
    for of in own.iter().chain(&real).flatten() {
        assert_eq!(of.endpoint, Some(at(PODS[1], PORTS[0])));
    }
    assert_eq!(walked(&own, 1, 0) - walked(&own, 0, 0), 999);
    assert_eq!(walked(&real, 1, 0) - walked(&real, 0, 0), 999 * each);
    // On the way to a cluster address those that stand before it are walked. In our rules that are all of
    // them, because the table says so; kube-proxy writes Services in the order of a Go map, which is
    // chance, so that only the bounds are certain.
    assert_eq!(walked(&own, 1, 1) - walked(&own, 0, 1), 999);
    let more = walked(&real, 1, 1) - walked(&real, 0, 1);
    assert!(more <= 999 * each, "{more}");
    assert_eq!(more % each, 0, "{more}");
    // The way through the chains is the same but for one: before 1.24 there is no chain for traffic from
    // outside, and a NodePort's rules mark and choose by themselves.
    let entrance = ["PREROUTING", "KUBE-SERVICES"];
    let exit = ["KUBE-SVC-", "KUBE-SEP-", "POSTROUTING", "KUBE-POSTROUTING"];
    let new = ["KUBE-NODEPORTS", "KUBE-EXT-", "KUBE-MARK-MASQ", "KUBE-EXT-"];
    let old = ["KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-NODEPORTS"];
    let between: &[&str] = if minor(&program) < 24 { &old } else { &new };
    for index in 0..2 {
        assert_eq!(chains(&own[index][0]), [&entrance[..], &new, &exit].concat());
        assert_eq!(chains(&real[index][0]), [&entrance[..], between, &exit].concat());
        assert_eq!(chains(&own[index][1]), [&entrance[..], &exit].concat());
        assert_eq!(chains(&real[index][1]), [&entrance[..], &exit].concat());
    }
}

#[test]
fn a_kube_proxys_rules_are_walked_as_often_as_its_version_has_them_in_iptables_nft() {
    walks_as_its_shape_demands(NFT);
}

#[test]
fn a_kube_proxys_rules_are_walked_as_often_as_its_version_has_them_in_iptables_legacy() {
    walks_as_its_shape_demands(LEGACY);
}

/// Modes in which a packet walks as many rules however many Services there are: ours and the program's.
fn walks_as_many_rules_whatever_the_table(which: Mode) {
    let Some(program) = program() else { return };
    let mut walked = Vec::new();
    for services in [1, 100] {
        let table = filled(services);
        let stand_in = StandIn::new(Arc::clone(&program), which, NFT);
        let Some(mut bench) = Bench::by_kube_proxy(stand_in, table.clone()) else { return };
        let real = both_roads(&mut bench);
        bench.down();
        let mut bench = Bench::up(which, NFT, table).expect("the mode is there");
        let own = both_roads(&mut bench);
        bench.down();
        for (road, (own, real)) in own.iter().zip(&real).enumerate() {
            eprintln!(
                "{which} {}, {services} Services: rules walked: ours {}, {}'s {}",
                ["NodePort", "ClusterIP"][road],
                own.walked,
                program.version,
                real.walked,
            );
            for matched in [own, real] {
                assert_eq!(matched.endpoint, Some(at(PODS[1], PORTS[0])));
                assert!(matched.walked > 0, "{matched:?}");
            }
        }
        walked.push((own.map(|road| road.walked), real.map(|road| road.walked)));
    }
    assert_eq!(walked[0], walked[1]);
}

#[test]
fn a_kube_proxys_rules_in_mode_nftables_are_as_many_to_walk_whatever_the_table() {
    walks_as_many_rules_whatever_the_table(Mode::Nftables);
}

#[test]
fn a_kube_proxys_rules_in_mode_ipvs_are_as_many_to_walk_whatever_the_table() {
    walks_as_many_rules_whatever_the_table(Mode::Ipvs);
}

#[test]
fn a_kube_proxy_that_runs_another_mode_than_it_was_told_is_a_reason_to_skip() {
    let (Some(program), Some(lab)) = (program(), Lab::up()) else { return };
    if harness::proxy::mode(Mode::Ipvs, NFT).check(&lab.node).is_ok() {
        eprintln!("SKIP this kernel has ip_vs: there is nothing to fall back from");
        return;
    }
    // Without the check, which would have refused it: what kube-proxy says is held against it by itself.
    let stand_in = StandIn::new(program, Mode::Ipvs, NFT);
    let agent = PathBuf::new();
    let node = node(&lab, &agent);
    let table = filled(1);
    match stand_in.install(&node, &table, &stand_in.render(&table, NODE, NIC)) {
        Err(ProxyError::Unavailable(reason)) => {
            eprintln!("{reason}");
            assert!(reason.need.contains("in mode ipvs, which it was told to be in"), "{reason}");
            assert!(reason.found.contains("answers /proxyMode with iptables"), "{reason}");
        }
        // Since it falls back no more it ends, and says why.
        Err(ProxyError::KubeProxy { what, log, .. }) => {
            assert!(what.starts_with("it ended with exit status"), "{what}");
            assert!(log.to_lowercase().contains("ipvs"), "{log}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kube_proxy_that_ends_is_an_error_with_its_last_words() {
    let (Some(program), Some(lab)) = (program(), Lab::up()) else { return };
    let stand_in = StandIn::new(program, Mode::Iptables, NFT);
    let agent = PathBuf::new();
    let node = node(&lab, &agent);
    let table = filled(1);
    let mut texts = stand_in.render(&table, NODE, NIC);
    texts[0].text = texts[0].text.replace("10.244.0.0/16", "everywhere");
    match stand_in.install(&node, &table, &texts) {
        Err(ProxyError::KubeProxy { host, what, log }) => {
            assert_eq!(host, NODE);
            assert!(what.starts_with("it ended with exit status"), "{what}");
            assert!(log.contains("everywhere"), "{log}");
        }
        other => panic!("{other:?}"),
    }
}

/// Takes a kube-proxy's state away behind its back: no proof may succeed after that, and it says what it
/// missed.
fn is_not_proved_without(which: Mode, flush: &[&str], misses: &str) {
    let Some(program) = program() else { return };
    let stand_in = StandIn::new(program, which, NFT);
    let Some(mut bench) = Bench::by_kube_proxy(stand_in, filled(3)) else { return };
    let destination = at(vip(WEB as u8), 80);
    let claim = probe(answered(bench.lab.ask(destination), "before"), destination, 2, 0);
    let evidence = bench.prove(&claim).expect("proved");
    eprintln!("{which}:\n  {}", evidence.join("\n  "));
    let (tool, arguments) = flush.split_first().expect("a tool");
    Tool::new(*tool).args(arguments.iter().copied()).run_on(&bench.lab.node).expect("flushed");
    match bench.prove(&claim) {
        Err(ProxyError::NotProved { expected, .. }) => {
            assert!(expected.contains(misses), "{expected}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kube_proxy_in_mode_iptables_is_not_proved_once_its_rules_are_gone() {
    let flush = ["iptables-nft", "-t", "nat", "-F"];
    is_not_proved_without(Mode::Iptables, &flush, "-j DNAT --to-destination");
}

#[test]
fn a_kube_proxy_in_mode_ipvs_is_not_proved_once_its_servers_are_gone() {
    is_not_proved_without(Mode::Ipvs, &["ipvsadm", "-C"], "a connection held by 10.244.");
}

#[test]
fn a_kube_proxy_in_mode_ipvs_is_not_proved_twice_by_one_connection() {
    // Nothing is taken away: what its servers have carried was counted once.
    is_not_proved_without(Mode::Ipvs, &["ipvsadm", "-L", "-n"], "ipvsadm's counters");
}

#[test]
fn a_kube_proxy_in_mode_nftables_is_not_proved_once_its_rules_are_gone() {
    let flush = ["nft", "flush", "table", "ip", "kube-proxy"];
    is_not_proved_without(Mode::Nftables, &flush, "that jumps to the look-up of Services");
}

/// What a node holds in mode nftables is proved, watched and recorded the same way whoever wrote it: rules
/// of ours, which have the shape of a kube-proxy's, are taken for one's.
#[test]
fn rules_in_the_shape_of_a_kube_proxys_nftables_are_proved_watched_and_recorded_as_its() {
    let table = filled(3);
    let Some(bench) = Bench::up(Mode::Nftables, NFT, table.clone()) else { return };
    let find = |bench: &Bench| {
        KubeProxy::find(Mode::Nftables, IpFamily::Ipv4, "it says so".to_owned(), &bench.lab.node)
            .expect("found")
    };
    let mut found = find(&bench);
    let texts = found.texts(&bench.lab.node).expect("listed");
    let own = harness::proxy::mode(Mode::Nftables, NFT).render(&table, NODE, NIC);
    let rules = |texts: &[RuleText]| texts.iter().map(|text| text.rules).sum::<u64>();
    assert_eq!(texts[0].name, "nftables.nft");
    assert_eq!(rules(&texts), rules(&own));
    for destination in [at(vip(WEB as u8), 80), at(NIC, NODE_PORT)] {
        let agent = PathBuf::new();
        let watch = found.watch(&node(&bench.lab, &agent)).expect("watched");
        let answer = answered(bench.lab.ask(destination), &destination.to_string());
        let claim = probe(answer, destination, 2, 0);
        let matched = watch.matched(&node(&bench.lab, &agent), &table, &claim).expect("one");
        assert_eq!(matched.endpoint, Some(at(PODS[1], PORTS[0])));
        let evidence = found.prove(&node(&bench.lab, &agent), &table, &claim).expect("proved");
        assert_eq!(evidence[0], "it says so");
        // Another pod than the one that answered is not.
        let false_claim = Probe { backend: at(PODS[0], PORTS[0]), ..claim };
        match found.prove(&node(&bench.lab, &agent), &table, &false_claim) {
            Err(ProxyError::NotProved { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    // It leaves what is the cluster's.
    let agent = PathBuf::new();
    Box::new(found).remove(&node(&bench.lab, &agent)).expect("nothing is removed");
    answered(bench.lab.ask(at(NIC, NODE_PORT)), "after");
    bench.down();
}

#[test]
fn a_table_that_an_old_kube_proxy_would_get_wrong_is_refused() {
    let (Some(program), Some(lab)) = (program(), Lab::up()) else { return };
    if program.knows_internal_policy() {
        eprintln!("SKIP {} knows internalTrafficPolicy", program.version);
        return;
    }
    let stand_in = StandIn::new(program, Mode::Iptables, NFT);
    let mut table = filled(1);
    table.services[0].internal_policy = Policy::Local;
    let agent = PathBuf::new();
    let node = node(&lab, &agent);
    match stand_in.install(&node, &table, &stand_in.render(&table, NODE, NIC)) {
        Err(ProxyError::Unavailable(reason)) => {
            assert!(reason.need.contains("Kubernetes 1.22 or later"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
