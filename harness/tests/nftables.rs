// SPDX-License-Identifier: Apache-2.0
//! Ring 2: the proxy mode `nftables` on a node with two pods, asked by real connections.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]
#![expect(clippy::print_stdout, reason = "a measurement says what it found")]

mod service_lab;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use harness::net::{Netns, Tool, conntrack};
use harness::plan::{CHOICES_PER_TRANSACTION, NftablesTransactions};
use harness::proxy::nftables::{Nftables, render_addition};
use harness::proxy::{
    Affinity, Endpoint, Installed, Policy, Probe, Protocol, ProxyError, ProxyMode, Service,
    ServicePort, ServiceTable,
};
use service_lab::{Answer, Lab, NODE, NODE_ADDRESS, PODS, ask, nft};

const LOAD_BALANCER: Ipv4Addr = Ipv4Addr::new(10, 112, 0, 1);

/// Services by their place in the table.
const PLAIN: usize = 0;
const STICKY: usize = 1;
const LOCAL: usize = 2;
const NOBODY: usize = 3;
const SELF: usize = 4;
const ELSEWHERE: usize = 5;

fn endpoint(pod: usize, node: &str) -> Endpoint {
    Endpoint { address: SocketAddr::new(PODS[pod], 8080), node: node.to_owned() }
}

fn service(index: usize, endpoints: Vec<Endpoint>) -> Service {
    let host = u8::try_from(index).unwrap();
    Service {
        namespace: "default".to_owned(),
        name: format!("service-{index}"),
        cluster_ip: IpAddr::from([10, 96, 0, 1 + host]),
        load_balancer_ips: vec![
            Ipv4Addr::from_bits(LOAD_BALANCER.to_bits() + u32::from(host)).into(),
        ],
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30_000 + u16::from(host)),
            endpoints,
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

/// As the table says, the second pod is on another node, though it is not.
fn table() -> ServiceTable {
    let both = || vec![endpoint(0, NODE), endpoint(1, "node2")];
    let affinity = Affinity::ClientIp { timeout: Duration::from_secs(10_800) };
    let local = Policy::Local;
    let services = vec![
        service(PLAIN, both()),
        Service { affinity, ..service(STICKY, both()) },
        Service { external_policy: local, internal_policy: local, ..service(LOCAL, both()) },
        service(NOBODY, vec![]),
        service(SELF, vec![endpoint(0, NODE)]),
        Service {
            external_policy: local,
            internal_policy: local,
            ..service(ELSEWHERE, vec![endpoint(1, "node2")])
        },
    ];
    ServiceTable { services }
}

fn vip(index: usize) -> SocketAddr {
    SocketAddr::new(service(index, vec![]).cluster_ip, 80)
}

fn node_port(index: usize) -> SocketAddr {
    SocketAddr::new(NODE_ADDRESS, 30_000 + u16::try_from(index).unwrap())
}

fn load_balancer(index: usize) -> SocketAddr {
    SocketAddr::new(service(index, vec![]).load_balancer_ips[0], 80)
}

fn install(lab: &Lab, table: &ServiceTable) -> Box<dyn Installed> {
    let texts = Nftables::default().render(table, NODE, NODE_ADDRESS);
    Nftables::default().install(&lab.view(), table, &texts).unwrap()
}

fn up() -> Option<(Lab, ServiceTable, Box<dyn Installed>)> {
    let lab = Lab::up()?;
    let table = table();
    let installed = install(&lab, &table);
    Some((lab, table, installed))
}

fn probe(index: usize, to: SocketAddr, answer: &Answer) -> Probe {
    Probe {
        client: answer.client,
        destination: to,
        backend: SocketAddr::new(answer.pod, 8080),
        service: (index, 0),
    }
}

fn ruleset(node: &Netns) -> String {
    Tool::new("nft").args(["list", "ruleset"]).run_on(node).unwrap()
}

#[test]
fn this_machine_can_run_the_mode_and_the_check_leaves_nothing() {
    let Some(lab) = Lab::up() else { return };
    Nftables::default().check(&lab.client).unwrap();
    assert_eq!(ruleset(&lab.client), "");
}

#[test]
fn nft_accepts_the_committed_ruleset_and_shows_every_rule_of_it() {
    let Some(lab) = Lab::up() else { return };
    let snapshot = include_str!(
        "../src/proxy/nftables/snapshots/harness__proxy__nftables__tests__every_feature.snap"
    );
    let (_, text) = snapshot.trim_start_matches("---").split_once("---\n").unwrap();
    Tool::new("nft").args(["-c", "-f", "-"]).stdin(text).run_on(&lab.node).unwrap();
    assert_eq!(ruleset(&lab.node), "", "-c applies nothing");
    nft(&lab.node, text);
    let chains: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("add rule ip kube-proxy ")).collect();
    let shown = Tool::new("nft").args(["-a", "list", "ruleset"]).run_on(&lab.node).unwrap();
    // Chains and sets have handles too, but their lines end in a brace before it.
    let rules = shown.lines().filter(|line| line.contains(" # handle ") && !line.contains(" { # "));
    assert_eq!(rules.count(), chains.len());
}

