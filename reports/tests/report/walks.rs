// SPDX-License-Identifier: Apache-2.0
//! A hand-made walk: NodePort to a pod on another node over VXLAN, under iptables with masquerade.

use record::{Leg, MatchedRule, Place, QueryWalk, Walk, WalkStep};

const CLIENT: &str = "10.8.0.1:40000";
const NODE_PORT: &str = "172.18.0.11:30080";
const TUNNEL: &str = "10.244.0.0:23456";
const POD: &str = "10.244.1.2:8080";

/// Leg, packet, time since the step before, stage, host, place, name, whether inside VXLAN, from, to.
type Row = (
    Leg,
    &'static str,
    u64,
    &'static str,
    &'static str,
    Place,
    &'static str,
    bool,
    [&'static str; 2],
);

const THERE: Leg = Leg::Request;
const BACK: Leg = Leg::Response;

const NONE: [&str; 2] = ["", ""];
const OUTSIDE: [&str; 2] = [CLIENT, NODE_PORT];
const CHOSEN: [&str; 2] = [CLIENT, POD];
const INSIDE: [&str; 2] = [TUNNEL, POD];
const OUTSIDE_BACK: [&str; 2] = [NODE_PORT, CLIENT];
const INSIDE_BACK: [&str; 2] = [POD, TUNNEL];

const ROWS: [Row; 29] = [
    (THERE, "connect", 0, "", "client", Place::Call, "connect called", false, NONE),
    (THERE, "SYN", 8_412, "", "client", Place::Device, "eth0 out", false, OUTSIDE),
    (THERE, "SYN", 2_204, "", "node1", Place::Device, "eth0 in", false, OUTSIDE),
    (THERE, "SYN", 611, "", "node1", Place::Hook, "PREROUTING before conntrack", false, OUTSIDE),
    (THERE, "SYN", 1_020, "", "node1", Place::Hook, "PREROUTING after conntrack", false, OUTSIDE),
    (
        THERE,
        "SYN",
        19_870,
        "",
        "node1",
        Place::Hook,
        "PREROUTING after destination NAT",
        false,
        CHOSEN,
    ),
    (THERE, "SYN", 702, "", "node1", Place::Hook, "FORWARD", false, CHOSEN),
    (THERE, "SYN", 1_455, "", "node1", Place::Hook, "POSTROUTING after source NAT", false, INSIDE),
    (THERE, "SYN", 1_980, "", "node1", Place::Device, "eth0 out", true, INSIDE),
    (THERE, "SYN", 2_312, "", "node2", Place::Device, "eth0 in", true, INSIDE),
    (THERE, "SYN", 4_104, "", "pod2-1", Place::Device, "eth0 in", false, INSIDE),
    (BACK, "SYN-ACK", 3_900, "", "pod2-1", Place::Device, "eth0 out", false, INSIDE_BACK),
    (BACK, "SYN-ACK", 9_804, "", "node1", Place::Device, "eth0 out", false, OUTSIDE_BACK),
    (BACK, "SYN-ACK", 1_733, "", "client", Place::Device, "eth0 in", false, OUTSIDE_BACK),
    (BACK, "connect", 6_020, "connect", "client", Place::Call, "connect returned", false, NONE),
    (THERE, "ACK", 1_100, "", "client", Place::Device, "eth0 out", false, OUTSIDE),
    (THERE, "request", 5_317, "client_tx", "client", Place::Device, "eth0 out", false, OUTSIDE),
    (THERE, "ACK", 890, "", "node1", Place::Device, "eth0 in", false, OUTSIDE),
    (THERE, "request", 1_502, "wire", "node1", Place::Device, "eth0 in", false, OUTSIDE),
    (
        THERE,
        "request",
        3_118,
        "nic_rx+conntrack+proxy+route+filter+masq",
        "node1",
        Place::Device,
        "eth0 out",
        true,
        INSIDE,
    ),
    (THERE, "request", 5_480, "deliver", "pod2-1", Place::Device, "eth0 in", false, INSIDE),
    (THERE, "request", 3_007, "pod_rx", "pod2-1", Place::Socket, "socket readable", false, INSIDE),
    (THERE, "request", 1_204_511, "wakeup", "pod2-1", Place::Call, "read returned", false, NONE),
    (BACK, "response", 17_005, "app", "pod2-1", Place::Call, "write called", false, NONE),
    (BACK, "response", 7_211, "pod_tx", "pod2-1", Place::Device, "eth0 out", false, INSIDE_BACK),
    (BACK, "response", 4_977, "fabric", "node1", Place::Device, "eth0 in", true, INSIDE_BACK),
    (
        BACK,
        "response",
        2_606,
        "nic_rx+conntrack+proxy+route+filter+masq",
        "node1",
        Place::Device,
        "eth0 out",
        false,
        OUTSIDE_BACK,
    ),
    (BACK, "response", 1_612, "wire", "client", Place::Device, "eth0 in", false, OUTSIDE_BACK),
    (BACK, "response", 11_402, "client_rx", "client", Place::Call, "read returned", false, NONE),
];

fn rule(
    hook: &str,
    chain: &str,
    position: u32,
    of: u32,
    walked_before: u64,
    text: &str,
) -> MatchedRule {
    MatchedRule {
        hook: hook.to_owned(),
        table: "nat".to_owned(),
        chain: chain.to_owned(),
        position,
        of,
        walked_before,
        text: text.to_owned(),
    }
}

fn rules(name: &str) -> Vec<MatchedRule> {
    match name {
        "PREROUTING after destination NAT" => vec![
            rule(
                "PREROUTING",
                "PREROUTING",
                1,
                1,
                0,
                "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            ),
            rule(
                "PREROUTING",
                "KUBE-SERVICES",
                1_001,
                1_001,
                1_001,
                "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
            ),
            rule(
                "PREROUTING",
                "KUBE-SEP-QWERTYUIOPASDFGH",
                2,
                2,
                1_006,
                "-A KUBE-SEP-QWERTYUIOPASDFGH -p tcp -m comment --comment \"default/web:http\" -m tcp -j DNAT --to-destination 10.244.1.2:8080",
            ),
        ],
        "POSTROUTING after source NAT" => vec![rule(
            "POSTROUTING",
            "KUBE-POSTROUTING",
            3,
            3,
            3,
            "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        )],
        _ => Vec::new(),
    }
}

fn words(place: Place, name: &str, packet: &str) -> String {
    match (place, name) {
        (_, "PREROUTING after destination NAT") => {
            "kube-proxy's rules found the Service behind the node's port and chose a pod: from here on \
             the packet is addressed to the pod."
                .to_owned()
        }
        (_, "POSTROUTING after source NAT") => {
            "The node put its own address in the client's place, so that the answer comes back to it."
                .to_owned()
        }
        (Place::Call, name) => format!("A program's call: {name}."),
        (Place::Hook, name) => format!("The kernel takes the {packet} through {name}."),
        (Place::Socket, _) => "The request waits in the server's socket.".to_owned(),
        (Place::Device, name) => format!("The {packet} passes {name}."),
    }
}

/// The walk; its longest step by far is the server's wake-up.
pub(crate) fn walk() -> Walk {
    let mut at_ns = 0;
    let steps =
        ROWS.map(|(leg, packet, since_ns, stage, host, place, name, encapsulated, [from, to])| {
            at_ns += since_ns;
            let end = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let hook = "BPF_PROG_TYPE_NETFILTER at PREROUTING, priority -99".to_owned();
            WalkStep {
                at_ns,
                since_ns,
                leg,
                packet: packet.to_owned(),
                stage: stage.to_owned(),
                host: host.to_owned(),
                place,
                name: name.to_owned(),
                source: end(from),
                destination: end(to),
                encapsulated,
                words: words(place, name, packet),
                objects: if place == Place::Hook { vec![hook] } else { Vec::new() },
                rules: rules(name),
            }
        });
    Walk {
        case: "netns/iptables+vxlan/nodeport-remote/svc-1000/newconn".to_owned(),
        kept: "slowest".to_owned(),
        engine: "bpf".to_owned(),
        client: CLIENT.to_owned(),
        destination: NODE_PORT.to_owned(),
        backend: format!("pod2-1 {POD}"),
        total_ns: at_ns,
        steps: steps.into(),
        rules_walked: Some(1_012),
        queries: Vec::new(),
        conntrack: vec![
            "node1: tcp 6 86399 ESTABLISHED src=10.8.0.1 dst=172.18.0.11 sport=40000 dport=30080 \
             src=10.244.1.2 dst=10.244.0.0 sport=8080 dport=23456 [ASSURED]"
                .to_owned(),
        ],
        notes: vec!["HTTP/1.1, 0 bytes sent, 1,024 bytes received".to_owned()],
    }
}

/// The walk with a text in every place that has one.
pub(crate) fn infected(text: &str) -> Walk {
    let mut walk = walk();
    for field in [
        &mut walk.case,
        &mut walk.engine,
        &mut walk.client,
        &mut walk.destination,
        &mut walk.backend,
    ] {
        *field = text.to_owned();
    }
    (walk.conntrack, walk.notes) = (vec![text.to_owned()], vec![text.to_owned()]);
    for step in &mut walk.steps {
        for field in
            [&mut step.packet, &mut step.stage, &mut step.host, &mut step.name, &mut step.words]
        {
            *field = text.to_owned();
        }
        (step.source, step.destination) = (Some(text.to_owned()), Some(text.to_owned()));
        step.objects = vec![text.to_owned()];
        step.rules = vec![MatchedRule {
            chain: text.to_owned(),
            table: text.to_owned(),
            ..rule(text, text, 1, 1, 1, text)
        }];
    }
    walk.queries = vec![query(text, text, text, &walk.steps)];
    walk
}

fn query(name: &str, kind: &str, answer: &str, steps: &[WalkStep]) -> QueryWalk {
    let steps: Vec<_> = steps.into();
    let total_ns = steps[steps.len() - 1].at_ns - steps[0].at_ns;
    let [name, kind, answer] = [name, kind, answer].map(str::to_owned);
    QueryWalk { name, kind, answer, total_ns, steps }
}

/// The walk with two queries for a name at the same time before it, and another two behind them.
pub(crate) fn named() -> Walk {
    let mut walk = walk();
    let step = |at_ns, since_ns, leg, packet: &str, stage: &str, host: &str, destination: &str| {
        let place = if destination.is_empty() { Place::Call } else { Place::Device };
        WalkStep {
            at_ns,
            since_ns,
            leg,
            packet: packet.to_owned(),
            stage: stage.to_owned(),
            host: host.to_owned(),
            place,
            name: match (place, packet) {
                (Place::Call, "query") => "query sent",
                (Place::Call, _) => "answer read",
                _ => "eth0 in",
            }
            .to_owned(),
            source: (!destination.is_empty()).then(|| "10.244.0.2:900".to_owned()),
            destination: (!destination.is_empty()).then(|| destination.to_owned()),
            encapsulated: false,
            words: "The client asks.".to_owned(),
            objects: Vec::new(),
            rules: Vec::new(),
        }
    };
    let steps = |at_ns: u64| {
        [
            step(at_ns, 0, THERE, "query", "", "client", ""),
            step(at_ns + 50, 50, THERE, "query", "dns_wire", "node1", "10.96.0.10:53"),
            step(at_ns + 90, 40, THERE, "query", "dns_cni", "pod1-2", "10.244.0.3:53"),
            step(at_ns + 190, 100, BACK, "answer", "dns_client_rx", "client", ""),
        ]
    };
    for (name, answer, at_ns) in [("web.local.", "NXDOMAIN", 0), ("web.", "NOERROR 10.96.0.1", 200)]
    {
        walk.queries.push(query(name, "A", answer, &steps(at_ns)));
        walk.queries.push(query(name, "AAAA", answer, &steps(at_ns + 5)));
    }
    walk
}
