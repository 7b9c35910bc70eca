// SPDX-License-Identifier: Apache-2.0
//! The userspace mode's process: what it passes on besides bytes, and what it remembers.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use harness::plan::{Mode, Position};
use harness::proxy::{
    Affinity, Endpoint, Fill, Options, Policy, Protocol, Service, ServicePort, ServiceTable,
};
use harness::relay::Relay;
use socket2::{Domain, SockRef, Socket, Type};
use workloads::protocol::SAMPLE_TOS;

use crate::bench::{Bench, answered, at, probe};
use crate::lab::{NODE, PODS, PORTS};

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 100)), 80);
/// Where a test's own server listens in the first pod.
const OWN_PORT: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(5);

fn table(endpoint: SocketAddr) -> ServiceTable {
    let endpoints = vec![Endpoint { address: endpoint, node: NODE.to_owned() }];
    let port = ServicePort {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        port: VIP.port(),
        node_port: None,
        endpoints,
    };
    let service = Service {
        namespace: "test".to_owned(),
        name: "relay".to_owned(),
        cluster_ip: VIP.ip(),
        load_balancer_ips: Vec::new(),
        ports: vec![port],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    };
    ServiceTable { services: vec![service] }
}

fn bench(table: ServiceTable) -> Option<Bench> {
    Bench::up(Mode::Userspace, Options::default(), table)
}

/// A connection to the Service from the client, made with a type-of-service byte.
fn connect(tos: u32) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_tos_v4(tos).expect("a byte");
    socket.connect_timeout(&VIP.into(), PATIENCE).expect("the process accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a linger time");
}

/// A server in the first pod that takes one connection and tells what it made of it.
fn serve_once<T: Send + 'static>(
    bench: &Bench,
    work: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> mpsc::Receiver<T> {
    let (send, outcome) = mpsc::channel();
    bench.lab.pods[0].run(move || {
        let listener = TcpListener::bind(at(PODS[0], OWN_PORT)).expect("the pod's address");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            // Listens no more before the outcome is known, as the next one binds the same address;
            // closing is not enough while a child that another test just forked has a copy.
            let _ = SockRef::from(&listener).shutdown(std::net::Shutdown::Both);
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            // The test may have failed and gone.
            let _ = send.send(work(stream));
        });
    });
    outcome
}

#[test]
fn only_marked_connections_are_remembered_and_the_mark_goes_on() {
    let Some(mut bench) = bench(table(at(PODS[0], OWN_PORT))) else { return };
    for tos in [0, u32::from(SAMPLE_TOS)] {
        let seen = serve_once(&bench, |mut stream| {
            // The pod reflects the SYN's byte, which its accepted socket then has.
            let tos = SockRef::from(&stream).tos_v4().expect("a byte");
            stream.write_all(b"hello").expect("the process reads");
            let peer = stream.peer_addr().expect("a peer");
            (tos, peer)
        });
        bench.lab.pods[0].run(|| {
            std::fs::write("/proc/sys/net/ipv4/tcp_reflect_tos", "1").expect("the pod's root");
        });
        let client = bench.lab.client.run(move || {
            let mut stream = connect(tos);
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            assert_eq!(text, "hello");
            stream.local_addr().expect("an address")
        });
        let (tos_at_pod, upstream) = seen.recv_timeout(PATIENCE).expect("the pod was reached");
        assert_eq!(tos_at_pod, tos);
        let relay = Relay { client, upstream, backend: at(PODS[0], OWN_PORT) };
        let expected = if tos == 0 { vec![] } else { vec![relay] };
        assert_eq!(bench.installed().take_relays().expect("the process answers"), expected);
    }
    let taken = bench.installed().take_relays().expect("the process answers");
    assert_eq!(taken, [], "a relay is told once");
}

#[test]
fn a_clients_reset_reaches_the_pod_as_a_reset() {
    let Some(bench) = bench(table(at(PODS[0], OWN_PORT))) else { return };
    let seen = serve_once(&bench, |mut stream| {
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).expect("the request");
        stream.read(&mut buffer).map_err(|error| error.kind())
    });
    bench.lab.client.run(|| {
        let mut stream = connect(0);
        stream.write_all(b"hello").expect("the process reads");
        reset(stream);
    });
    let outcome = seen.recv_timeout(PATIENCE).expect("the pod was reached");
    assert_eq!(outcome, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_pods_reset_reaches_the_client_as_a_reset() {
    let Some(bench) = bench(table(at(PODS[0], OWN_PORT))) else { return };
    // After the request: a reset at once would be one while the process still connects.
    let _seen = serve_once(&bench, |mut stream| {
        stream.read_exact(&mut [0; 5]).expect("the request");
        reset(stream);
    });
    let outcome = bench.lab.client.run(|| {
        let mut stream = connect(0);
        stream.write_all(b"hello").expect("the process reads");
        stream.read(&mut [0; 5]).map_err(|error| error.kind())
    });
    assert_eq!(outcome, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    let Some(bench) = bench(table(at(PODS[0], OWN_PORT))) else { return };
    let _seen = serve_once(&bench, |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).expect("the client's end");
        stream.write_all(&request).expect("the process reads");
    });
    let answer = bench.lab.client.run(|| {
        let mut stream = connect(0);
        stream.write_all(b"hello").expect("the process reads");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(answer.expect("an answer"), "hello");
}

#[test]
fn ten_thousand_services_are_listened_for_and_the_last_one_answers() {
    let mut measured = table(at(PODS[0], PORTS[0]));
    let fill = Fill { services: 10_000, endpoints: 2, position: Position::Last, seed: 1 };
    let table = fill.table(vec![measured.services.remove(0)]).expect("fits");
    let Some(mut bench) = bench(table) else { return };
    let answer = answered(bench.lab.ask(VIP), "the last Service");
    let last = bench.table.services.len() - 1;
    let evidence = bench.prove(&probe(answer, VIP, last, 0)).expect("proved");
    assert!(evidence.iter().any(|line| line.contains("rule 10000 of 10000")), "{evidence:?}");
    bench.down();
}

#[test]
fn a_limit_of_open_files_that_is_too_small_is_named() {
    use std::process::{Command, Stdio};
    // Without the capability that raises it, which root may have.
    let agent = env!("CARGO_BIN_EXE_proxy-agent");
    let script = format!(
        "ulimit -n 1200 && exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \
         {agent} agent proxy"
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let portals: Vec<_> = (2_048..2_248)
        .map(|port| {
            format!(
                r#"{{"listen_port":{port},"endpoints":[],"affinity_seconds":null,"one_by_one":true,"family":"ipv4"}}"#
            )
        })
        .collect();
    let spec = format!("{{\"portals\":[{}]}}\n", portals.join(","));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(spec.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends with its input");
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.contains("is 1200, 200 Service ports need 1300"), "{answer}");
}
