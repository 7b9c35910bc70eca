// SPDX-License-Identifier: Apache-2.0
//! What is mode ebpf's own: its checksums, its memory of connections, its programs' end.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::bpf::ingress_programs;
use harness::net::{Netns, Tool};
use harness::plan::Mode;
use harness::proxy::ebpf::Timeouts;
use harness::proxy::{
    Affinity, Ebpf, Endpoint, Policy, Protocol, ProxyMode, Service, ServicePort, ServiceTable,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use socket2::{Domain, Socket, Type};

use crate::bench::{Bench, answered, at, node, probe};
use crate::lab::{CLIENT, CLIENT_2, Lab, NIC, NODE, PODS, PORTS, run};

/// Longest wait for what has to happen.
const PATIENCE: Duration = Duration::from_secs(10);
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 100)), 80);
const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 100)), 53);
const FAR_VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 101)), 80);
const EMPTY_VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 102)), 80);
const ECHO_VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 103)), 80);
const ECHO_PORT: u16 = 9000;
const NODE_PORT: u16 = 30_080;
/// On another node: `Lab::uplink` is its way there.
const FAR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 9, 9)), 8080);

fn port(name: &str, port: u16, protocol: Protocol, endpoints: &[SocketAddr]) -> ServicePort {
    let endpoints = endpoints.iter().map(|&address| {
        let node = if PODS.contains(&address.ip()) { NODE } else { "elsewhere" };
        Endpoint { address, node: node.to_owned() }
    });
    let endpoints = endpoints.collect();
    ServicePort { name: name.to_owned(), protocol, port, node_port: None, endpoints }
}

fn table() -> ServiceTable {
    let service = |name: &str, cluster_ip, ports| Service {
        namespace: "test".to_owned(),
        name: name.to_owned(),
        cluster_ip,
        load_balancer_ips: Vec::new(),
        ports,
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    };
    let mut web = port("http", VIP.port(), Protocol::Tcp, &[at(PODS[0], PORTS[0])]);
    web.node_port = Some(NODE_PORT);
    let dns = port("dns", DNS.port(), Protocol::Udp, &[at(PODS[1], DNS.port())]);
    let far = port("http", FAR_VIP.port(), Protocol::Tcp, &[FAR]);
    let empty = port("http", EMPTY_VIP.port(), Protocol::Tcp, &[]);
    let echo = port("echo", ECHO_VIP.port(), Protocol::Tcp, &[at(PODS[1], ECHO_PORT)]);
    ServiceTable {
        services: vec![
            service("web", VIP.ip(), vec![web, dns]),
            service("far", FAR_VIP.ip(), vec![far]),
            service("empty", EMPTY_VIP.ip(), vec![empty]),
            service("echo", ECHO_VIP.ip(), vec![echo]),
        ],
    }
}

/// Everything is forgotten in a moment.
fn forgetful() -> Ebpf {
    let moment = Duration::from_millis(400);
    let timeouts = Timeouts {
        opening: moment,
        open: moment,
        half_closed: moment,
        closed: moment,
        reset: moment,
        datagrams: moment,
    };
    Ebpf { timeouts, sweep_every: moment / 2, connections_max: 1024 }
}

fn bench(mode: Ebpf) -> Option<Bench> {
    Bench::with(Box::new(mode), Lab::up()?, table())
}

