// SPDX-License-Identifier: Apache-2.0
//! A wire that resembles a network's: its queues are there, do what they say, and nowhere else.
//! netem is not in every kernel; what needs it is skipped, loudly, where it is missing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::Unavailable;
use harness::lab::netns::{Emulation, NetnsError, NetnsLab, Topology};
use harness::net::{Change, Mac, Neighbour, Netns, QdiscKind, Tool};
use harness::plan::{CniKind, Profile, WireSettings};

use crate::traffic::exchange;
use crate::{down, lab, may_make_namespaces};

const MEGABYTE: u64 = 1 << 20;

fn settings(table: &str) -> WireSettings {
    let text = format!("[lab.wire]\n{table}");
    Profile::parse(Path::new("test.toml"), &text).unwrap().lab.wire
}

fn choose(table: &str, seed: u64) -> Result<Emulation, Unavailable> {
    let question = Netns::create("question").unwrap();
    let chosen = Emulation::choose(&settings(table), seed, 1500, &question)?;
    let left = question.state().unwrap().qdiscs;
    assert_eq!(left, [], "left where the question was asked");
    Ok(chosen.expect("something is asked for"))
}

/// A lab with such a wire; `None` where there are no namespaces or no netem.
fn wired(table: &str, seed: u64) -> Option<NetnsLab> {
    if !may_make_namespaces() {
        return None;
    }
    match choose(table, seed) {
        Ok(emulation) => {
            let emulation = Some(emulation);
            lab(&Topology { emulation, ..Topology::default() }, CniKind::Ptp)
        }
        Err(missing) => {
            eprintln!("SKIP {missing}");
            assert!(missing.need.contains("CONFIG_NET_SCH_NETEM"), "{missing}");
            None
        }
    }
}

fn tc(lab: &NetnsLab) -> String {
    Tool::new("tc").args(["-s", "qdisc", "show"]).run_on(lab.fabric()).unwrap()
}

/// Time that so many bytes take from the client to a pod of the entry node and back.
fn round_trip(lab: &NetnsLab, bytes: u64) -> Duration {
    let pod = &lab.pods()[0];
    let start = Instant::now();
    exchange(&lab.client().netns, None, &pod.netns, pod.address, bytes);
    start.elapsed()
}