#[test]
fn a_connection_on_any_road_is_proved_from_the_kernel() {
    let Some((lab, table, mut installed)) = up() else { return };
    for (index, to) in [
        (PLAIN, vip(PLAIN)),
        (PLAIN, node_port(PLAIN)),
        (PLAIN, load_balancer(PLAIN)),
        (STICKY, vip(STICKY)),
        (LOCAL, node_port(LOCAL)),
    ] {
        let answer = ask(&lab.client, None, to).unwrap();
        let evidence = installed.prove(&lab.view(), &table, &probe(index, to, &answer)).unwrap();
        let chain = "endpoint-";
        assert!(evidence.iter().any(|line| line.contains(chain)), "{evidence:?}");
        let translated = format!("{} -> {to} is translated to {}:8080", answer.client, answer.pod);
        assert!(evidence.iter().any(|line| line.contains(&translated)), "{evidence:?}");
    }
}

/// Does something behind the mode's back, and returns what the proof then expected and found.
fn disproved(spoil: impl FnOnce(&Lab, &mut Probe)) -> Option<(String, String)> {
    let (lab, table, mut installed) = up()?;
    let answer = ask(&lab.client, None, vip(SELF)).unwrap();
    let mut probe = probe(SELF, vip(SELF), &answer);
    installed.prove(&lab.view(), &table, &probe).unwrap();
    spoil(&lab, &mut probe);
    match installed.prove(&lab.view(), &table, &probe) {
        Err(ProxyError::NotProved { expected, found, .. }) => Some((expected, found)),
        other => panic!("proved: {other:?}"),
    }
}

#[test]
fn rules_that_are_flushed_prove_nothing() {
    let Some((_, found)) = disproved(|lab, _| drop(nft(&lab.node, "flush table ip kube-proxy\n")))
    else {
        return;
    };
    assert!(found.contains("jump to services: false"), "{found}");
}

#[test]
fn a_table_that_is_gone_proves_nothing() {
    let Some((_, found)) = disproved(|lab, _| drop(nft(&lab.node, "delete table ip kube-proxy\n")))
    else {
        return;
    };
    assert!(found.contains("hook None"), "{found}");
}

#[test]
fn a_service_that_is_out_of_the_map_proves_nothing() {
    let spoil = "delete element ip kube-proxy service-ips { 10.96.0.5 . tcp . 80 }\n";
    let Some((expected, found)) = disproved(|lab, _| drop(nft(&lab.node, spoil))) else { return };
    assert!(expected.contains("10.96.0.5 . tcp . 80"), "{expected}");
    assert_eq!(found, "no such element");
}

#[test]
fn an_endpoint_whose_rules_are_gone_proves_nothing() {
    let flush_endpoint = |lab: &Lab, _: &mut Probe| {
        let rules = ruleset(&lab.node);
        let chain = rules
            .split_whitespace()
            .find(|word| word.starts_with("endpoint-") && word.contains("service-4/"))
            .unwrap();
        nft(&lab.node, &format!("flush chain ip kube-proxy {chain}\n"));
    };
    let Some((expected, _)) = disproved(flush_endpoint) else { return };
    assert!(expected.contains("to dnat to 10.244.0.2:8080"), "{expected}");
}

#[test]
fn a_connection_that_the_kernel_did_not_translate_proves_nothing() {
    let Some((_, found)) = disproved(|lab, _| conntrack::flush(&lab.node).unwrap()) else { return };
    assert_eq!(found, "no such connection");
}

#[test]
fn an_answer_from_another_pod_proves_nothing() {
    let Some((expected, _)) = disproved(|_, probe| probe.backend.set_ip(PODS[1])) else { return };
    assert!(expected.contains("dnat to 10.244.0.3:8080"), "{expected}");
}

