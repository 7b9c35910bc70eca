// SPDX-License-Identifier: Apache-2.0
//! The three texts.

use super::*;
use crate::plan::Position;
use crate::proxy::{Fill, Protocol};

const NODE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 11));

#[test]
fn every_kind_of_service_is_written_as_kube_proxy_writes_it() {
    for text in Ipvs::default().render(&sample::every_kind(), sample::NODE, NODE_ADDRESS) {
        insta::assert_snapshot!(text.name, text.text);
    }
}

#[test]
fn of_ipv6_sets_have_names_and_addresses_of_their_own() {
    let table = sample::in_ipv6(sample::every_kind());
    let texts = Ipvs::default().render(&table, sample::NODE, "fd00:10:9::11".parse().unwrap());
    let [sets, rules, servers] = &texts[..] else { panic!("{} texts", texts.len()) };
    assert_eq!(rules.tool[0], "ip6tables-nft-restore");
    for line in sets.text.lines() {
        let name = line.split(' ').nth(1).unwrap();
        assert!(name.starts_with("KUBE-6-") && name.len() <= 31, "{line}");
    }
    assert!(!sets.text.contains("family inet "), "{}", sets.text);
    assert!(!rules.text.contains("-set KUBE-C"), "{}", rules.text);
    insta::assert_snapshot!("ipvs.rules.ipv6", servers.text);
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
    let sets = Sets::of(&table, sample::NODE, IpFamily::Ipv4);
    let added = sets.addition().text;
    assert!(added.contains("10.96.1.8") && !added.contains("10.96.1.7"), "{added}");
    assert!(sets.whole().text.ends_with(&added));
    let servers = Servers::of(&table, sample::NODE, NODE_ADDRESS, IpvsScheduler::Rr);
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

#[test]
fn every_virtual_server_has_the_scheduler_that_was_asked_for() {
    for scheduler in IpvsScheduler::ALL {
        let mode = Ipvs { scheduler, ..Ipvs::default() };
        let texts = mode.render(&sample::every_kind(), sample::NODE, NODE_ADDRESS);
        // Maglev hashes the source's port, too.
        let wanted = match scheduler {
            IpvsScheduler::Mh => " -s mh -b mh-port".to_owned(),
            other => format!(" -s {}", other.word()),
        };
        let mut servers = texts[2].text.lines().filter(|line| line.starts_with("-A"));
        assert!(servers.all(|line| line.contains(&wanted)), "{scheduler:?}");
    }
}

#[test]
fn ports_of_udp_have_sets_and_servers_of_their_own() {
    let mut table = sample::every_kind();
    for port in table.services.iter_mut().flat_map(|service| &mut service.ports) {
        port.protocol = Protocol::Udp;
    }
    let texts = Ipvs::default().render(&table, sample::NODE, NODE_ADDRESS);
    for line in [
        "add KUBE-NODE-PORT-UDP 30080 -exist",
        "add KUBE-NODE-PORT-LOCAL-UDP 30083 -exist",
        "add KUBE-CLUSTER-IP 10.96.1.1,udp:80 -exist",
        "add KUBE-LOOP-BACK 10.244.0.2,udp:8080,10.244.0.2 -exist",
    ] {
        assert!(texts[0].text.contains(line), "{line}");
    }
    assert!(!texts[0].text.contains("add KUBE-NODE-PORT-TCP"));
    let rule = "-A KUBE-NODE-PORT -p udp";
    assert_eq!(texts[1].text.lines().filter(|line| line.starts_with(rule)).count(), 2);
    assert!(
        texts[2].text.lines().all(|line| line.starts_with("-A -u ") || line.starts_with("-a -u "))
    );
}

#[test]
fn members_are_counted_once_and_as_the_kernel_lists_them() {
    let one = sample::with_endpoints();
    let sets = Sets::of(&one, sample::NODE, IpFamily::Ipv4);
    assert!(sets.members() < sets.whole().text.matches("add ").count(), "an endpoint of several");
    let listing = "Name: KUBE-CLUSTER-IP\nType: hash:ip,port\nNumber of entries: 9\n\n\
                   Name: KUBE-NODE-PORT-TCP\nType: bitmap:port\nNumber of entries: 5\n\n\
                   Name: others\nNumber of entries: 100\n";
    assert_eq!(sets::listed(listing, IpFamily::Ipv4), 14);
}
