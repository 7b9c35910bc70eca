// SPDX-License-Identifier: Apache-2.0
//! The text, and the ports that it and the process share.

use std::collections::HashSet;

use super::*;
use crate::plan::Position;
use crate::proxy::{Fill, Policy, Protocol};

const NODE_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 11));

#[test]
fn every_kind_of_service_is_written_as_kube_proxy_wrote_it() {
    let texts = Userspace::default().render(&sample::every_kind(), sample::NODE, NODE_ADDRESS);
    insta::assert_snapshot!(texts[0].text);
}

#[test]
fn the_process_is_told_the_endpoints_that_each_policy_allows() {
    let ports = Ports::assign(&sample::every_kind(), sample::NODE).expect("small");
    let shown: Vec<String> = ports
        .ports
        .iter()
        .map(|port| {
            format!(
                "{} at {} to {:?} for {:?} {:?} {:?}",
                port.name,
                port.portal.listen_port,
                port.portal.endpoints,
                port.addresses,
                port.node_port,
                port.portal.affinity_seconds
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn ports_are_distinct_and_stay_when_a_service_is_added() {
    let fill = |services| Fill { services, endpoints: 2, position: Position::First, seed: 1 };
    let table = |services| fill(services).table(vec![sample::plain()]).expect("fits");
    let ports = |services| Ports::assign(&table(services), sample::NODE).expect("fits").ports;
    let (thirty, more) = (ports(30_000), ports(30_001));
    assert_eq!(thirty, more[..30_000]);
    let distinct: HashSet<u16> = more.iter().map(|port| port.portal.listen_port).collect();
    assert_eq!(distinct.len(), 30_001);
}

#[test]
fn a_table_that_is_too_large_or_has_udp_is_refused_in_words() {
    let fill = Fill { services: 33_000, endpoints: 2, position: Position::First, seed: 1 };
    let large = fill.table(Vec::new()).expect("fits");
    let error = Ports::assign(&large, sample::NODE).expect_err("too large").to_string();
    assert!(error.contains("32488 ports") && error.contains("33000 Services"), "{error}");
    let mut service = sample::plain();
    service.ports[0].protocol = Protocol::Udp;
    let udp = ServiceTable { services: vec![service] };
    let error = Ports::assign(&udp, sample::NODE).expect_err("UDP").to_string();
    assert!(error.contains("sample/plain:http is UDP"), "{error}");
    assert!(Userspace::default().render(&udp, sample::NODE, NODE_ADDRESS).is_empty());
}

#[test]
fn a_service_whose_policies_differ_has_a_port_for_each() {
    let mut service = sample::plain();
    service.external_policy = Policy::Local;
    service.ports[0].node_port = Some(30_000);
    let table = ServiceTable { services: vec![service] };
    let ports = Ports::assign(&table, sample::NODE).expect("small").ports;
    let endpoints: Vec<_> = ports.iter().map(|port| port.portal.endpoints.len()).collect();
    assert_eq!(endpoints, [2, 1]);
    assert_eq!(ports[0].node_port, None);
    assert_eq!(ports[1].node_port, Some(30_000));
}