#[test]
fn a_probe_of_another_address_proves_nothing() {
    let other = |_: &Lab, probe: &mut Probe| probe.destination = vip(PLAIN);
    let Some((expected, _)) = disproved(other) else { return };
    assert_eq!(expected, "a probe of default/service-4:http");
}

#[test]
fn rules_of_the_iptables_mode_beside_ours_prove_nothing() {
    for tool in ["iptables-nft", "iptables-legacy"] {
        // Only legacy needs ip_tables, which newer kernels do without.
        let asked =
            Netns::create("question").map(|host| Tool::new(tool).args(["-S"]).run_on(&host));
        if let Ok(Err(error)) = asked
            && error.to_string().contains("Table does not exist")
        {
            println!("SKIP {tool}: {error}");
            continue;
        }
        let add_chain = |lab: &Lab, _: &mut Probe| {
            let args = ["-t", "nat", "-N", "KUBE-SERVICES"];
            Tool::new(tool).args(args).run_on(&lab.node).unwrap();
        };
        let Some((expected, found)) = disproved(add_chain) else { return };
        assert_eq!(expected, "no rules of another proxy mode");
        assert!(found.contains("iptables"), "{found}");
    }
}

#[test]
fn what_is_added_one_by_one_is_what_is_installed_at_once() {
    let Some(lab) = Lab::up() else { return };
    let whole = table();
    let mut part = ServiceTable::default();
    let mut installed = install(&lab, &part);
    for service in whole.services.clone() {
        part.services.push(service);
        installed.add_last(&lab.view(), &part).unwrap();
    }
    let added = sorted_ruleset(&lab.node);
    installed.remove(&lab.view()).unwrap();
    let _installed = install(&lab, &whole);
    assert_eq!(added, sorted_ruleset(&lab.node));
}

/// The kernel keeps the elements of a map in no order.
fn sorted_ruleset(node: &Netns) -> Vec<String> {
    let rules = ruleset(node);
    let mut parts: Vec<_> = rules
        .split([',', '\n'])
        .map(|part| {
            part.trim().trim_start_matches("elements = { ").trim_end_matches(" }").to_owned()
        })
        .collect();
    parts.sort();
    parts
}

#[test]
fn removal_leaves_an_empty_ruleset() {
    let Some((lab, _, installed)) = up() else { return };
    assert_ne!(ruleset(&lab.node), "");
    installed.remove(&lab.view()).unwrap();
    assert_eq!(ruleset(&lab.node), "");
}

#[test]
fn a_ruleset_that_the_kernel_refuses_leaves_nothing() {
    let Some(lab) = Lab::up() else { return };
    let table = table();
    let mut texts = Nftables::default().render(&table, NODE, NODE_ADDRESS);
    texts[0].text.push_str("add rule ip kube-proxy services goto nowhere\n");
    let error = Nftables::default().install(&lab.view(), &table, &texts).unwrap_err();
    assert!(matches!(error, ProxyError::Tool { op: "install", .. }), "{error}");
    assert_eq!(ruleset(&lab.node), "");
}

#[test]
fn of_several_transactions_the_ruleset_is_that_of_one() {
    let Some(lab) = Lab::up() else { return };
    let mut both = table();
    let first = both.services.len();
    both.services.extend(large(2 * CHOICES_PER_TRANSACTION).services.split_off(first));
    let [whole, parts] =
        [NftablesTransactions::Whole, NftablesTransactions::Parts].map(|transactions| {
            let mode = Nftables { transactions };
            let texts = mode.render(&both, NODE, NODE_ADDRESS);
            let installed = mode.install(&lab.view(), &both, &texts).unwrap();
            let ruleset = ruleset(&lab.node);
            installed.remove(&lab.view()).unwrap();
            ruleset
        });
    assert_eq!(whole.matches("numgen").count() / CHOICES_PER_TRANSACTION, 2, "Services are there");
    assert!(whole == parts);
}

#[test]
fn where_the_kernel_refuses_the_second_transaction_nothing_is_left_of_the_first() {
    let Some(lab) = Lab::up() else { return };
    let mode = Nftables { transactions: NftablesTransactions::Parts };
    let table = large(CHOICES_PER_TRANSACTION + 1);
    let mut texts = mode.render(&table, NODE, NODE_ADDRESS);
    let choice = "add rule ip kube-proxy services numgen random mod 1 vmap { 0 : goto nowhere }\n";
    texts[0].text.push_str(choice);
    let error = mode.install(&lab.view(), &table, &texts).unwrap_err();
    assert!(matches!(error, ProxyError::Net { .. }), "{error}");
    assert_eq!(ruleset(&lab.node), "");
}

