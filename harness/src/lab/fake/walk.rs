// SPDX-License-Identifier: Apache-2.0
//! A walk through hosts that do not exist, for everything that keeps, prints and draws walks.

use record::{Leg, MatchedRule, Place, Walk, WalkStep};

use crate::plan::{self, Case, CniKind, Mode};

/// Node's address and the measured Service's NodePort.
const NODE_PORT: &str = "172.18.0.11:30080";
/// Place among the steps of the one that the mode's rules end at.
const PROXIED_AT: usize = 4;

/// The walk of one request of a case that takes `latency_ns`, of which the mode's rules take
/// `rules_ns`, from the client's port `port`. Every place but the rules takes the same time.
pub(super) fn walk(case: &Case, latency_ns: u64, rules_ns: u64, port: u16, kept: &str) -> Walk {
    let road = Road::new(case, port);
    let mut steps = road.steps(case);
    let last = steps.len() as u64 - 1;
    let mut before_ns = 0;
    for (place, step) in steps.iter_mut().enumerate() {
        let proxied_ns = if place < PROXIED_AT { 0 } else { rules_ns };
        // Multiplied before it is divided, so that the last step ends with the request.
        step.at_ns = (latency_ns - rules_ns) * place as u64 / last + proxied_ns;
        step.since_ns = step.at_ns - before_ns;
        before_ns = step.at_ns;
    }
    Walk {
        case: case.id("fake"),
        kept: kept.to_owned(),
        engine: "fake".to_owned(),
        client: road.client.clone(),
        destination: road.destination.clone(),
        backend: format!("{} {}", road.pod, road.backend),
        total_ns: latency_ns,
        steps,
        rules_walked: Some(rules_walked(case)),
        queries: Vec::new(),
        conntrack: vec![format!(
            "node1: tcp src {} dst {} reply src {}",
            road.client, road.destination, road.backend
        )],
        notes: vec!["the hosts of this walk do not exist".to_owned()],
    }
}

/// Rules that a first packet is tested against: all Services' under iptables, one look-up under
/// nftables.
pub(super) fn rules_walked(case: &Case) -> u64 {
    match case.mode {
        Mode::None | Mode::Ebpf => 0,
        Mode::Iptables => u64::from(case.services) + 2,
        Mode::Userspace | Mode::Ipvs | Mode::Nftables => 3,
    }
}

/// Who is on the way.
struct Road {
    client: String,
    destination: String,
    backend: String,
    /// Pod's name.
    pod: &'static str,
    remote: bool,
    wrapped: bool,
}

impl Road {
    fn new(case: &Case, port: u16) -> Self {
        let remote = case.route.place == plan::Place::Remote;
        let (pod, backend) =
            if remote { ("pod2-1", "10.244.1.2:8080") } else { ("pod1-2", "10.244.0.3:8080") };
        let destination = if case.mode == Mode::None { backend } else { NODE_PORT };
        Self {
            client: format!("10.8.0.1:{port}"),
            destination: destination.to_owned(),
            backend: backend.to_owned(),
            pod,
            remote,
            wrapped: remote && case.cni == CniKind::Vxlan,
        }
    }

    fn steps(&self, case: &Case) -> Vec<WalkStep> {
        let (there, back) = (Leg::Request, Leg::Response);
        let (client, node, pod) = ("client", "node1", self.pod);
        let mut steps = vec![
            call(there, "connect", "", client, "connect() called"),
            device(there, "SYN", "client_tx", client, "eth0 out"),
            device(there, "SYN", "wire", node, "eth0 in"),
            hook("conntrack", "PREROUTING after conntrack"),
            hook("proxy", "PREROUTING after NAT"),
            hook("route+filter", "FORWARD"),
        ];
        steps[PROXIED_AT].rules = rules(case, &self.backend);
        steps[PROXIED_AT].objects = vec!["hook PREROUTING, priority -99".to_owned()];
        steps.extend(self.crossing(there, "SYN"));
        steps.push(device(there, "SYN", "deliver", pod, "eth0 in"));
        steps.push(device(back, "SYN-ACK", "", pod, "eth0 out"));
        steps.push(device(back, "SYN-ACK", "wire", client, "eth0 in"));
        steps.push(call(back, "connect", "connect", client, "connect() returned"));
        steps.push(device(there, "request", "client_tx", client, "eth0 out"));
        steps.extend(self.crossing(there, "request"));
        steps.push(device(there, "request", "deliver", pod, "eth0 in"));
        steps.push(socket("pod_rx", pod));
        steps.push(call(there, "request", "wakeup", pod, "read returned"));
        steps.push(call(back, "response", "app", pod, "write called"));
        steps.push(device(back, "response", "pod_tx", pod, "eth0 out"));
        steps.extend(self.crossing(back, "response"));
        steps.push(device(back, "response", "wire", client, "eth0 in"));
        steps.push(call(back, "response", "client_rx", client, "read returned"));
        for (place, step) in steps.iter_mut().enumerate() {
            // Behind the mode's rules the destination is the pod, all the way to it; of packets
            // coming back the client is the first to see the source restored.
            let translated = place >= PROXIED_AT && step.host != client;
            let service = if translated { &self.backend } else { &self.destination };
            if step.place != Place::Call {
                let [from, to] = [&self.client, service].map(|end| Some(end.clone()));
                (step.source, step.destination) =
                    if step.leg == there { (from, to) } else { (to, from) };
            }
        }
        steps
    }