fn await_that(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The node's map of connections.
fn map_of_connections(bench: &Bench) -> MapHandle {
    use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
    let own = ingress_programs(&bench.lab.node).expect("the kernel answers")[0].id;
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let mut programs = ProgInfoIter::with_query_opts(options);
    let program = programs.find(|program| program.id == own).expect("it is linked");
    let maps = program.map_ids.into_iter().map(|id| MapHandle::from_map_id(id).expect("its own"));
    let mut maps = maps.filter(|map| map.name() == "connections");
    maps.next().expect("the program has such a map")
}

/// How many entries it has.
fn connections(bench: &Bench) -> usize {
    map_of_connections(bench).keys().count()
}

fn connect(source: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&source.into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// The same from a port that was used a moment ago. Another test may have begun a program meanwhile: its
/// process has every descriptor until it executes, and with it the old connection.
fn connect_again(source: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect(source, to) {
            Err(error)
                if error.kind() == ErrorKind::AddrNotAvailable && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// A host on the uplink with [`FAR`] on it, which answers each connection with its peer.
fn far_host(lab: &Lab) -> Netns {
    let far = Netns::create("far").expect("the lab's could be made");
    let thread = far.run(nix::unistd::gettid);
    run(&lab.node, &format!("link set uplink1 netns {thread}"));
    run(&lab.node, "address add 10.9.1.1/24 dev uplink0");
    run(&lab.node, "route add 10.244.9.0/24 via 10.9.1.2");
    run(&far, "link set lo up");
    run(&far, "link set uplink1 up");
    run(&far, "address add 10.9.1.2/24 dev uplink1");
    run(&far, &format!("address add {}/32 dev uplink1", FAR.ip()));
    run(&far, "route add default via 10.9.1.1");
    let listener = far.run(|| TcpListener::bind(FAR)).expect("it has the address");
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            // A client that has gone wants no answer.
            let _ = stream.write_all(format!("{FAR} {peer}\n").as_bytes());
        }
    });
    far
}

/// The counter of wrong checksums, of TCP and UDP, of a host.
fn bad_checksums(host: &Netns) -> u64 {
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("proc");
    ["Tcp:", "Udp:"]
        .iter()
        .map(|protocol| {
            let mut lines = text.lines().filter(|line| line.starts_with(protocol));
            let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
            let place = names.split(' ').position(|name| name == "InCsumErrors").expect("counted");
            let value = values.split(' ').nth(place).expect("as many values as names");
            value.parse::<u64>().expect("a number")
        })
        .sum()
}

/// Sums are only made and looked at where no offload says they need not be.
fn without_offloads(lab: &Lab) {
    for (host, device) in [
        (&lab.client, "eth0"),
        (&lab.node, "eth0"),
        (&lab.node, "veth1"),
        (&lab.node, "veth2"),
        (&lab.pods[0], "eth0"),
        (&lab.pods[1], "eth0"),
    ] {
        let args =
            ["-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
        Tool::new("ethtool").args(args).run_on(host).expect("ethtool runs");
    }
}

fn echo_datagrams(lab: &Lab) {
    let socket = lab.pods[1].run(|| UdpSocket::bind((PODS[1], DNS.port()))).expect("the pod's");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
            // A client that has gone wants no answer.
            let _ = socket.send_to(&buffer[..bytes], peer);
        }
    });
}

fn ask_datagram(host: &Netns, bytes: usize) -> std::io::Result<Vec<u8>> {
    host.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(DNS)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let question: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        socket.send(&question)?;
        let mut answer = vec![0; 2048];
        let read = socket.recv(&mut answer)?;
        answer.truncate(read);
        assert_eq!(answer, question);
        Ok(answer)
    })
}

#[test]
fn checksums_are_right_where_hosts_look_at_them_and_where_they_do_not() {
    let Some(bench) = bench(Ebpf::default()) else { return };
    echo_datagrams(&bench.lab);
    for offloads in [true, false] {
        if !offloads {
            without_offloads(&bench.lab);
        }
        for _ in 0..10 {
            answered(bench.lab.ask(VIP), "from outside");
            answered(bench.lab.ask(at(NIC, NODE_PORT)), "by NodePort");
            answered(bench.lab.ask_from_pod(1, VIP), "from a pod");
            answered(bench.lab.ask_from_pod(0, VIP), "from the endpoint itself");
            // A reset is made from nothing, so its sums are all the program's own.
            for error in [bench.lab.ask(EMPTY_VIP), bench.lab.ask_from_pod(0, EMPTY_VIP)] {
                assert_eq!(error.expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
            }
        }
        for bytes in [0, 1, 2, 511, 1400] {
            ask_datagram(&bench.lab.client, bytes).expect("from outside");
            ask_datagram(&bench.lab.pods[0], bytes).expect("from a pod");
        }
    }
    let Lab { client, node, pods, .. } = &bench.lab;
    for host in [client, node, &pods[0], &pods[1]] {
        assert_eq!(bad_checksums(host), 0, "{}", host.name());
    }
    bench.down();
}

#[test]
fn idle_connections_are_forgotten_and_the_map_gets_empty() {
    let Some(bench) = bench(forgetful()) else { return };
    echo_datagrams(&bench.lab);
    let stream = bench.lab.client.run(|| connect(SocketAddr::new(CLIENT, 40_001), VIP));
    let _stream = stream.expect("connected");
    ask_datagram(&bench.lab.client, 10).expect("answered");
    await_that("the map gets empty", || connections(&bench) == 0);
    // From the same port again: nothing of the first stands in its way.
    ask_datagram(&bench.lab.client, 10).expect("answered");
    bench.down();
}

#[test]
fn a_connection_that_only_one_side_speaks_on_is_remembered_in_both_directions() {
    let Some(bench) = bench(forgetful()) else { return };
    let (send, received) = std::sync::mpsc::channel();
    let socket =
        bench.lab.pods[1].run(|| UdpSocket::bind((PODS[1], DNS.port()))).expect("the pod's");
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
            // Silent until the last, long after the answers' entry would be idle for too long.
            if buffer[..bytes] == *b"last" {
                let _ = socket.send_to(b"answer", peer);
                let _ = send.send(());
            }
        }
    });
    let answer = bench.lab.client.run(|| {
        let socket = UdpSocket::bind((CLIENT, 0)).expect("the client's");
        socket.connect(DNS).expect("a datagram socket connects to anything");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let end = Instant::now() + forgetful().timeouts.datagrams * 3;
        while Instant::now() < end {
            socket.send(b"more").expect("sent");
            std::thread::sleep(forgetful().timeouts.datagrams / 20);
        }
        socket.send(b"last").expect("sent");
        let mut buffer = [0; 16];
        let (bytes, from) = socket.recv_from(&mut buffer)?;
        Ok::<_, std::io::Error>((buffer[..bytes].to_vec(), from))
    });
    received.recv_timeout(PATIENCE).expect("the last one arrived");
    assert_eq!(answer.expect("answered"), (b"answer".to_vec(), DNS));
}

