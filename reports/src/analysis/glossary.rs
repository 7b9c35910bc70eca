// SPDX-License-Identifier: Apache-2.0
//! What each stage is, in one line. The whole list, with sources, is in `docs/method.md`.

/// Stage names and what happens between their two probes, in path order.
pub const STAGES: &[(&str, &str)] = &[
    ("dns", "name looked up by the client"),
    ("connect", "client's connect() called to connected: SYN there, SYN-ACK back"),
    ("tls", "TLS handshake"),
    ("client_tx", "client's write to the client's interface"),
    ("wire", "client's interface to the node's NIC, or back"),
    ("nic_rx", "NIC receive (softirq, GRO) to PREROUTING, before conntrack"),
    ("conntrack", "connection tracking looks the packet up"),
    ("proxy", "the proxy mode's rules find the Service and choose the endpoint (destination NAT)"),
    ("route", "routing decision, up to FORWARD"),
    ("filter", "FORWARD chain"),
    ("masq", "POSTROUTING, source NAT"),
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
];

/// What a stage is; stages an engine cannot tell apart are joined with `+` and explained part by
/// part. None where a part is not in the list.
pub fn explain(name: &str) -> Option<String> {
    let parts: Option<Vec<&str>> = name.split('+').map(part).collect();
    let parts = parts?;
    if let [one] = parts.as_slice() {
        return Some((*one).to_owned());
    }
    let joined: Vec<String> =
        name.split('+').zip(parts).map(|(n, p)| format!("{n}: {p}")).collect();
    Some(format!("seen as one: {}", joined.join("; ")))
}

fn part(name: &str) -> Option<&'static str> {
    STAGES.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_name_is_explained_part_by_part() {
        let text = explain("route+filter").unwrap();
        assert_eq!(
            text,
            "seen as one: route: routing decision, up to FORWARD; filter: FORWARD chain"
        );
        assert_eq!(explain("route+warp"), None);
    }
}
