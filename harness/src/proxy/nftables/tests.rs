// SPDX-License-Identifier: Apache-2.0
//! The rendered text of a table in which every feature of a Service occurs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::{Affinity, Endpoint, Policy, Protocol, ServicePort, sample};
use super::*;

const NODE: &str = "node1";
const NODE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 11));

fn port(name: &str, port: u16, node_port: Option<u16>, endpoints: &[(u8, &str)]) -> ServicePort {
    let endpoints = endpoints
        .iter()
        .map(|&(host, node)| Endpoint {
            address: SocketAddr::new(IpAddr::from([10, 244, 0, host]), 8080),
            node: node.to_owned(),
        })
        .collect();
    ServicePort { name: name.to_owned(), protocol: Protocol::Tcp, port, node_port, endpoints }
}

fn service(host: u8, name: &str, ports: Vec<ServicePort>) -> Service {
    Service {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        cluster_ip: IpAddr::from([10, 96, 0, host]),
        load_balancer_ips: Vec::new(),
        ports,
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

fn every_feature() -> ServiceTable {
    let both = [(2, NODE), (3, "node2")];
    let far = [(4, "node2")];
    let balanced = vec![IpAddr::from([10, 112, 0, 1]), IpAddr::from([10, 112, 0, 2])];
    let affinity = Affinity::ClientIp { timeout: Duration::from_secs(10_800) };
    let (cluster, local) = (Policy::Cluster, Policy::Local);
    let mut dns = port("dns", 53, None, &both);
    dns.protocol = Protocol::Udp;
    let services = vec![
        service(1, "one-port", vec![port("", 80, None, &both)]),
        service(2, "several-ports", vec![port("http", 80, Some(30_080), &both), dns]),
        Service {
            load_balancer_ips: balanced.clone(),
            ..service(3, "balanced", vec![port("http", 80, Some(30_081), &both)])
        },
        Service { affinity, ..service(4, "sticky", vec![port("http", 80, Some(30_082), &both)]) },
        Service {
            load_balancer_ips: vec![IpAddr::from([10, 112, 0, 3])],
            affinity,
            external_policy: local,
            ..service(5, "external-local", vec![port("http", 80, Some(30_083), &both)])
        },
        Service {
            load_balancer_ips: vec![IpAddr::from([10, 112, 0, 4])],
            external_policy: local,
            ..service(6, "external-local-elsewhere", vec![port("http", 80, Some(30_084), &far)])
        },
        Service {
            internal_policy: local,
            ..service(7, "internal-local", vec![port("http", 80, None, &both)])
        },
        Service {
            internal_policy: local,
            ..service(8, "internal-local-elsewhere", vec![port("http", 80, None, &far)])
        },
        Service {
            internal_policy: local,
            external_policy: local,
            ..service(9, "local", vec![port("http", 80, Some(30_085), &both)])
        },
        Service {
            load_balancer_ips: vec![IpAddr::from([10, 112, 0, 5])],
            external_policy: cluster,
            ..service(10, "nobody", vec![port("http", 80, Some(30_086), &[])])
        },
    ];
    ServiceTable { services }
}

#[test]
fn a_table_with_every_feature_renders_as_kube_proxy_writes_it() {
    let texts = Nftables::default().render(&every_feature(), NODE, NODE_ADDRESS);
    assert_eq!(texts.len(), 1);
    insta::assert_snapshot!("every_feature", texts[0].text);
}

/// But for addresses and what is named after them, the words are the same.
#[test]
fn of_ipv6_it_is_the_same_with_the_words_for_that_family() {
    let node: IpAddr = "fd00:10:9::b".parse().unwrap();
    let [four, six] = [(every_feature(), NODE_ADDRESS), (sample::in_ipv6(every_feature()), node)]
        .map(|(table, node)| Nftables::default().render(&table, NODE, node).remove(0));
    assert_eq!(four.rules, six.rules);
    let is_address = |word: &str| word.contains(':') && word.len() > 1 || word.contains("10.");
    let words = |text: &str| -> Vec<String> {
        let words = text.split([' ', '\n']).map(|word| match word {
            "ip6" => "ip".to_owned(),
            "ipv6_addr" => "ipv4_addr".to_owned(),
            word if is_address(word) => "ADDRESS".to_owned(),
            word if word.starts_with("endpoint-") || word.starts_with("affinity-") => {
                word.split('-').next().unwrap().to_owned()
            }
            word => word.to_owned(),
        });
        words.collect()
    };
    assert_eq!(words(&six.text), words(&four.text));
    let names: Vec<_> = six
        .text
        .lines()
        .filter(|line| line.starts_with("add chain ip6 kube-proxy endpoint-"))
        .collect();
    assert!(
        names.iter().all(|name| name.contains("__fd00.10.244..") && !name.contains(':')),
        "{names:?}"
    );
    let masquerade = "ip6 daddr fd00:10:96::1 tcp dport 80 ip6 saddr != fd00:10:244::/56 jump mark-for-masquerade";
    assert!(six.text.contains(masquerade), "{}", six.text);
}

/// Lines of kube-proxy's own test (`TestOverallNFTablesRules`), with its pods' and its Services'
/// prefix replaced by the lab's.
#[test]
fn kube_proxys_own_example_comes_out_line_by_line() {
    let endpoint =
        Endpoint { address: "10.180.0.1:80".parse().unwrap(), node: "elsewhere".to_owned() };
    let one = ServicePort { endpoints: vec![endpoint], ..port("p80", 80, Some(3003), &[]) };
    let mut service = service(0, "svc1", vec![one]);
    service.namespace = "ns1".to_owned();
    service.cluster_ip = IpAddr::from([172, 30, 0, 41]);
    let text = render_addition(&service, NODE).text;
    let expected = "\
add rule ip kube-proxy service-ULMVA6XW-ns1/svc1/tcp/p80 ip daddr 172.30.0.41 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
add rule ip kube-proxy external-ULMVA6XW-ns1/svc1/tcp/p80 jump mark-for-masquerade
add rule ip kube-proxy external-ULMVA6XW-ns1/svc1/tcp/p80 goto service-ULMVA6XW-ns1/svc1/tcp/p80
add rule ip kube-proxy service-ULMVA6XW-ns1/svc1/tcp/p80 numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 }
add rule ip kube-proxy endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 ip saddr 10.180.0.1 jump mark-for-masquerade
add rule ip kube-proxy endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 meta l4proto tcp dnat to 10.180.0.1:80
";
    let rules: String = text
        .lines()
        .filter(|line| line.starts_with("add rule"))
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(rules, expected);
    for element in [
        "cluster-ips { 172.30.0.41 }",
        "service-ips { 172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }",
        "service-nodeports { tcp . 3003 : goto external-ULMVA6XW-ns1/svc1/tcp/p80 }",
    ] {
        assert!(text.contains(&format!("add element ip kube-proxy {element}\n")), "{element}");
    }
}

#[test]
fn rules_and_elements_are_counted() {
    let text = &Nftables::default().render(&every_feature(), NODE, NODE_ADDRESS)[0];
    let counted = text
        .text
        .lines()
        .filter(|line| line.starts_with("add rule") || line.starts_with("add element"))
        .count();
    assert_eq!(text.rules, counted as u64);
}

#[test]
fn the_whole_is_the_empty_table_and_each_service_added_to_it() {
    let table = every_feature();
    let whole = &Nftables::default().render(&table, NODE, NODE_ADDRESS)[0];
    let mut sum =
        Nftables::default().render(&ServiceTable::default(), NODE, NODE_ADDRESS).remove(0);
    for service in &table.services {
        let addition = render_addition(service, NODE);
        sum.text.push_str(&addition.text);
        sum.rules += addition.rules;
    }
    assert_eq!(*whole, sum);
}

#[test]
fn what_is_split_off_is_every_choice_and_nothing_else() {
    let table = every_feature();
    let text = Nftables::default().render(&table, NODE, NODE_ADDRESS).remove(0).text;
    let (rest, choices) = choice::split(&text, IpFamily::Ipv4);
    let others: Vec<_> = text.lines().filter(|line| !line.contains(" numgen ")).collect();
    assert_eq!(rest.lines().collect::<Vec<_>>(), others);
    assert_eq!(choices.len(), text.lines().count() - others.len());
}

#[test]
fn what_the_local_policy_cannot_serve_here_is_dropped_and_without_endpoints_rejected() {
    let text = &Nftables::default().render(&every_feature(), NODE, NODE_ADDRESS)[0].text;
    for element in [
        "no-endpoint-services { 10.112.0.4 . tcp . 80 comment \"shop/external-local-elsewhere:http\" : drop }",
        "no-endpoint-nodeports { tcp . 30084 comment \"shop/external-local-elsewhere:http\" : drop }",
        "no-endpoint-services { 10.96.0.8 . tcp . 80 comment \"shop/internal-local-elsewhere:http\" : drop }",
        "no-endpoint-services { 10.96.0.10 . tcp . 80 comment \"shop/nobody:http\" : goto reject-chain }",
        "no-endpoint-nodeports { tcp . 30086 comment \"shop/nobody:http\" : goto reject-chain }",
    ] {
        assert!(text.contains(&format!("add element ip kube-proxy {element}\n")), "{element}");
    }
}