#[test]
fn two_clients_with_the_same_port_reach_the_same_far_endpoint_from_two() {
    let lab = Lab::up();
    let Some(lab) = lab else { return };
    let _far = far_host(&lab);
    let Some(bench) = Bench::with(Box::new(Ebpf::default()), lab, table()) else { return };
    let read = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let peer = text.split_whitespace().nth(1).expect("its peer").to_owned();
        (stream, peer.parse::<SocketAddr>().expect("an address"))
    };
    let ask =
        |source| bench.lab.client.run(move || connect(SocketAddr::new(source, 41_000), FAR_VIP));
    let first = ask(CLIENT).expect("the first client");
    let second = ask(CLIENT_2).expect("the second client");
    let ((_first, one), (_second, other)) = (read(first), read(second));
    // The address that leads there, as MASQUERADE chooses it.
    let uplink = IpAddr::from([10, 9, 1, 1]);
    assert_eq!((one.ip(), other.ip()), (uplink, uplink));
    assert_eq!(one.port(), 41_000, "a free port is kept");
    assert_ne!(other.port(), one.port());
    // A pod's own address does for the way back.
    let from_pod = bench.lab.pods[0].run(|| connect(SocketAddr::new(PODS[0], 41_000), FAR_VIP));
    let (_pod, seen) = read(from_pod.expect("a pod"));
    assert_eq!(seen, SocketAddr::new(PODS[0], 41_000));
}

#[test]
fn a_port_that_is_used_again_begins_a_new_connection() {
    let Some(bench) = bench(Ebpf::default()) else { return };
    for _ in 0..5 {
        let text = bench.lab.client.run(|| {
            let mut stream = connect_again(SocketAddr::new(CLIENT, 42_000), VIP)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            // Reset, so that neither side keeps the tuple.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok::<_, std::io::Error>(text)
        });
        let text = text.expect("answered");
        assert!(text.contains("10.8.0.10:42000"), "{text}");
    }
}

/// A CPU reads the clock, looks the connection up, and finds that another has seen a packet of it since.
#[test]
fn a_connection_that_was_seen_after_the_clock_was_read_is_known() {
    let Some(bench) = bench(Ebpf::default()) else { return };
    let listener = bench.lab.pods[1].run(|| TcpListener::bind((PODS[1], ECHO_PORT)));
    let listener = listener.expect("the pod's");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        std::io::copy(&mut stream.try_clone()?, &mut stream)
    });
    let stream = bench.lab.client.run(|| connect(SocketAddr::new(CLIENT, 44_000), ECHO_VIP));
    let mut stream = stream.expect("connected");
    let mut echo = |byte| {
        stream.write_all(&[byte])?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer[0])
    };
    assert_eq!(echo(1).expect("answered"), 1);
    let map = map_of_connections(&bench);
    let keys: Vec<_> = map.keys().collect();
    assert_eq!(keys.len(), 2, "one for each direction");
    for later in [Duration::from_millis(1), Duration::from_secs(3600)] {
        for key in &keys {
            let mut entry = map.lookup(key, MapFlags::ANY).expect("read").expect("it is there");
            // `seen_ns` of `struct connection` in bpf/proxy.h.
            let seen = entry[16..].first_chunk_mut::<8>().expect("64 bits");
            let after = u64::from_ne_bytes(*seen) + later.as_nanos() as u64;
            *seen = after.to_ne_bytes();
            map.update(key, &entry, MapFlags::EXIST).expect("written");
        }
        assert_eq!(echo(2).expect("answered"), 2, "seen {later:?} later");
    }
}

