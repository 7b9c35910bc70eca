// SPDX-License-Identifier: Apache-2.0
//! Translated destinations on bridged pods: what `br_netfilter` and hairpin ports are for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use harness::lab::netns::{NetnsLab, Topology};
use harness::net::{Change, Cidr, Netns, Route, Tool};
use harness::plan::CniKind;

use crate::traffic::{serve, talk};
use crate::{down, lab};

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);
const SWITCH: &str = "net/bridge/bridge-nf-call-iptables";

/// A destination translation to `backend` on the entry node, and what kube-proxy adds for a pod
/// that is its own backend: the source is masqueraded.
fn translate(lab: &NetnsLab, backend: SocketAddr) {
    let ip = backend.ip();
    let rules = format!(
        "add table ip t
         add chain ip t pre {{ type nat hook prerouting priority dstnat; }}
         add rule ip t pre ip daddr {} tcp dport {} dnat to {backend}
         add chain ip t post {{ type nat hook postrouting priority srcnat; }}
         add rule ip t post ip saddr {ip} ip daddr {ip} masquerade
         ",
        VIP.ip(),
        VIP.port()
    );
    Tool::new("nft").args(["-f", "-"]).stdin(rules).run_on(&lab.nodes()[0].netns).unwrap();
}

/// Whether a pod of the entry node gets an answer from `backend`, another or itself, at the VIP.
fn answers(lab: &NetnsLab, client: usize, backend: usize) -> bool {
    let (client, backend) = (&lab.pods()[client], &lab.pods()[backend]);
    let address = backend.address;
    let listener = backend.netns.run(move || TcpListener::bind((address, 0))).unwrap();
    translate(lab, listener.local_addr().unwrap());
    let closer = listener.try_clone().unwrap();
    let server = serve(listener, 10);
    let outcome = talk(&client.netns, None, VIP, 10);
    if outcome.is_err() {
        // Nobody came; a connection from next door ends the wait.
        let open = closer.local_addr().unwrap();
        talk(&lab.nodes()[0].netns, None, open, 10).unwrap();
    }
    server.join().unwrap();
    Tool::new("nft").args(["flush", "ruleset"]).run_on(&lab.nodes()[0].netns).unwrap();
    outcome.is_ok()
}

#[test]
fn a_pod_reaches_a_service_of_its_neighbour_and_of_itself_where_answers_pass_the_node() {
    for &cni in CniKind::OWN {
        let Some(lab) = lab(&Topology::default(), cni) else { continue };
        // A slave's answer to its neighbour never passes the node: hence `Cni::carries()`.
        let passes = !matches!(cni, CniKind::Ipvlan | CniKind::Macvlan);
        assert_eq!(answers(&lab, 0, 1), passes, "{cni}: a neighbour's Service");
        assert!(answers(&lab, 0, 0), "{cni}: its own Service");
        down(lab);
    }
}

#[test]
fn without_br_netfilter_bridged_answers_miss_their_translation_and_routed_ones_do_not() {
    let Some(lab) = lab(&Topology::default(), CniKind::Bridge) else { return };
    let node = &lab.nodes()[0].netns;
    if node.sysctl(SWITCH).unwrap().is_none() {
        eprintln!("SKIP {}", lab.notes().join("; "));
        return;
    }
    assert_eq!(node.sysctl(SWITCH).unwrap().as_deref(), Some("1"));
    node.write_sysctls([(SWITCH, "0")]).unwrap();
    assert!(!answers(&lab, 0, 1), "answered although the answer was bridged past the tables");
    // What the CNI does where the kernel has no br_netfilter: neighbours through the gateway.
    for pod in &lab.pods()[..2] {
        let neighbours = Cidr { address: IpAddr::from([10, 244, 0, 0]), prefix: 27 };
        let gateway = IpAddr::from([10, 244, 0, 1]);
        let gateway_first = Route::on_link(Cidr::host(gateway), "eth0");
        let route = Route::via(neighbours, gateway, "eth0");
        pod.netns.apply(vec![Change::Route(gateway_first), Change::Route(route)]).unwrap();
    }
    assert!(answers(&lab, 0, 1), "not answered although the answer was routed");
    down(lab);
}

#[test]
fn hosts_have_the_settings_the_path_depends_on_and_the_wire_has_no_netfilter() {
    let Some(lab) = lab(&Topology::default(), CniKind::Ptp) else { return };
    for host in lab.hosts() {
        is_set(host, "net/ipv6/conf/eth0/disable_ipv6", "1");
        is_set(host, "net/ipv4/conf/eth0/accept_redirects", "0");
        is_set(host, "net/ipv4/conf/eth0/send_redirects", "0");
    }
    is_set(&lab.client().netns, "net/ipv4/conf/eth0/rp_filter", "0");
    for node in lab.nodes() {
        is_set(&node.netns, "net/ipv4/conf/all/rp_filter", "0");
        is_set(&node.netns, "net/ipv4/conf/eth0/rp_filter", "2");
        is_set(&node.netns, "net/ipv4/ip_forward", "1");
        is_set(&node.netns, "net/ipv4/tcp_reflect_tos", "1");
        is_set(&node.netns, SWITCH, "1");
    }
    for pod in lab.pods() {
        is_set(&pod.netns, "net/ipv4/conf/eth0/rp_filter", "2");
        is_set(&pod.netns, "net/ipv4/tcp_reflect_tos", "1");
        is_set(&pod.netns, "net/core/somaxconn", "4096");
    }
    is_set(lab.fabric(), SWITCH, "0");
    down(lab);
}

/// The value is this, unless the kernel has no such setting.
fn is_set(host: &Netns, key: &str, value: &str) {
    match host.sysctl(key).unwrap() {
        Some(found) => assert_eq!(found, value, "{} {key}", host.name()),
        None => eprintln!("SKIP {}: this kernel has no {key}", host.name()),
    }
}