fn retransmitted(host: &Netns) -> u64 {
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn a_rate_bounds_what_the_wire_carries_in_both_directions() {
    // Slow enough for the slowest of machines to fill it.
    const MBIT: f64 = 10.0;
    let Some(lab) = wired("rate_mbit = 10", 1) else { return };
    let evidence = lab.prove().unwrap();
    for device in ["to-nodes", "to-client"] {
        let line = format!("fabric has `tc qdisc add dev {device} root");
        assert!(evidence.iter().any(|found| found.starts_with(&line)), "{evidence:#?}");
    }
    let note = lab.notes().iter().find(|note| note.contains("10 Mbit/s each way")).unwrap();
    eprintln!("{note}\n{}", tc(&lab));
    let took = round_trip(&lab, MEGABYTE / 2).as_secs_f64();
    let ratio = (MEGABYTE * 8) as f64 / 1e6 / MBIT / took;
    eprintln!("{ratio:.2} of the rate");
    // Headers take 4 in 100; the burst and a buffer of the receiver's may give a little back. The
    // lower bound is for a busy machine.
    assert!(ratio < 1.05 && ratio > 0.2, "{ratio}");
    // Between nodes, and from a node to its own pod, there is no such wire.
    let before = passed(&lab);
    assert!(before.iter().all(|bytes| *bytes > MEGABYTE / 2), "{before:?}");
    nodes_are_joined_without_it(&lab);
    down(lab);
}

fn nodes_are_joined_without_it(lab: &NetnsLab) {
    let before = passed(lab);
    let (first, remote) = (&lab.pods()[0], &lab.pods()[2]);
    exchange(&first.netns, None, &remote.netns, remote.address, MEGABYTE / 4);
    let after = passed(lab);
    // The end of an earlier connection and a few address resolutions at most.
    assert!(after[0] - before[0] + after[1] - before[1] < 10_000, "{before:?} {after:?}");
}

/// Bytes that went over the wire, towards the nodes and towards the client.
fn passed(lab: &NetnsLab) -> [u64; 2] {
    let state = lab.fabric().state().unwrap();
    ["to-nodes", "to-client"].map(|device| state.link(device).unwrap().counters.tx_bytes)
}

#[test]
fn a_lab_without_such_a_wire_has_one_switch_and_no_queues() {
    let Some(lab) = lab(&Topology::default(), CniKind::Ptp) else { return };
    let state = lab.fabric().state().unwrap();
    assert_eq!(state.qdiscs, []);
    let kind = |kind: &str| state.links.iter().filter(|l| l.kind.as_deref() == Some(kind)).count();
    assert_eq!((kind("bridge"), kind("veth")), (1, 1 + lab.nodes().len()));
    down(lab);
}

#[test]
fn a_queue_that_is_gone_or_another_is_not_proved() {
    for (command, device) in [
        ("tc qdisc del dev to-nodes root", "to-nodes"),
        ("tc qdisc replace dev to-client root tbf rate 1mbit burst 10k limit 100k", "to-client"),
    ] {
        let Some(lab) = wired("rate_mbit = 100", 1) else { return };
        lab.prove().unwrap();
        Tool::new("sh").args(["-c", command]).run_on(lab.fabric()).unwrap();
        match lab.prove() {
            Err(NetnsError::NotProved { host, expected, found, .. }) => {
                eprintln!("expected {expected}; found {found}");
                assert_eq!(host, "fabric");
                assert!(expected.starts_with(&format!("tc qdisc add dev {device} ")), "{expected}");
            }
            other => panic!("{other:?}"),
        }
        down(lab);
    }
}

#[test]
fn what_only_netem_can_do_names_its_kernel_option_where_it_is_missing() {
    if !may_make_namespaces() {
        return;
    }
    for table in ["delay = \"2ms\"", "loss = 0.01", "delay = \"1ms\"\nrate_mbit = 10"] {
        match choose(table, 1) {
            Ok(emulation) => assert!(matches!(emulation.to_nodes, QdiscKind::Netem(_))),
            Err(missing) => {
                eprintln!("{missing}");
                assert!(missing.need.contains("CONFIG_NET_SCH_NETEM"), "{missing}");
                assert!(missing.remedy.contains("sch_netem"), "{missing}");
            }
        }
    }
    // A rate alone is no reason to want more than tbf.
    choose("rate_mbit = 10", 1).unwrap();
}

#[test]
fn every_key_is_in_the_kernel_as_another_tool_reads_it() {
    let table = "delay = \"20ms\"\njitter = \"5ms\"\nloss = 0.01\nreorder = 0.25\nrate_mbit = 100";
    let Some(lab) = wired(table, 42) else { return };
    let evidence = lab.prove().unwrap();
    assert!(evidence.iter().any(|line| line.contains("netem limit")), "{evidence:#?}");
    let shown = tc(&lab);
    eprintln!("{shown}");
    let queues: Vec<_> = shown.lines().filter(|line| line.contains("netem")).collect();
    assert_eq!(queues.len(), 2, "{shown}");
    for (queue, device) in queues.iter().zip(["one end", "the other"]) {
        for part in ["delay 20", "5ms", "loss 1%", "reorder 25%", "rate 100Mbit"] {
            assert!(queue.contains(part), "{device}: no `{part}` in {queue}");
        }
    }
    // Reordered packets arrive all the same.
    exchange(&lab.client().netns, None, &lab.pods()[0].netns, lab.pods()[0].address, MEGABYTE / 4);
    down(lab);
}

#[test]
fn a_delay_is_waited_for_both_ways() {
    const DELAY: Duration = Duration::from_millis(40);
    let Some(lab) = wired("delay = \"40ms\"", 1) else { return };
    // The connection and the bytes: two round trips. The quickest of a few, on a busy machine.
    let took = (0..5).map(|_| round_trip(&lab, 1)).min().unwrap();
    assert!(took >= DELAY * 4 && took < DELAY * 8, "{took:?}");
    nodes_are_joined_without_it(&lab);
    down(lab);
}

#[test]
fn a_wire_that_loses_packets_makes_tcp_send_again() {
    let Some(plain) = lab(&Topology::default(), CniKind::Ptp) else { return };
    round_trip(&plain, MEGABYTE);
    let again =
        |lab: &NetnsLab| retransmitted(&lab.client().netns) + retransmitted(&lab.pods()[0].netns);
    // A busy machine may make one wait for its acknowledgement too long.
    let needlessly = again(&plain);
    down(plain);
    let Some(lab) = wired("loss = 0.03", 3) else { return };
    // Nothing is left to when an address is asked for: with a seed, the first packets' fate is known.
    know_each_other(&lab);
    round_trip(&lab, MEGABYTE);
    let shown = tc(&lab);
    eprintln!("{} segments again\n{shown}", again(&lab));
    assert!(again(&lab) > needlessly, "{needlessly} on a wire that loses nothing; {shown}");
    let lost = |line: &str| line.contains("(dropped ") && !line.contains("(dropped 0,");
    assert!(shown.lines().any(lost), "{shown}");
    down(lab);
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    let received = |seed: u64| -> Option<BTreeSet<u32>> {
        let lab = wired("loss = 0.2", seed)?;
        let seeded =
            lab.fabric().state().unwrap().qdiscs.iter().all(
                |qdisc| matches!(&qdisc.kind, QdiscKind::Netem(netem) if netem.seed.is_some()),
            );
        if !seeded {
            eprintln!("SKIP the kernel has no seeds for netem");
            return None;
        }
        let arrived = datagrams(&lab);
        down(lab);
        Some(arrived)
    };
    let Some(first) = received(7) else { return };
    let (second, other) = (received(7).unwrap(), received(8).unwrap());
    eprintln!("{} of {DATAGRAMS} arrived", first.len());
    assert!(first.len() < DATAGRAMS as usize && first.len() > DATAGRAMS as usize / 2);
    assert_eq!(first, second);
    assert_ne!(first, other);
}

const DATAGRAMS: u32 = 200;

/// Tells client and entry node each other's link-layer addresses.
fn know_each_other(lab: &NetnsLab) {
    let (client, node) = (lab.client(), &lab.nodes()[0]);
    let neighbour = |address, device: &str| {
        let device = device.to_owned();
        vec![Change::Neighbour(Neighbour { address, mac: Mac::of(address), device })]
    };
    client.netns.apply(neighbour(node.address, &client.nic)).unwrap();
    node.netns.apply(neighbour(client.addresses[0], &node.nic)).unwrap();
}

/// Sends numbered datagrams from the client to the entry node and says which arrived.
fn datagrams(lab: &NetnsLab) -> BTreeSet<u32> {
    let (client, node) = (lab.client(), &lab.nodes()[0]);
    // Known beforehand: nothing but the datagrams passes the queue.
    let neighbour =
        Neighbour { address: node.address, mac: Mac::of(node.address), device: client.nic.clone() };
    client.netns.apply(vec![Change::Neighbour(neighbour)]).unwrap();
    let to = SocketAddr::new(node.address, 4000);
    let receiver = node.netns.run(move || UdpSocket::bind(to)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let source = SocketAddr::new(client.addresses[0], 0);
    let sender = client.netns.run(move || UdpSocket::bind(source)).unwrap();
    for number in 0..DATAGRAMS {
        sender.send_to(&number.to_ne_bytes(), to).unwrap();
    }
    let mut arrived = BTreeSet::new();
    let mut bytes = [0; 4];
    loop {
        match receiver.recv(&mut bytes) {
            Ok(_) => arrived.insert(u32::from_ne_bytes(bytes)),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                return arrived;
            }
        };
    }
}

#[test]
fn connections_whose_end_is_lost_do_not_keep_their_hosts() {
    let Some(lab) = wired("loss = 0.001", 11) else { return };
    let (client, pod) = (&lab.client().netns, &lab.pods()[0]);
    let address = pod.address;
    let listener = pod.netns.run(move || TcpListener::bind((address, 0))).unwrap();
    let to = listener.local_addr().unwrap();
    let stream = client.run(move || TcpStream::connect(to)).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    for device in ["to-nodes", "to-client"] {
        let all = ["qdisc", "replace", "dev", device, "root", "netem", "loss", "100%"];
        Tool::new("tc").args(all).run_on(lab.fabric()).unwrap();
    }
    drop((stream, accepted));
    down(lab);
}
