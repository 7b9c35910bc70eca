// SPDX-License-Identifier: Apache-2.0
//! Ring 2: the program with the probes, and how it finds pods. Needs root.
#![expect(clippy::unwrap_used, reason = "a test's functions fail by panicking, as the test does")]
#![expect(clippy::print_stderr, reason = "skips are for whoever runs the tests")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::Unavailable;
use harness::net::{Address, Change, Cidr, LinkSettings, Netns};
use harness::plan::{CniKind, Mode, Place as Where, Road, Route};
use harness::probe::protocol::{
    ABOUT, About, FLOWS_MAX, LEASE_MS_MAX, LOOK, Look, OFF, ON, On, PLACE, Place, PlacedPod, Reply,
    Surroundings,
};
use harness::probe::{Sightings, TOKEN, find};
use nix::sys::stat::fstat;
use serde::de::DeserializeOwned;
use serde_json::json;

const WORD: &str = "0123456789abcdef";
/// How long a program may take to listen, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace with an address and a process in it, as a pod's is.
fn pod(name: &str, address: IpAddr) -> Option<(Netns, Process)> {
    let netns = match Netns::create(name) {
        Ok(netns) => netns,
        Err(error) => {
            eprintln!("SKIP {error}");
            return None;
        }
    };
    let lo = || "lo".to_owned();
    netns
        .apply(vec![
            Change::SetLink(LinkSettings::up("lo")),
            Change::Address(Address { cidr: Cidr::host(address), device: lo() }),
        ])
        .unwrap();
    let process = netns.run(|| Command::new("sleep").arg("600").spawn().unwrap());
    Some((netns, Process(process)))
}

#[test]
fn pods_are_found_by_their_addresses_and_others_are_not() {
    // Of a range for documentation (RFC 5737), so that nobody else has them.
    let addresses = [1, 2].map(|last| IpAddr::from([198, 51, 100, last]));
    let Some((first, _process)) = pod("first", addresses[0]) else { return };
    let (second, _other) = pod("second", addresses[1]).unwrap();
    let wanted = BTreeSet::from([addresses[0], addresses[1], IpAddr::from([198, 51, 100, 3])]);
    let found = find(Path::new("/proc"), &wanted).unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), addresses);
    for (address, netns) in addresses.iter().zip([&first, &second]) {
        let number = |fd: std::os::fd::BorrowedFd<'_>| fstat(fd).unwrap().st_ino;
        assert_eq!(number(found[address].as_fd()), number(netns.as_fd()), "{address}");
    }
}

/// The program, at a port of the loopback's.
struct Program {
    at: SocketAddr,
    _process: Process,
}

impl Program {
    fn start() -> Self {
        let free =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free);
        let process = Command::new(env!("CARGO_BIN_EXE_probe-agent"))
            .arg(at.to_string())
            .env(TOKEN, WORD)
            .spawn()
            .unwrap();
        let program = Self { at, _process: Process(process) };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(at).is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
        }
        program
    }

    /// Status line and body of an answer.
    fn asked(&self, path: &str, body: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head.lines().next().unwrap().to_owned(), answer[end + 4..].to_vec())
    }

    fn ask<A: DeserializeOwned>(&self, word: &str, question: impl serde::Serialize) -> Reply<A> {
        let (status, body) = self.asked(&format!("/{WORD}/{word}"), &json!(question).to_string());
        assert!(status.contains("200"), "{status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn off(&self, taps: usize) -> Reply<Sightings> {
        let (status, body) = self.asked(&format!("/{WORD}/{OFF}"), "");
        assert!(status.contains("200"), "{status}");
        Sightings::read(&body, taps).unwrap()
    }
}

fn done<T>(reply: Reply<T>) -> T {
    match reply {
        Reply::Done(answer) => answer,
        Reply::Unavailable(unavailable) => panic!("{unavailable}"),
        Reply::Failed(why) => panic!("{why}"),
    }
}

fn failed<T>(reply: Reply<T>) -> String {
    match reply {
        Reply::Failed(why) => why,
        _ => panic!("it was done"),
    }
}

/// A place of load alone: nothing is probed of the node itself.
fn place(pods: Vec<PlacedPod>, flow: SocketAddr) -> Place {
    Place {
        number: 7,
        node: "here".to_owned(),
        part: None,
        mode: Mode::None,
        cni: CniKind::Ptp,
        route: Route { road: Road::Direct, place: Where::Local },
        nic: "eth0".to_owned(),
        bridge: None,
        pods,
        flows: vec![flow],
    }
}

