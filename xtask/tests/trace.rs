// SPDX-License-Identifier: Apache-2.0
//! Ring 2: `trace` on namespaces of this machine, one request told from connect to last byte.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails, and skips are for whoever runs it"
)]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn trace(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["trace", "--kernel", "host"]).args(arguments).env("CI", "true");
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    output
}

/// A way through the lab, and what a walk along it has to show whatever the mode.
struct Way {
    cni: &'static str,
    route: &'static str,
    client: &'static str,
    nodes: &'static [&'static str],
    /// What the names of the pods begin with that may answer.
    pods: &'static str,
    /// What is in the Service's address and in no pod's.
    service: &'static str,
}

const NODEPORT_REMOTE: Way = Way {
    cni: "bridge",
    route: "nodeport-remote",
    client: "client",
    nodes: &["node1", "node2"],
    pods: "pod2-",
    service: ":30080",
};

const CLUSTERIP_LOCAL: Way = Way {
    cni: "vxlan",
    route: "clusterip-local",
    client: "pod1-1",
    nodes: &["node1"],
    pods: "pod1-",
    service: "10.96.",
};

/// A walk as `--json` has it.
struct Walk(Value);

impl Walk {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap()
    }

    fn steps(&self) -> &[Value] {
        self.0["steps"].as_array().unwrap()
    }

    /// The pod that answered and the address it answered at.
    fn backend(&self) -> (&str, &str) {
        self.text("backend").split_once(' ').unwrap()
    }

    /// Passages of a packet, in the order of time; calls are none.
    fn passages(&self, packet: &str) -> Vec<&Value> {
        let passes = |step: &&Value| step["packet"] == packet && step["place"] != "call";
        self.steps().iter().filter(passes).collect()
    }

    /// Hosts that a packet was on, each as often as the packet came to it.
    fn hosts(&self, packet: &str) -> Vec<&str> {
        let mut hosts: Vec<_> =
            self.passages(packet).iter().map(|step| step["host"].as_str().unwrap()).collect();
        hosts.dedup();
        hosts
    }

    /// Every matched rule with the place of its step.
    fn rules(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.steps().iter().enumerate().flat_map(|(place, step)| {
            step["rules"].as_array().unwrap().iter().map(move |rule| (place, rule))
        })
    }

    fn rule_texts(&self) -> Vec<&str> {
        self.rules().map(|(_, rule)| rule["text"].as_str().unwrap()).collect()
    }

    /// Whether the first packet was seen in a netfilter hook of the entry node.
    fn entered_netfilter(&self) -> bool {
        let of_node1 = |step: &&Value| step["host"] == "node1" && step["place"] == "hook";
        self.passages("SYN").into_iter().any(|step| of_node1(&step))
    }

    fn conntrack(&self) -> Vec<&str> {
        self.0["conntrack"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect()
    }
}

/// One walk for each mode that this machine has; that `ebpf` may be missing is said on stderr.
fn walks(way: &Way) -> Vec<(&'static str, Walk)> {
    let modes = ["none", "userspace", "iptables", "nftables", "ebpf"];
    let narrow = ["--mode", &modes.join(","), "--cni", way.cni, "--route", way.route, "--json"];
    let output = trace(&narrow);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let walks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut walks = walks.into_iter().map(Walk);
    let mut told = Vec::new();
    for mode in modes {
        if mode == "ebpf"
            && let Some(reason) = stderr.lines().find(|line| line.starts_with("skipped ebpf:"))
        {
            eprintln!("{reason}");
            continue;
        }
        let walk = walks.next().unwrap_or_else(|| panic!("no walk of {mode}: {stderr}"));
        let case = format!("netns/{mode}+{}/{}/svc-1/newconn", way.cni, way.route);
        assert_eq!(walk.text("case"), case);
        told.push((mode, walk));
    }
    assert!(walks.next().is_none(), "more walks than modes");
    told
}

#[test]
fn a_walk_through_a_node_port_to_another_node_is_whole_in_every_mode() {
    every_mode_tells_it(&NODEPORT_REMOTE);
}