    /// Between two nodes, where there are two.
    fn crossing(&self, leg: Leg, packet: &str) -> Vec<WalkStep> {
        if !self.remote {
            let (stage, name) = ("cni", if leg == Leg::Request { "cni0 out" } else { "cni0 in" });
            return vec![device(leg, packet, stage, "node1", name)];
        }
        let (from, to) = if leg == Leg::Request { ("node1", "node2") } else { ("node2", "node1") };
        let out = device(leg, packet, "cni", from, "eth0 out");
        let into = device(leg, packet, "fabric", to, "eth0 in");
        [out, into].map(|step| WalkStep { encapsulated: self.wrapped, ..step }).into()
    }
}

fn rules(case: &Case, backend: &str) -> Vec<MatchedRule> {
    let rule = |table: &str, chain: &str, position, of, walked_before, text: String| MatchedRule {
        hook: "PREROUTING".to_owned(),
        table: table.to_owned(),
        chain: chain.to_owned(),
        position,
        of,
        walked_before,
        text,
    };
    match case.mode {
        Mode::None | Mode::Userspace | Mode::Ipvs | Mode::Ebpf => Vec::new(),
        Mode::Iptables => {
            let before = u64::from(case.services);
            let text = format!("-A KUBE-SEP-FAKE -p tcp -j DNAT --to-destination {backend}");
            let services = "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS";
            let last = case.services + 1;
            vec![
                rule("nat", "KUBE-SERVICES", last, last, before, services.to_owned()),
                rule("nat", "KUBE-SEP-FAKE", 2, 2, before + 1, text),
            ]
        }
        Mode::Nftables => {
            let text = "tcp . 30080 : goto external-FAKE-default/web/tcp/http";
            vec![rule("service-nodeports", "", 0, case.services, 1, text.to_owned())]
        }
    }
}

fn step(leg: Leg, packet: &str, stage: &str, host: &str, place: Place, name: &str) -> WalkStep {
    WalkStep {
        at_ns: 0,
        since_ns: 0,
        leg,
        packet: packet.to_owned(),
        stage: stage.to_owned(),
        host: host.to_owned(),
        place,
        name: name.to_owned(),
        source: None,
        destination: None,
        encapsulated: false,
        words: String::new(),
        objects: Vec::new(),
        rules: Vec::new(),
    }
}

fn call(leg: Leg, packet: &str, stage: &str, host: &str, name: &str) -> WalkStep {
    let words = format!("A program on {host}: {name}.");
    WalkStep { words, ..step(leg, packet, stage, host, Place::Call, name) }
}

fn device(leg: Leg, packet: &str, stage: &str, host: &str, name: &str) -> WalkStep {
    let words = format!("The {packet} passes a network device of {host}.");
    WalkStep { words, ..step(leg, packet, stage, host, Place::Device, name) }
}

/// A hook of the entry node that the connection's first packet enters.
fn hook(stage: &str, name: &str) -> WalkStep {
    let words = format!("The node's netfilter is done with {stage}.");
    WalkStep { words, ..step(Leg::Request, "SYN", stage, "node1", Place::Hook, name) }
}

fn socket(stage: &str, host: &str) -> WalkStep {
    let words = "The request waits in the server's socket.".to_owned();
    WalkStep {
        words,
        ..step(Leg::Request, "request", stage, host, Place::Socket, "socket readable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HOST_KERNEL, Plan, Profile};

    #[test]
    fn every_walk_lasts_as_long_as_its_request_and_never_goes_back_in_time() {
        let profile = Profile::embedded().unwrap();
        for group in Plan::new(&profile, &[HOST_KERNEL]).unwrap().groups {
            for case in &group.cases {
                for (latency_ns, rules_ns) in [(100_000, 0), (100_001, 13_013), (7, 3)] {
                    let walk = walk(case, latency_ns, rules_ns, 40_000, "trace");
                    let sum: u64 = walk.steps.iter().map(|step| step.since_ns).sum();
                    assert_eq!((sum, walk.total_ns), (latency_ns, latency_ns), "{}", walk.case);
                    assert!(walk.steps.iter().is_sorted_by_key(|step| step.at_ns));
                }
            }
        }
    }

    #[test]
    fn the_destination_changes_once_towards_the_pod_and_the_source_once_on_the_way_back() {
        let profile = Profile::embedded().unwrap();
        let case = &Plan::new(&profile, &[HOST_KERNEL]).unwrap().groups[0].cases[2];
        let walk = walk(case, 100_000, 13, 40_000, "trace");
        let ends = |packet: &str| {
            let mut ends: Vec<_> = walk
                .steps
                .iter()
                .filter(|step| step.packet == packet)
                .filter_map(|step| Some((step.source.clone()?, step.destination.clone()?)))
                .collect();
            ends.dedup();
            ends
        };
        let (client, pod) = ("10.8.0.1:40000".to_owned(), "10.244.1.2:8080".to_owned());
        let before = (client.clone(), NODE_PORT.to_owned());
        assert_eq!(ends("SYN"), [before.clone(), (client.clone(), pod.clone())]);
        let after = [(pod, client.clone()), (NODE_PORT.to_owned(), client)];
        assert_eq!(ends("response"), after);
    }
}