#[test]
fn the_program_follows_what_it_is_asked_to_and_no_longer() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP the program with the probes: not root");
        return;
    }
    let program = Program::start();
    let (status, _) = program.asked(&format!("/fedcba9876543210/{ABOUT}"), "");
    assert!(status.contains("404"), "{status}");
    let about: Reply<About> = program.ask(ABOUT, ());
    if let Reply::Unavailable(Unavailable { need, .. }) = &about {
        eprintln!("SKIP the program with the probes: {need}");
        return;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(done(about).boot_id, boot.trim());

    let address = IpAddr::from([198, 51, 100, 11]);
    let (netns, _process) = pod("client", address).unwrap();
    let client = PlacedPod {
        name: "client".to_owned(),
        address,
        device: "lo".to_owned(),
        veth: None,
        is_client: true,
    };
    let to = SocketAddr::new(address, 8080);
    assert!(failed(program.off(0)).contains("none were placed"));
    let taps: Vec<harness::capture::TapInfo> =
        done(program.ask(PLACE, place(vec![client.clone()], to)));
    let names: Vec<_> = taps.iter().map(|tap| tap.name.as_str()).collect();
    assert_eq!(names, ["client/lo", "client/lo"], "one each way");
    assert!(failed(program.off(2)).contains("they are off"));

    // Two followed connections, of which one goes where the case's do, and one that nobody follows.
    done(program.ask::<()>(ON, On { number: 7, lease_ms: 20_000, counted: true }));
    let connect = |port: u16, tos: u8| {
        netns.run(move || {
            let listener = TcpListener::bind((address, port)).unwrap();
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.set_tos_v4(tos.into()).unwrap();
            socket.connect(&SocketAddr::new(address, port).into()).unwrap();
            drop(listener);
        });
    };
    let mark = workloads::protocol::SAMPLE_TOS;
    connect(8080, mark);
    connect(8081, mark);
    connect(8080, 0);
    let seen = done(program.off(2));
    assert!(seen.block.events > seen.packets.len() as u64, "{:?}", seen.block);
    assert_eq!(seen.block.dropped, 0);
    assert!(seen.block.cost.unwrap().runs > 0 && seen.block.cost.unwrap().empty_runs > 0);
    let syns: Vec<_> = seen.packets.iter().filter(|packet| packet.segment.flags == 2).collect();
    assert_eq!(syns.len(), 2, "out and in: {syns:?}");
    assert!(
        syns.iter().all(|packet| packet.segment.dst == to && packet.segment.src.ip() == address)
    );

    // What is over by itself.
    done(program.ask::<()>(ON, On { number: 7, lease_ms: 1, counted: false }));
    let deadline = Instant::now() + PATIENCE;
    while linked() > 0 {
        assert!(Instant::now() < deadline, "the probes are still on");
    }
    assert!(failed(program.off(2)).contains("their time was over"));

    // What another has taken the place of, and what is too much.
    let other = On { number: 6, lease_ms: 1, counted: false };
    assert!(failed(program.ask::<()>(ON, other)).contains("those of 7 are in place"));
    let on = On { number: 7, lease_ms: LEASE_MS_MAX + 1, counted: false };
    assert!(failed(program.ask::<()>(ON, on)).contains("more than"));
    let many = Place { flows: vec![to; FLOWS_MAX + 1], ..place(Vec::new(), to) };
    assert!(failed(program.ask::<()>(PLACE, many)).contains("more than"));
    let nobody = PlacedPod { address: IpAddr::from([198, 51, 100, 99]), ..client };
    let said = failed(program.ask::<()>(PLACE, place(vec![nobody.clone()], to)));
    assert_eq!(
        said,
        "failed to find pod 198.51.100.99 on its node: no process's network has that address"
    );
    // Without the node's processes in sight there is no node to look at; with them, none has this address.
    let look = Look { address: nobody.address, pods: Vec::new(), ways: Vec::new() };
    let said = failed(program.ask::<Surroundings>(LOOK, look));
    assert!(
        said.starts_with("failed to find the node's NIC") || said.contains("/proc/1"),
        "{said}"
    );
}

/// Probe programs that are linked to devices of the machine; the names are of `harness/bpf`.
fn linked() -> usize {
    let links = libbpf_rs::query::LinkInfoIter::default();
    links.filter(|link| matches!(link.info, libbpf_rs::query::LinkTypeInfo::Tcx(_))).count()
}

#[test]
fn a_program_without_a_word_does_not_start() {
    let output = Command::new(env!("CARGO_BIN_EXE_probe-agent"))
        .arg("127.0.0.1:0")
        .env_remove(TOKEN)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("probe: failed to accept the agent's arguments: the token"), "{said}");
}