#[test]
fn a_walk_through_a_cluster_ip_to_the_same_node_is_whole_in_every_mode() {
    every_mode_tells_it(&CLUSTERIP_LOCAL);
}

fn every_mode_tells_it(way: &Way) {
    for (mode, walk) in walks(way) {
        // What a failed assertion is about.
        eprintln!("{mode}: {} steps by engine {}", walk.steps().len(), walk.text("engine"));
        assert_eq!(walk.text("kept"), "trace");
        times_add_up(&walk);
        the_way_is_the_routes(&walk, way, mode);
        addresses_change_as_they_have_to(&walk, way, mode);
        match mode {
            "none" => nothing_is_matched(&walk),
            "userspace" => the_process_is_in_between(&walk),
            "iptables" => rules_translate(&walk, "-j DNAT --to-destination"),
            "nftables" => rules_translate(&walk, "dnat to"),
            _ => maps_translate(&walk),
        }
    }
}

fn times_add_up(walk: &Walk) {
    let ns = |step: &Value, key: &str| step[key].as_u64().unwrap();
    let (first, last) = (&walk.steps()[0], walk.steps().last().unwrap());
    assert_eq!((ns(first, "at_ns"), ns(first, "since_ns")), (0, 0), "{first:#}");
    let mut sum = 0;
    for step in walk.steps() {
        sum += ns(step, "since_ns");
        assert_eq!(sum, ns(step, "at_ns"), "{step:#}");
    }
    assert_eq!(sum, walk.0["total_ns"].as_u64().unwrap());
    assert_eq!(first["name"], "connect called");
    assert_eq!(last["name"], "last byte read");
    assert_eq!((&first["place"], &last["place"]), (&"call".into(), &"call".into()));
}

/// What goes the whole way back. A process in between answers the client's SYN by itself.
fn answers(mode: &str) -> &'static [&'static str] {
    if mode == "userspace" { &["response"] } else { &["SYN-ACK", "response"] }
}

fn the_way_is_the_routes(walk: &Walk, way: &Way, mode: &str) {
    let pod = walk.backend().0;
    assert!(pod.starts_with(way.pods) && pod != way.client, "{pod} answered");
    let mut hosts = [&[way.client], way.nodes, &[pod]].concat();
    for packet in ["SYN", "request"] {
        assert_eq!(walk.hosts(packet), hosts, "{packet}");
    }
    hosts.reverse();
    for packet in answers(mode) {
        assert_eq!(walk.hosts(packet), hosts, "{packet}");
    }
    // Neither a bridge between the nodes nor a way on one node has a tunnel in it.
    assert!(walk.steps().iter().all(|step| step["encapsulated"] == false));
}

fn addresses_change_as_they_have_to(walk: &Walk, way: &Way, mode: &str) {
    let (asked, answered) = (walk.text("destination"), walk.backend().1);
    if mode == "none" {
        assert_eq!(asked, answered);
    } else {
        assert!(asked.contains(way.service), "{asked} is not the Service's");
    }
    for packet in ["SYN", "request"] {
        let passages = walk.passages(packet);
        let (out, arrived) = (passages[0], passages[passages.len() - 1]);
        assert_eq!(out["source"], walk.text("client"), "{out:#}");
        assert_eq!(out["destination"], asked, "{out:#}");
        assert_eq!(arrived["destination"], answered, "{arrived:#}");
    }
    for packet in answers(mode) {
        let passages = walk.passages(packet);
        let (out, arrived) = (passages[0], passages[passages.len() - 1]);
        assert_eq!(out["source"], answered, "{out:#}");
        // The client must find the Service's address on the answer, or it would not know it.
        assert_eq!(arrived["source"], asked, "{arrived:#}");
        assert_eq!(arrived["destination"], walk.text("client"), "{arrived:#}");
        assert_eq!(arrived["leg"], "response", "{arrived:#}");
    }
}

fn nothing_is_matched(walk: &Walk) {
    assert_eq!(walk.rules().count(), 0);
    assert_eq!(walk.0["rules_walked"], 0);
    // What engine bpf must not see in mode ebpf it has to see here.
    assert_eq!(walk.entered_netfilter(), walk.text("engine") == "bpf");
}

