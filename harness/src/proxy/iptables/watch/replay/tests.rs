// SPDX-License-Identifier: Apache-2.0
//! Walks through captured rules. What the rules counted is written into them.

use std::net::IpAddr;

use super::super::packet::{Carrier, way};
use super::*;
use crate::net::conntrack::{Flow, Tuple};

/// As mode ipvs has them after a NodePort request of a client, with a Service that has a local
/// endpoint.
const IPVS: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
[1:60] -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
[0:0] -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
[1:60] -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
[0:0] -A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
[1:60] -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
[1:60] -A KUBE-NODE-PORT -p tcp -m comment --comment \"Kubernetes nodeport TCP port for masquerade purpose\" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
[0:0] -A KUBE-POSTROUTING -m comment --comment \"Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose\" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
[0:0] -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
[1:60] -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
[1:60] -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
[0:0] -A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
[0:0] -A KUBE-SERVICES ! -s 10.244.0.0/16 -m comment --comment \"Kubernetes service cluster ip + port for masquerade purpose\" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
[1:60] -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
[0:0] -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
[6:400] -A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
[6:400] -A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER
[0:0] -A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
[0:0] -A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j DROP
COMMIT
";

/// Says of the sample's sets what ipset would.
struct Sample;

impl SetLook for Sample {
    fn look(&self, set: &SetMatch, packet: &Packet) -> Option<Option<Member>> {
        let port = packet.destination.port();
        let found = set.name == "KUBE-NODE-PORT-TCP" && port == 30_080;
        Some(found.then(|| (set.name.clone(), port.to_string(), 1)))
    }
}

/// Nobody to ask about sets.
struct Nobody;

impl SetLook for Nobody {
    fn look(&self, _: &SetMatch, _: &Packet) -> Option<Option<Member>> {
        None
    }
}

/// The NodePort's connection, and the way of its first packet.
fn node_port(carrier: Carrier) -> Vec<Stop> {
    let tuple = |source: &str, destination: &str| {
        Tuple::tcp(source.parse().unwrap(), destination.parse().unwrap())
    };
    let flow = Flow {
        original: tuple("10.8.0.1:40000", "10.9.0.11:30080"),
        reply: tuple("10.244.0.2:8080", "10.9.0.11:40000"),
        ..Flow::default()
    };
    way(&flow, true, carrier, &|address| address == IpAddr::from([10, 9, 0, 11]))
}

fn settled(text: &str, sets: &impl SetLook, carrier: Carrier) -> Result<Walk, String> {
    let save = Save::parse(text).unwrap();
    let mut replay = Replay::new(&save, sets);
    let walk = replay.walk(&node_port(carrier))?;
    replay.settle().map(|()| walk)
}

#[test]
fn what_ip_vs_takes_goes_in_by_input_and_out_by_output() {
    let walk = settled(IPVS, &Sample, Carrier::IpVs).unwrap();
    let places: Vec<String> = walk
        .rules
        .iter()
        .map(|rule| {
            let MatchedRule { hook, table, chain, position, of, walked_before, .. } = rule;
            format!("{hook} {table} {chain} {position}/{of} after {walked_before}")
        })
        .collect();
    assert_eq!(
        places,
        [
            "PREROUTING nat PREROUTING 1/1 after 0",
            "PREROUTING nat KUBE-SERVICES 3/4 after 3",
            "PREROUTING nat KUBE-NODE-PORT 1/1 after 4",
            "PREROUTING KUBE-NODE-PORT-TCP  0/1 after 4",
            "PREROUTING nat KUBE-MARK-MASQ 1/1 after 5",
            "INPUT filter INPUT 1/1 after 0",
            "OUTPUT filter OUTPUT 1/1 after 0",
            "POSTROUTING nat POSTROUTING 1/1 after 0",
            "POSTROUTING nat KUBE-POSTROUTING 3/4 after 3",
            "POSTROUTING nat KUBE-POSTROUTING 4/4 after 4",
        ]
    );
    // After the marking, KUBE-SERVICES has one rule left; KUBE-IPVS-FILTER has two.
    assert_eq!(walk.walked, 6 + 1 + 3 + 1 + 5);
    assert_eq!(walk.rules[3].text, "30080");
}

#[test]
fn counters_decide_where_nobody_can_be_asked() {
    let told = settled(IPVS, &Sample, Carrier::IpVs).unwrap();
    let counted = settled(IPVS, &Nobody, Carrier::IpVs).unwrap();
    assert_eq!(counted.walked, told.walked);
    // All but the member, which nobody named.
    assert_eq!(counted.rules.len(), told.rules.len() - 1);
}

#[test]
fn a_walk_that_the_counters_do_not_bear_out_is_an_error() {
    // The stack would have taken the packet through FORWARD or not out by OUTPUT at all.
    let uncounted = IPVS.replace("[1:60] -A KUBE-MARK-MASQ", "[0:0] -A KUBE-MARK-MASQ");
    let error = settled(&uncounted, &Sample, Carrier::IpVs).unwrap_err();
    assert!(error.starts_with("not counted, but on the way: -A KUBE-MARK-MASQ"), "{error}");
    let again = IPVS.replace("[1:60] -A KUBE-SERVICES", "[2:120] -A KUBE-SERVICES");
    let error = settled(&again, &Sample, Carrier::IpVs).unwrap_err();
    assert!(error.starts_with("2 packets counted where the walk has 1"), "{error}");
    let missed = IPVS.replace("[6:400] -A OUTPUT", "[0:0] -A OUTPUT");
    let error = settled(&missed, &Sample, Carrier::IpVs).unwrap_err();
    assert!(error.starts_with("not counted, but on the way: -A OUTPUT"), "{error}");
}

#[test]
fn a_report_to_the_routers_of_the_link_is_not_taken_for_the_connection() {
    let with_report = IPVS.replace("[1:60] -A PREROUTING", "[2:100] -A PREROUTING");
    let walk = settled(&with_report, &Sample, Carrier::IpVs).unwrap();
    assert_eq!(walk, settled(IPVS, &Sample, Carrier::IpVs).unwrap());
    let too_many = IPVS.replace("[1:60] -A PREROUTING", "[99:9900] -A PREROUTING");
    assert!(settled(&too_many, &Sample, Carrier::IpVs).is_err());
}

#[test]
fn chains_in_circles_are_an_error() {
    let circle = "*nat\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n[1:1] -A PREROUTING -j A\n\
                  [1:1] -A A -j A\nCOMMIT\n";
    let error = settled(circle, &Nobody, Carrier::Stack).unwrap_err();
    assert!(error.contains("in circles"), "{error}");
}

#[test]
fn a_goto_does_not_come_back_and_a_return_does() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n\
                [1:1] -A PREROUTING -j A\n[1:1] -A PREROUTING -p tcp\n\
                [1:1] -A A -g B\n[0:0] -A A -j ACCEPT\n\
                [1:1] -A B -j RETURN\n[0:0] -A B -j ACCEPT\nCOMMIT\n";
    let walk = settled(text, &Nobody, Carrier::Stack).unwrap();
    let chains: Vec<&str> = walk.rules.iter().map(|rule| rule.chain.as_str()).collect();
    assert_eq!((chains, walk.walked), (vec!["PREROUTING", "A", "B", "PREROUTING"], 4));
}
