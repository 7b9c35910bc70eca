// SPDX-License-Identifier: Apache-2.0
//! Every proxy mode does what a Service is: one body, one test a mode.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::net::Tool;
use harness::plan::{IpFamily, Mode};
use harness::proxy::{
    Affinity, Backend, Endpoint, Options, Policy, Probe, Protocol, ProxyError, Service,
    ServicePort, ServiceTable, mode,
};

use crate::bench::{Bench, answered, at, node, probe};
use crate::lab::{CLIENT, CLIENT_2, GATEWAY, Lab, NIC, NODE, PODS, PORTS};

pub(crate) const WEB: usize = 0;
const STICKY: usize = 1;
const LOCAL: usize = 2;
const EMPTY: usize = 3;
pub(crate) const INTERNAL_LOCAL: usize = 4;
const ALONE: usize = 5;

/// A pod on another node that is not there: whoever is sent to it gets no answer.
const FAR: Endpoint = Endpoint {
    address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 9, 9)), 8080),
    node: String::new(),
};

fn pod(index: usize, port: u16) -> Endpoint {
    Endpoint { address: SocketAddr::new(PODS[index], port), node: NODE.to_owned() }
}

fn service(name: &str, index: u8, node_port: Option<u16>, endpoints: Vec<Endpoint>) -> Service {
    Service {
        namespace: "test".to_owned(),
        name: name.to_owned(),
        cluster_ip: vip(index),
        load_balancer_ips: match node_port {
            Some(_) => vec![balanced(index)],
            None => Vec::new(),
        },
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port,
            endpoints,
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

pub(crate) fn vip(index: u8) -> IpAddr {
    IpAddr::from([10, 96, 0, 100 + index])
}

fn balanced(index: u8) -> IpAddr {
    IpAddr::from([10, 112, 0, 100 + index])
}

fn table() -> ServiceTable {
    let both = |port| vec![pod(0, port), pod(1, port)];
    let mut web = service("web", WEB as u8, Some(30_080), both(PORTS[0]));
    web.ports.push(ServicePort {
        name: "alt".to_owned(),
        port: 81,
        node_port: Some(30_081),
        endpoints: both(PORTS[1]),
        ..web.ports[0].clone()
    });
    let services = vec![
        web,
        Service {
            affinity: Affinity::ClientIp { timeout: Duration::from_secs(10_800) },
            ..service("sticky", STICKY as u8, None, both(PORTS[0]))
        },
        Service {
            external_policy: Policy::Local,
            ..service("local", LOCAL as u8, Some(30_082), vec![pod(0, PORTS[0]), FAR])
        },
        service("empty", EMPTY as u8, Some(30_083), Vec::new()),
        Service {
            internal_policy: Policy::Local,
            ..service("internal-local", INTERNAL_LOCAL as u8, None, vec![pod(1, PORTS[0]), FAR])
        },
        service("alone", ALONE as u8, None, vec![pod(0, PORTS[0])]),
    ];
    ServiceTable { services }
}

/// The table, without its Service without endpoints where the kernel cannot refuse connections to
/// one, and whether that is in it.
pub(crate) fn table_for(family: IpFamily, which: Mode, options: Options) -> (ServiceTable, bool) {
    let mut table = table();
    let rejects = Bench::takes(family, which, options, &table);
    if !rejects {
        table.services[EMPTY].ports[0].endpoints.push(pod(0, PORTS[0]));
    }
    (table, rejects)
}

fn is_nodes(ip: &IpAddr) -> bool {
    [NIC, GATEWAY].contains(ip)
}

/// The body: what every mode has to do.
fn conforms(which: Mode, options: Options) {
    let (table, rejects) = table_for(IpFamily::Ipv4, which, options);
    let Some(bench) = Bench::up(which, options, table) else { return };
    does_what_a_service_is(bench, rejects);
}

/// The same with addresses of IPv6.
fn conforms_for_ipv6(which: Mode, options: Options) {
    let (table, rejects) = table_for(IpFamily::Ipv6, which, options);
    let Some(lab) = Lab::up_for(IpFamily::Ipv6) else { return };
    let Some(bench) = Bench::with(mode(which, options), lab, table) else { return };
    does_what_a_service_is(bench, rejects);
}

/// The same of a mode that is up; `rejects` where the table's Service without endpoints has none.
pub(crate) fn does_what_a_service_is(mut bench: Bench, rejects: bool) {
    // First, while nothing has been counted that a false proof could rest on.
    a_proof_shows_the_very_path(&mut bench);
    a_false_proof_fails(&mut bench);
    every_backend_is_reached_as_often_as_the_others(&bench);
    ports_lead_to_their_own_endpoints(&bench);
    traffic_from_outside_comes_back_the_same_way(&bench);
    external_policy_local_keeps_the_client(&bench);
    internal_policy_local_stays_on_the_node(&bench);
    affinity_keeps_a_client_with_its_backend(&bench);
    if rejects {
        a_service_without_endpoints_says_so_at_once(&bench);
    }
    a_pod_reaches_itself_through_its_service(&bench);
    a_service_that_is_added_answers(&mut bench);
    let lab = bench.down();
    assert!(lab.ask(at(vip(WEB as u8), 80)).is_err(), "still answered after removal");
}

fn a_proof_shows_the_very_path(bench: &mut Bench) {
    let web = WEB as u8;
    for (destination, service, port) in [
        (at(vip(web), 80), WEB, 0),
        (at(vip(web), 81), WEB, 1),
        (at(NIC, 30_080), WEB, 0),
        (at(balanced(web), 80), WEB, 0),
        (at(NIC, 30_082), LOCAL, 0),
        (at(balanced(LOCAL as u8), 80), LOCAL, 0),
        (at(PODS[1], PORTS[0]), WEB, 0),
    ] {
        // Mode nftables proves Services only: its rules have no counter that a packet to a pod's
        // own address would move.
        if bench.which() == Mode::Nftables && destination.ip() == PODS[1] {
            continue;
        }
        let answer = answered(bench.lab.ask(destination), &destination.to_string());
        let evidence = bench.prove(&probe(answer, destination, service, port));
        let evidence = evidence.unwrap_or_else(|error| panic!("{destination}: {error}"));
        eprintln!("{} {destination}:\n  {}", bench.which(), evidence.join("\n  "));
        assert!(evidence.len() >= 2, "{destination}: {evidence:?}");
    }
    let destination = at(vip(ALONE as u8), 80);
    let answer = answered(bench.lab.ask_from_pod(1, destination), "from a pod");
    bench.prove(&probe(answer, destination, ALONE, 0)).expect("from a pod");
}

fn a_false_proof_fails(bench: &mut Bench) {
    let refused = |outcome: Result<Vec<String>, ProxyError>, why: &str| match outcome {
        Err(ProxyError::NotProved { .. }) => {}
        other => panic!("{why}: {other:?}"),
    };
    // A Service nobody has used yet, asked at its pod's address.
    let direct = answered(bench.lab.ask(at(PODS[0], PORTS[0])), "direct");
    let sticky = at(vip(STICKY as u8), 80);
    refused(bench.prove(&probe(direct, sticky, STICKY, 0)), "a connection past the mode");
    // Asked through the Service, but answered by another backend than is claimed.
    let mut answer = answered(bench.lab.ask_from(CLIENT_2, sticky), "sticky");
    let other = if answer.backend.ip() == PODS[0] { PODS[1] } else { PODS[0] };
    answer.backend = at(other, PORTS[0]);
    refused(bench.prove(&probe(answer, sticky, STICKY, 0)), "another backend");
    // Another mode's entrance beside it.
    if bench.which() != Mode::Nftables {
        let nft = |lab: &Lab, text: &str| {
            let args: Vec<&str> = text.split(' ').collect();
            Tool::new("nft").args(args).run_on(&lab.node).expect("nft runs");
        };
        let word = bench.lab.word();
        nft(&bench.lab, &format!("add table {word} kube-proxy"));
        nft(&bench.lab, &format!("add chain {word} kube-proxy services"));
        let destination = at(vip(WEB as u8), 80);
        let answer = answered(bench.lab.ask(destination), "web");
        let outcome = bench.prove(&probe(answer, destination, WEB, 0));
        nft(&bench.lab, &format!("delete table {word} kube-proxy"));
        refused(outcome, "another mode beside it");
    }
    if bench.which() != Mode::Ebpf {
        let ebpf = mode(Mode::Ebpf, Options::default());
        if let Err(missing) = ebpf.check(&bench.lab.node) {
            eprintln!("SKIP mode ebpf beside {}: {missing}", bench.which());
            return;
        }
        let destination = at(vip(WEB as u8), 80);
        let answer = answered(bench.lab.ask(destination), "web");
        let claim = probe(answer, destination, WEB, 0);
        bench.prove(&claim).expect("alone on the node");
        let outcome = bench.beside(ebpf.as_ref(), |bench| bench.prove(&claim));
        refused(outcome, "mode ebpf beside it");
        bench.prove(&claim).unwrap_or_else(|error| match bench.which() {
            // What it counted is told once.
            Mode::Iptables | Mode::Userspace | Mode::Ipvs => Vec::new(),
            _ => panic!("alone again: {error}"),
        });
    }
}

fn every_backend_is_reached_as_often_as_the_others(bench: &Bench) {
    let destination = at(vip(WEB as u8), 80);
    let mut count: HashMap<SocketAddr, u32> = HashMap::new();
    for _ in 0..100 {
        let answer = answered(bench.lab.ask_from_pod(0, destination), "cluster address");
        *count.entry(answer.backend).or_default() += 1;
        if bench.may_keep_clients() && answer.backend.ip() == PODS[1] {
            assert_eq!(answer.peer, answer.client, "pod to pod is not masqueraded");
        }
    }
    // A fair coin is outside once in four million.
    for pod in PODS {
        let times = count.get(&at(pod, PORTS[0])).copied().unwrap_or(0);
        assert!((25..=75).contains(&times), "{count:?}");
    }
}

fn ports_lead_to_their_own_endpoints(bench: &Bench) {
    for (destination, port) in [
        (at(vip(WEB as u8), 80), PORTS[0]),
        (at(vip(WEB as u8), 81), PORTS[1]),
        (at(NIC, 30_081), PORTS[1]),
        (at(balanced(WEB as u8), 81), PORTS[1]),
    ] {
        let answer = answered(bench.lab.ask(destination), &destination.to_string());
        assert_eq!(answer.backend.port(), port, "{destination}");
    }
}

fn traffic_from_outside_comes_back_the_same_way(bench: &Bench) {
    for destination in [at(vip(WEB as u8), 80), at(NIC, 30_080), at(balanced(WEB as u8), 80)] {
        let answer = answered(bench.lab.ask(destination), &destination.to_string());
        assert_eq!(answer.client.ip(), CLIENT);
        if bench.which() == Mode::Ebpf {
            // It sees the answer of a pod of its own node whoever that is addressed to.
            assert_eq!(answer.peer.ip(), answer.client.ip(), "{destination}");
            continue;
        }
        assert!(is_nodes(&answer.peer.ip()), "{destination}: {} was not replaced", answer.peer);
    }
}

fn external_policy_local_keeps_the_client(bench: &Bench) {
    for destination in [at(NIC, 30_082), at(balanced(LOCAL as u8), 80)] {
        // Half of them would be lost if they went to the endpoint on the other node too.
        for _ in 0..10 {
            let answer = answered(bench.lab.ask(destination), &destination.to_string());
            assert_eq!(answer.backend, at(PODS[0], PORTS[0]));
            if bench.may_keep_clients() {
                // The port is another one where a connection by the other destination has it.
                assert_eq!(answer.peer.ip(), answer.client.ip(), "{destination}");
            } else {
                assert!(is_nodes(&answer.peer.ip()), "{destination}: {}", answer.peer);
            }
        }
    }
}

fn internal_policy_local_stays_on_the_node(bench: &Bench) {
    for _ in 0..10 {
        let answer = bench.lab.ask_from_pod(0, at(vip(INTERNAL_LOCAL as u8), 80));
        assert_eq!(answered(answer, "internal policy Local").backend, at(PODS[1], PORTS[0]));
    }
}

fn affinity_keeps_a_client_with_its_backend(bench: &Bench) {
    let destination = at(vip(STICKY as u8), 80);
    for source in [CLIENT, CLIENT_2] {
        let ask = || answered(bench.lab.ask_from(source, destination), "sticky").backend;
        let first = ask();
        // Without affinity all of them would agree once in a million.
        assert!((0..20).all(|_| ask() == first), "{source} did not stay with {first}");
    }
}

fn a_service_without_endpoints_says_so_at_once(bench: &Bench) {
    let empty = EMPTY as u8;
    for destination in [at(vip(empty), 80), at(NIC, 30_083), at(balanced(empty), 80)] {
        let start = Instant::now();
        let error = bench.lab.ask(destination).expect_err("nobody is there");
        // kube-proxy's userspace mode accepts before it looks for an endpoint.
        let kinds: &[ErrorKind] = match bench.which() {
            Mode::Userspace => &[ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset],
            _ => &[ErrorKind::ConnectionRefused],
        };
        assert!(kinds.contains(&error.kind()), "{destination}: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{destination}: {:?}", start.elapsed());
    }
}

fn a_pod_reaches_itself_through_its_service(bench: &Bench) {
    let answer = bench.lab.ask_from_pod(0, at(vip(ALONE as u8), 80));
    let answer = answered(answer, "hairpin");
    assert_eq!(answer.backend.ip(), PODS[0]);
    assert!(is_nodes(&answer.peer.ip()), "{} was not replaced", answer.peer);
}

fn a_service_that_is_added_answers(bench: &mut Bench) {
    let mut added = service("added", 50, Some(30_090), vec![pod(1, PORTS[0])]);
    added.affinity = Affinity::ClientIp { timeout: Duration::from_secs(60) };
    bench.table.services.push(added);
    bench.add_last();
    let last = bench.table.services.len() - 1;
    for destination in [at(vip(50), 80), at(NIC, 30_090), at(balanced(50), 80)] {
        let answer = answered(bench.lab.ask(destination), &destination.to_string());
        assert_eq!(answer.backend, at(PODS[1], PORTS[0]));
        let outcome = bench.prove(&probe(answer, destination, last, 0));
        outcome.unwrap_or_else(|error| panic!("{destination}: {error}"));
    }
    // What was there before still is.
    answered(bench.lab.ask(at(NIC, 30_080)), "NodePort after the addition");
    answered(bench.lab.ask(at(vip(WEB as u8), 80)), "cluster address after the addition");
}

/// Takes the mode's state away behind its back: no proof may succeed after that.
fn a_proof_fails_once_the_state_is_gone(which: Mode, flush: &[&str]) {
    let (table, _) = table_for(IpFamily::Ipv4, which, Options::default());
    let Some(mut bench) = Bench::up(which, Options::default(), table) else { return };
    let destination = at(vip(WEB as u8), 80);
    let answer = answered(bench.lab.ask(destination), "before");
    let claim = probe(answer, destination, WEB, 0);
    Tool::new(flush[0])
        .args(flush[1..].iter().copied())
        .run_on(&bench.lab.node)
        .expect("the tool runs");
    match bench.prove(&claim) {
        Err(ProxyError::NotProved { expected, found, .. }) => {
            eprintln!("{which}: expected {expected}; found {found}");
        }
        other => panic!("{which}: {other:?}"),
    }
}

fn nft() -> Options {
    Options { backend: Backend::Nft, ..Options::default() }
}

#[test]
fn iptables_does_what_a_service_is() {
    conforms(Mode::Iptables, nft());
}

#[test]
fn iptables_legacy_does_what_a_service_is() {
    conforms(Mode::Iptables, Options { backend: Backend::Legacy, ..Options::default() });
}

#[test]
fn ipvs_does_what_a_service_is() {
    conforms(Mode::Ipvs, nft());
}

#[test]
fn userspace_does_what_a_service_is() {
    conforms(Mode::Userspace, nft());
}

#[test]
fn nftables_does_what_a_service_is() {
    conforms(Mode::Nftables, nft());
}

#[test]
fn ebpf_does_what_a_service_is() {
    conforms(Mode::Ebpf, nft());
}

#[test]
fn iptables_does_for_ipv6_what_a_service_is() {
    conforms_for_ipv6(Mode::Iptables, nft());
}

#[test]
fn ipvs_does_for_ipv6_what_a_service_is() {
    conforms_for_ipv6(Mode::Ipvs, nft());
}

#[test]
fn userspace_does_for_ipv6_what_a_service_is() {
    conforms_for_ipv6(Mode::Userspace, nft());
}

#[test]
fn nftables_does_for_ipv6_what_a_service_is() {
    conforms_for_ipv6(Mode::Nftables, nft());
}

#[test]
fn ebpf_does_for_ipv6_what_a_service_is() {
    conforms_for_ipv6(Mode::Ebpf, nft());
}

#[test]
fn ebpf_is_not_proved_once_a_device_with_its_program_is_gone() {
    let delete = ["ip", "link", "delete", "veth2"];
    a_proof_fails_once_the_state_is_gone(Mode::Ebpf, &delete);
}

#[test]
fn nftables_is_not_proved_once_its_rules_are_gone() {
    let flush = ["nft", "flush", "table", "ip", "kube-proxy"];
    a_proof_fails_once_the_state_is_gone(Mode::Nftables, &flush);
}

#[test]
fn iptables_is_not_proved_once_its_rules_are_gone() {
    a_proof_fails_once_the_state_is_gone(Mode::Iptables, &["iptables-nft", "-t", "nat", "-F"]);
}

#[test]
fn ipvs_is_not_proved_once_its_servers_are_gone() {
    a_proof_fails_once_the_state_is_gone(Mode::Ipvs, &["ipvsadm", "-C"]);
}

#[test]
fn ipvs_is_not_proved_once_its_rules_are_gone() {
    a_proof_fails_once_the_state_is_gone(Mode::Ipvs, &["iptables-nft", "-t", "nat", "-F"]);
}

#[test]
fn ipvs_is_not_proved_once_its_sets_are_empty() {
    a_proof_fails_once_the_state_is_gone(Mode::Ipvs, &["ipset", "flush"]);
}

#[test]
fn ipvs_is_not_proved_once_its_addresses_are_gone() {
    let flush = ["ip", "link", "delete", "kube-ipvs0"];
    a_proof_fails_once_the_state_is_gone(Mode::Ipvs, &flush);
}

#[test]
fn ipvs_is_not_proved_once_its_counters_stand_still() {
    let Some(mut bench) = Bench::up(Mode::Ipvs, Options::default(), table()) else { return };
    let destination = at(vip(WEB as u8), 80);
    let answer = answered(bench.lab.ask(destination), "before");
    let claim = probe(answer, destination, WEB, 0);
    bench.prove(&claim).expect("the counters have risen");
    // The connection is still in the table; the entrance has met another one.
    answered(bench.lab.ask(at(NIC, 30_082)), "another Service");
    match bench.prove(&claim) {
        Err(ProxyError::NotProved { expected, .. }) => {
            assert!(expected.contains("ipvsadm's counters"), "{expected}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn userspace_is_not_proved_once_its_rules_are_gone() {
    a_proof_fails_once_the_state_is_gone(Mode::Userspace, &["iptables-nft", "-t", "nat", "-F"]);
}

#[test]
fn none_is_proved_only_where_there_is_nothing() {
    let Some(lab) = Lab::up() else { return };
    let agent = PathBuf::new();
    let node = node(&lab, &agent);
    let mode = mode(Mode::None, Options::default());
    let mut installed = mode.install(&node, &table(), &[]).expect("nothing to install");
    let destination = at(PODS[0], PORTS[0]);
    let claim = probe(answered(lab.ask(destination), "direct"), destination, WEB, 0);
    installed.prove(&node, &table(), &claim).expect("there is nothing");
    let elsewhere = Probe { destination: at(vip(0), 80), ..claim.clone() };
    installed.prove(&node, &table(), &elsewhere).expect_err("another address answered");
    let rule = ["-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-j", "DNAT", "--to", "10.244.0.2"];
    Tool::new("iptables-nft").args(rule).run_on(&lab.node).expect("a rule");
    installed.prove(&node, &table(), &claim).expect_err("a rule changes destinations");
}