fn the_process_is_in_between(walk: &Walk) {
    let texts = walk.rule_texts();
    assert!(texts.iter().any(|text| text.contains("-j REDIRECT --to-ports ")), "{texts:#?}");
    // Two connections: the client's, which ends at the process, and the process's own.
    let entries = walk.conntrack();
    let clients = format!("node1: tcp {} -> {}, ", walk.text("client"), walk.text("destination"));
    let own = format!(" -> {}, answered by {} -> ", walk.backend().1, walk.backend().1);
    assert!(entries.iter().any(|entry| entry.starts_with(&clients)), "{entries:#?}");
    assert!(
        entries.iter().any(|entry| entry.starts_with("node1: ") && entry.contains(&own)),
        "{entries:#?}"
    );
}

fn rules_translate(walk: &Walk, verdict: &str) {
    let (asked, answered) = (walk.text("destination"), walk.backend().1);
    let walked = walk.0["rules_walked"].as_u64().unwrap();
    assert!(walked > 0);
    for (place, rule) in walk.rules() {
        let step = &walk.steps()[place];
        assert_eq!((&step["packet"], &step["host"]), (&"SYN".into(), &"node1".into()), "{step:#}");
        assert!(rule["walked_before"].as_u64().unwrap() < walked, "{rule:#} of {walked}");
        assert!(rule["position"].as_u64() <= rule["of"].as_u64(), "{rule:#}");
    }
    let translation = format!("{verdict} {answered}");
    let translates = |rule: &Value| rule["text"].as_str().unwrap().ends_with(&translation);
    let places: Vec<_> =
        walk.rules().filter(|(_, rule)| translates(rule)).map(|(place, _)| place).collect();
    let [place] = places[..] else { panic!("{translation}: {:#?}", walk.rule_texts()) };
    // It stands where the packet's address becomes another, not before and not behind.
    assert_eq!(walk.steps()[place - 1]["destination"], asked);
    assert_eq!(walk.steps()[place]["destination"], answered);
    let entry =
        format!("node1: tcp {} -> {asked}, answered by {answered} -> ", walk.text("client"));
    let entries = walk.conntrack();
    assert!(entries.iter().any(|line| line.starts_with(&entry)), "{entry}: {entries:#?}");
}

fn maps_translate(walk: &Walk) {
    let matched = |map: &str| {
        let in_map = walk.rules().find(|(_, rule)| rule["table"] == map);
        in_map.unwrap_or_else(|| panic!("nothing of map {map}: {:#?}", walk.rule_texts()))
    };
    let (place, service) = matched("services");
    assert!(service["text"].as_str().unwrap().starts_with(walk.text("destination")), "{service:#}");
    let (_, endpoint) = matched("endpoints");
    assert!(endpoint["text"].as_str().unwrap().contains(walk.backend().1), "{endpoint:#}");
    assert_eq!(walk.steps()[place]["host"], "node1");
    assert_eq!(walk.steps()[place - 1]["destination"], walk.text("destination"));
    assert_eq!(walk.steps()[place]["destination"], walk.backend().1);
    // The programs at the devices hand the packet on before netfilter has it.
    assert!(!walk.entered_netfilter(), "{:#?}", walk.passages("SYN"));
    assert_eq!(walk.0["rules_walked"], 0);
}

#[test]
fn two_traces_meet_the_same_rules() {
    let [one, other] = [(); 2].map(|()| {
        let output = trace(&["--mode", "iptables", "--services", "10", "--json"]);
        let walks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        Walk(walks.into_iter().next().unwrap())
    });
    assert!(one.rule_texts().len() > 3, "{:#?}", one.rule_texts());
    assert_eq!(one.rule_texts(), other.rule_texts());
    assert_eq!(one.0["rules_walked"], other.0["rules_walked"]);
}