/// A million-line ruleset is not listed to prove one connection: the proof asks for as many
/// chains as with few Services. Prints what DESIGN asks of the mode; run it in release:
/// `cargo test --release -p harness --test nftables -- --ignored --nocapture`.
#[test]
#[ignore = "measures; takes minutes"]
fn costs_of_large_tables() {
    for services in [100, 1_000, 3_000] {
        let Some(lab) = Lab::up() else { return };
        let table = large(services);
        let text = Nftables::default().render(&table, NODE, NODE_ADDRESS).remove(0);
        // Interleaved, and the least of three: other work on the machine only adds.
        let (mut ours, mut bare) = (Duration::MAX, Duration::MAX);
        for _ in 0..3 {
            let (installed, elapsed) = timed(|| install_text(&lab, &table, &text));
            ours = ours.min(elapsed);
            installed.remove(&lab.view()).unwrap();
            bare = bare.min(timed(|| nft(&lab.node, &text.text)).1);
            nft(&lab.node, "delete table ip kube-proxy\n");
        }
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!("{services} Services: install {ours:?}, nft -f alone {bare:?}: {ratio:.3}");
        assert!(ratio < 1.2, "{ratio}");
        cost_of_adding(&lab, table);
    }
}

fn cost_of_adding(lab: &Lab, mut table: ServiceTable) {
    let mut installed = install(lab, &table);
    let to = vip(PLAIN);
    let answer = ask(&lab.client, None, to).unwrap();
    let (evidence, elapsed) =
        timed(|| installed.prove(&lab.view(), &table, &probe(PLAIN, to, &answer)).unwrap());
    println!("  proof {elapsed:?}, {} lines", evidence.len());
    let (mut ours, mut bare) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..10 {
        let next = large(table.services.len() + 2).services;
        let [one, other] = next.last_chunk().unwrap();
        table.services.push(one.clone());
        ours += timed(|| installed.add_last(&lab.view(), &table).unwrap()).1;
        table.services.push(other.clone());
        let text = render_addition(other, NODE).text;
        bare += timed(|| nft(&lab.node, &text)).1;
    }
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("  add_last {:?}, nft -f alone {:?}: {ratio:.3}", ours / 10, bare / 10);
    assert!(ratio < 1.5, "{ratio}");
    let (outcome, elapsed) = timed(|| installed.remove(&lab.view()));
    outcome.unwrap();
    println!("  remove {elapsed:?}");
}

#[test]
#[ignore = "measures; run it in release"]
fn ten_thousand_services_are_rendered_in_fifty_milliseconds() {
    let table = large(10_000);
    let least = (0..10)
        .map(|_| timed(|| Nftables::default().render(&table, NODE, NODE_ADDRESS)).1)
        .min()
        .unwrap();
    println!("render of 10,000 Services: {least:?}");
    assert!(least < Duration::from_millis(50), "{least:?}");
}

fn install_text(
    lab: &Lab,
    table: &ServiceTable,
    text: &harness::proxy::RuleText,
) -> Box<dyn Installed> {
    Nftables::default().install(&lab.view(), table, std::slice::from_ref(text)).unwrap()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let outcome = work();
    (outcome, began.elapsed())
}

/// The first Service answers; the others' two endpoints each are nowhere.
fn large(services: usize) -> ServiceTable {
    let filler = |index: usize| {
        let number = u32::try_from(index).unwrap();
        let at = |which| Endpoint {
            address: SocketAddr::new(
                Ipv4Addr::from_bits(0x0af4_8000 + 2 * number + which).into(),
                8080,
            ),
            node: "node2".to_owned(),
        };
        let mut service = service(0, vec![at(0), at(1)]);
        service.name = format!("filler-{index}");
        service.cluster_ip = Ipv4Addr::from_bits(0x0a60_0001 + number).into();
        service.load_balancer_ips.clear();
        service.ports[0].node_port = None;
        service
    };
    let both = vec![endpoint(0, NODE), endpoint(1, "node2")];
    let mut table = ServiceTable { services: vec![service(PLAIN, both)] };
    table.services.extend((1..services).map(filler));
    table
}