#[test]
fn what_belongs_to_no_known_connection_is_reset() {
    let Some(bench) = bench(forgetful()) else { return };
    for (port, offloads) in [(43_000, true), (43_001, false)] {
        if !offloads {
            without_offloads(&bench.lab);
        }
        let source = SocketAddr::new(CLIENT, port);
        let stream = bench.lab.client.run(move || connect(source, VIP));
        let mut stream = stream.expect("connected");
        let mut text = String::new();
        // The pod has closed its side; ours is open still, and forgotten.
        stream.read_to_string(&mut text).expect("an answer");
        await_that("the map gets empty", || connections(&bench) == 0);
        stream.write_all(b"late").expect("into the socket's buffer");
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            assert!(Instant::now() < deadline, "reset within {PATIENCE:?}");
            match stream.write_all(b"later") {
                Err(error) => break error.kind(),
                Ok(()) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error), "{error:?}");
    }
    assert_eq!(bad_checksums(&bench.lab.client), 0, "resets of segments with data");
}

#[test]
fn entries_that_a_connection_met_are_told() {
    let Some(mut bench) = bench(Ebpf::default()) else { return };
    let view_agent = std::path::PathBuf::new();
    let watch = {
        let installed = bench.watch();
        installed.expect("watched")
    };
    let answer = answered(bench.lab.ask(VIP), "web");
    let view = node(&bench.lab, &view_agent);
    let matched = watch.matched(&view, &bench.table, &probe(answer, VIP, 0, 0)).expect("told");
    assert_eq!((matched.endpoint, matched.walked), (Some(at(PODS[0], PORTS[0])), 0));
    let maps: Vec<_> = matched.rules.iter().map(|rule| (rule.table.as_str(), rule.of)).collect();
    let (forth, back) = (("connections", 2), ("connections", 2));
    assert_eq!(maps, [("services", 6), ("endpoints", 4), forth, back]);
    assert!(matched.rules.iter().all(|rule| rule.hook == "tc ingress"), "{matched:?}");
    assert_eq!(matched.objects.len(), 2);
}

/// Run by the test below in a process of its own: installs the mode in the namespace that the
/// environment names, and waits to be killed.
#[test]
#[ignore = "the other half of a_killed_process_leaves_no_program_on_any_device"]
fn install_and_wait_to_be_killed() {
    let Ok(path) = std::env::var("NIC2POD_TEST_NODE") else { return };
    let namespace = std::fs::File::open(path).expect("the parent's namespace");
    let netns = Netns::enter(NODE, namespace.into()).expect("entered");
    let agent = std::path::PathBuf::new();
    let view = harness::proxy::NodeView {
        netns: &netns,
        name: NODE,
        address: NIC,
        nic: "eth0",
        agent: &agent,
        scratch: std::path::Path::new("/tmp"),
    };
    let mode = Ebpf::default();
    let texts = mode.render(&table(), NODE, NIC);
    let _installed = mode.install(&view, &table(), &texts).expect("installed");
    eprintln!("installed");
    // Until the parent kills it or is gone itself.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_process_leaves_no_program_on_any_device() {
    use std::os::fd::{AsFd, AsRawFd};
    let Some(lab) = Lab::up() else { return };
    if let Err(missing) = Ebpf::default().check(&lab.node) {
        eprintln!("SKIP {}: {missing}", Mode::Ebpf);
        return;
    }
    let path = format!("/proc/{}/fd/{}", std::process::id(), lab.node.as_fd().as_raw_fd());
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "ebpf::install_and_wait_to_be_killed", "--ignored", "--nocapture"])
        .env("NIC2POD_TEST_NODE", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let said = BufReader::new(child.stderr.take().expect("piped"));
    let installed = said.lines().map_while(Result::ok).any(|line| line == "installed");
    assert!(installed, "the child installed the mode");
    let programs = || ingress_programs(&lab.node).expect("the kernel answers");
    assert!(!programs().is_empty());
    child.kill().expect("killed");
    child.wait().expect("ended");
    await_that("no program is left", || programs().is_empty());
}