#[test]
fn the_files_asked_for_hold_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    let [perfetto, html, pcap] = ["t.json", "t.html", "t.pcapng"].map(|name| dir.path().join(name));
    let file = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let files = [("--perfetto", &perfetto), ("--html", &html), ("--pcap", &pcap)];
    let files: Vec<_> = files.iter().flat_map(|(flag, p)| [(*flag).to_owned(), file(p)]).collect();
    let narrow = ["--mode", "nftables", "--route", "nodeport-remote", "--json"];
    let arguments = narrow.into_iter().chain(files.iter().map(String::as_str));
    let output = trace(&arguments.collect::<Vec<_>>());
    let walks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let walk = Walk(walks.into_iter().next().unwrap());

    let drawn: Value = serde_json::from_slice(&fs::read(perfetto).unwrap()).unwrap();
    assert!(drawn["traceEvents"].as_array().unwrap().len() > walk.steps().len());

    let page = fs::read_to_string(html).unwrap();
    let rule = format!("dnat to {}", walk.backend().1);
    for part in [walk.text("client"), walk.text("destination"), walk.backend().1, &rule] {
        assert!(page.contains(part), "{part} is not on the page");
    }
    let hosts = ["client", "node1", "node2", walk.backend().0];
    assert!(hosts.iter().all(|host| page.contains(host)));

    let capture = fs::read(pcap).unwrap();
    let blocks = pcapng_blocks(&capture);
    assert_eq!(blocks[0], 0x0A0D_0D0A);
    let [interfaces, packets] = [1, 6].map(|of| blocks.iter().filter(|&&kind| kind == of).count());
    assert!(interfaces >= hosts.len(), "{interfaces} interfaces");
    // SYN, SYN-ACK, request and response, each at every host of the way.
    assert!(packets >= 4 * hosts.len(), "{packets} packets");
}

/// Types of a file's blocks: 0x0A0D0D0A begins a section, 1 is an interface, 6 a packet
/// (draft-ietf-opsawg-pcapng). The lengths have to lead exactly to the end of the file.
fn pcapng_blocks(mut rest: &[u8]) -> Vec<u32> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let mut kinds = Vec::new();
    while !rest.is_empty() {
        let length = word(&rest[4..]) as usize;
        assert_eq!(word(&rest[length - 4..length]) as usize, length, "block {}", kinds.len());
        kinds.push(word(rest));
        rest = &rest[length..];
    }
    kinds
}

/// A request of a client that has but a name, in a pod, with the server of names on the other node.
const NAMED: [&str; 6] =
    ["--cni", "bridge", "--route", "clusterip-remote", "--workload", "dns-newconn"];

