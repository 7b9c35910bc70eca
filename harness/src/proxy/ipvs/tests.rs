// SPDX-License-Identifier: Apache-2.0
//! The three texts.

use super::*;
use crate::plan::Position;
use crate::proxy::Fill;

const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 11);

#[test]
fn every_kind_of_service_is_written_as_kube_proxy_writes_it() {
    for text in Ipvs::default().render(&sample::every_kind(), sample::NODE, NODE_ADDRESS) {
        insta::assert_snapshot!(text.name, text.text);
    }
}

#[test]
fn the_number_of_iptables_rules_does_not_depend_on_the_number_of_services() {
    let rules = |services| {
        let fill = Fill { services, endpoints: 2, position: Position::Last, seed: 3 };
        let table = fill.table(vec![sample::plain()]).expect("fits");
        Ipvs::default().render(&table, sample::NODE, NODE_ADDRESS)[1].text.clone()
    };
    assert_eq!(rules(2), rules(2_000));
}

#[test]
fn what_is_added_for_the_last_service_is_the_end_of_the_whole() {
    let table = sample::every_kind();
    let sets = Sets::of(&table, sample::NODE);
    let added = sets.addition().text;
    assert!(added.contains("10.96.1.8") && !added.contains("10.96.1.7"), "{added}");
    assert!(sets.whole().text.ends_with(&added));
    let servers = Servers::of(&table, sample::NODE, NODE_ADDRESS);
    let added = servers.addition().text;
    assert!(added.contains("10.96.1.8:80") && !added.contains("10.96.1.7:80"), "{added}");
    assert!(servers.whole().text.ends_with(&added));
    // Cluster addresses of nine ports, LoadBalancer addresses of five, NodePorts of six.
    assert_eq!(servers.count(), 9 + 5 + 6);
}

#[test]
fn every_set_that_a_rule_looks_into_is_made() {
    let texts = Ipvs::default().render(&sample::every_kind(), sample::NODE, NODE_ADDRESS);
    let (sets, rules) = (&texts[0].text, &texts[1].text);
    for line in rules.lines() {
        if let Some((_, rest)) = line.split_once("--match-set ") {
            let set = rest.split(' ').next().expect("a name");
            assert!(sets.contains(&format!("create {set} ")), "{set}");
        }
    }
}
