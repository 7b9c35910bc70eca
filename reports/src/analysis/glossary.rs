// SPDX-License-Identifier: Apache-2.0
//! What each stage is, in one line. The whole list, with sources, is in `docs/method.md`.

use super::stage;

/// Stage names and what happens between their two probes, in path order.
pub const STAGES: &[(&str, &str)] = &[
    ("dns", "name looked up by the client"),
    ("connect", "client's connect() called to connected: SYN there, SYN-ACK back"),
    ("tls", "TLS handshake of a new connection: the client's part and the way there and back"),
    ("pod_tls", "the server's part of the TLS handshake"),
    ("ingress_tls", "the ingress controller's part of the TLS handshake"),
    (
        "upgrade",
        "upgrade to WebSocket asked for and granted: the way there and back, and the server",
    ),
    ("handover", "connected, secured or upgraded, to request written: the client itself"),
    ("client_tx", "client's write to the client's interface"),
    ("wire", "client's interface to the node's NIC or the load balancer, or back"),
    ("lb", "in at the load balancer, out by its connection on the other side: its own work"),
    ("lb_wire", "load balancer to the node's NIC, or back"),
    (
        "ingress",
        "in at the ingress controller's pod, out by its connection to the backend: all its work",
    ),
    ("nic_rx", "NIC receive (softirq, GRO) to PREROUTING, before conntrack"),
    ("conntrack", "connection tracking looks the packet up"),
    ("proxy", "the proxy mode's rules find the Service and choose the endpoint (destination NAT)"),
    (
        "route",
        "routing decision, up to FORWARD, or to INPUT where the node itself takes the packet up",
    ),
    ("filter", "the chains of FORWARD, or of OUTPUT, up to POSTROUTING"),
    ("masq", "POSTROUTING, source NAT"),
    (
        "egress",
        "behind source NAT to the device: conntrack confirms a new connection, neighbour, queue",
    ),
    ("cni", "through the CNI's devices, between the node and the pod's eth0"),
    ("encap", "into the tunnel, on the entry node"),
    ("fabric", "between the two nodes"),
    ("decap", "out of the tunnel, on the pod's node"),
    ("deliver", "from the second node's NIC to the pod's eth0"),
    ("pod_rx", "pod's eth0 to data readable on the server's socket"),
    ("wakeup", "readable to the server's read returning"),
    ("app", "read returned to response written: the server itself"),
    ("pod_tx", "server's write to the pod's eth0"),
    ("client_rx", "client's interface to the client's read returning"),
    ("body", "first byte of the response read by the client to its last byte read"),
];

/// What a stage is, in one line; none where the name, or a part of a joined one, is not in the
/// list.
pub fn explain(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('+').collect();
    let meanings: Option<Vec<String>> = parts.iter().map(|part| meaning(part)).collect();
    match meanings?.as_slice() {
        [one] => Some(one.clone()),
        some => Some(format!("{} stages that these probes could not tell apart", some.len())),
    }
}

fn meaning(name: &str) -> Option<String> {
    let known = |name: &str| STAGES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    match stage::beyond_ingress(name) {
        Some(name) => Some(format!("behind the ingress controller: {}", known(name)?)),
        None => known(name).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_listed_once_under_a_simple_name() {
        for (place, (name, meaning)) in STAGES.iter().enumerate() {
            assert!(!meaning.is_empty() && !name.contains('+'), "{name}");
            assert!(STAGES[place + 1..].iter().all(|(other, _)| other != name), "{name} twice");
        }
    }

    #[test]
    fn a_joined_name_is_explained_only_when_all_its_parts_are_known() {
        assert_eq!(explain("masq").unwrap(), "POSTROUTING, source NAT");
        assert_eq!(
            explain("route+filter").unwrap(),
            "2 stages that these probes could not tell apart"
        );
        assert_eq!(explain("route+warp"), None);
        assert_eq!(
            explain("up_masq").unwrap(),
            "behind the ingress controller: POSTROUTING, source NAT"
        );
        assert_eq!(explain("up_warp"), None);
    }
}