#[test]
fn each_query_for_a_name_is_told_with_its_own_places_and_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let [perfetto, html] = ["t.json", "t.html"].map(|name| dir.path().join(name));
    let files = ["--perfetto", perfetto.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let modes = ["none", "iptables", "nftables"];
    let output = trace(&[&NAMED[..], &files, &["--mode", &modes.join(","), "--json"]].concat());
    let walks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(walks.len(), modes.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for (mode, walk) in modes.into_iter().zip(walks.into_iter().map(Walk)) {
        times_add_up_behind_names(&walk);
        let queries = walk.0["queries"].as_array().unwrap();
        let name = "web.default.svc.cluster.local.";
        let path = ["default.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", ""];
        let expected = path.iter().flat_map(|domain| {
            let name = format!("{name}{domain}");
            [("A", name.clone()), ("AAAA", name)]
        });
        let asked =
            queries.iter().map(|query| (text(query, "kind"), text(query, "name").to_owned()));
        assert_eq!(asked.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let answers: Vec<_> = queries.iter().map(|query| text(query, "answer")).collect();
        assert!(answers[..6].iter().all(|answer| *answer == "NXDOMAIN"), "{answers:?}");
        let address = walk.text("destination").rsplit_once(':').unwrap().0;
        assert_eq!(answers[6..], [&*format!("NOERROR {address}"), "NOERROR, no such address"]);
        for query in queries {
            query_is_whole(&walk, query, mode);
        }
        // Without rules nothing has the kernel track connections; with them, one flow for each socket.
        let udp = walk.conntrack().iter().filter(|entry| entry.contains(": udp ")).count();
        assert!(mode == "none" || udp >= path.len(), "{:#?}", walk.conntrack());
    }
    let drawn: Value = serde_json::from_slice(&fs::read(perfetto).unwrap()).unwrap();
    let events = drawn["traceEvents"].as_array().unwrap();
    let slices = events.iter().filter(|event| event["cat"] == "query");
    assert_eq!(slices.count(), 8 * modes.len());
    let page = fs::read_to_string(html).unwrap();
    assert_eq!(page.matches("<details class=\"query\">").count(), 8 * modes.len());
    assert!(page.contains("A web.default.svc.cluster.local.svc.cluster.local.: NXDOMAIN"));
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// As [`times_add_up`], of a walk that begins with a resolution.
fn times_add_up_behind_names(walk: &Walk) {
    let sum: u64 = walk.steps().iter().map(|step| step["since_ns"].as_u64().unwrap()).sum();
    assert_eq!(sum, walk.0["total_ns"].as_u64().unwrap());
    let names: Vec<_> = walk.steps()[..2].iter().map(|step| text(step, "name")).collect();
    assert_eq!(names, ["resolving", "connect called"]);
}

/// From the client to the pod of the server of names and back, within the resolution, and translated where there
/// is a Service.
fn query_is_whole(walk: &Walk, query: &Value, mode: &str) {
    let steps = query["steps"].as_array().unwrap();
    let ns = |step: &Value, key: &str| step[key].as_u64().unwrap();
    let (first, last) = (&steps[0], steps.last().unwrap());
    assert_eq!((&first["name"], &last["name"]), (&"query sent".into(), &"answer read".into()));
    let sum: u64 = steps.iter().map(|step| ns(step, "since_ns")).sum();
    assert_eq!(sum, ns(query, "total_ns"));
    assert_eq!(ns(last, "at_ns") - ns(first, "at_ns"), sum);
    assert!(ns(last, "at_ns") <= ns(&walk.steps()[1], "at_ns"), "{query:#}");

    let passages = |packet: &str| -> Vec<&Value> {
        steps.iter().filter(|step| step["packet"] == packet && step["place"] != "call").collect()
    };
    let hosts = |packet: &str| {
        let mut hosts: Vec<_> = passages(packet).iter().map(|step| text(step, "host")).collect();
        hosts.dedup();
        hosts
    };
    let mut there = hosts("query");
    assert_eq!(there[..3], ["pod1-1", "node1", "node2"], "{query:#}");
    assert_eq!(there.len(), 4, "{there:?}");
    there.reverse();
    assert_eq!(hosts("answer"), there);
    let asked = passages("query");
    let [asked, answered] =
        [asked[0], asked[asked.len() - 1]].map(|step| text(step, "destination"));
    assert!(asked.ends_with(":53") && answered.ends_with(":53"), "{asked} {answered}");
    assert_eq!(asked == answered, mode == "none", "{asked} {answered}");
    let stages: Vec<_> = steps.iter().map(|step| text(step, "stage")).collect();
    assert!(stages.iter().all(|stage| stage.is_empty() || stage.starts_with("dns_")), "{stages:?}");
    for stage in ["dns_client_tx", "dns_wire", "dns_fabric", "dns_server", "dns_client_rx"] {
        assert!(stages.contains(&stage), "{stage} in {stages:?}");
    }
}

#[test]
fn queries_are_in_the_text_before_the_request() {
    let output = trace(&[&NAMED[..], &["--mode", "nftables"]].concat());
    let told = String::from_utf8(output.stdout).unwrap();
    let place = |words: &str| told.find(words).unwrap_or_else(|| panic!("{words} in {told}"));
    let order = [
        place("Names: 8 queries"),
        place("A web.default.svc.cluster.local.default.svc.cluster.local.: NXDOMAIN"),
        place("AAAA web.default.svc.cluster.local.: NOERROR, no such address"),
        place("There: opening"),
    ];
    assert!(order.is_sorted(), "{told}");
    assert!(told.contains("stage dns_server"), "{told}");
}
