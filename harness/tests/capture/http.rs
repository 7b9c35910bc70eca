// SPDX-License-Identifier: Apache-2.0
//! A server, a client and a relay with marks, on plain sockets: fixed lengths, one read each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use harness::net::Netns;
use harness::relay::Relay;
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};
use workloads::protocol::{Mark, SAMPLE_TOS, Sample};

use crate::lab::POD_PORT;

pub(crate) const REQUEST_BYTES: usize = 100;
pub(crate) const RESPONSE_BYTES: usize = 3000;
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Serves `connections` connections one after the other or at once, each until its client closes,
/// then hands out the marks. Listens when this returns.
pub(crate) fn serve(pod: &Netns, connections: usize) -> std::thread::JoinHandle<Vec<Mark>> {
    pod.run(move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, POD_PORT)).unwrap();
        std::thread::spawn(move || {
            let handlers: Vec<_> = (0..connections)
                .map(|_| {
                    let (stream, _) = listener.accept().unwrap();
                    std::thread::spawn(move || serve_one(stream))
                })
                .collect();
            handlers.into_iter().flat_map(|handler| handler.join().unwrap()).collect()
        })
    })
}

fn serve_one(mut stream: TcpStream) -> Vec<Mark> {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    let (peer, local) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    let mut marks = Vec::new();
    let mut request = [0; REQUEST_BYTES];
    let response = [b'r'; RESPONSE_BYTES];
    loop {
        let first = stream.read(&mut request).unwrap();
        if first == 0 {
            return marks;
        }
        let read_ns = now_ns();
        stream.read_exact(&mut request[first..]).unwrap();
        let received_ns = now_ns();
        let number = marks.len() as u64;
        let written_ns = now_ns();
        stream.write_all(&response).unwrap();
        marks.push(Mark {
            id: None,
            peer,
            local,
            request_offset: number * REQUEST_BYTES as u64,
            response_offset: number * RESPONSE_BYTES as u64,
            read_ns,
            received_ns,
            written_ns,
            handshake: None,
        });
    }
}

/// Makes one connection with `requests` requests from `client`, marked or not.
pub(crate) fn request(client: &Netns, to: SocketAddr, requests: u64, marked: bool) -> Vec<Sample> {
    client.run(move || request_here(to, requests, marked))
}

pub(crate) fn request_here(to: SocketAddr, requests: u64, marked: bool) -> Vec<Sample> {
    let mut connection = Connection::open(to, marked);
    (0..requests).map(|_| connection.request()).collect()
}

/// Makes one marked connection and `requests` requests on it for each word from `wait`.
pub(crate) fn batches_here(
    to: SocketAddr,
    requests: u64,
    wait: mpsc::Receiver<()>,
    done: mpsc::Sender<Vec<Sample>>,
) {
    let mut connection = Connection::open(to, true);
    while wait.recv().is_ok() {
        done.send((0..requests).map(|_| connection.request()).collect()).unwrap();
    }
}

struct Connection {
    stream: TcpStream,
    client: SocketAddr,
    connect_ns: u64,
    connected_ns: u64,
    requests: u64,
}

impl Connection {
    fn open(to: SocketAddr, marked: bool) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if marked {
            socket.set_tos_v4(SAMPLE_TOS.into()).unwrap();
        }
        socket.set_tcp_nodelay(true).unwrap();
        let connect_ns = now_ns();
        socket.connect_timeout(&to.into(), LIMIT).unwrap();
        let connected_ns = now_ns();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let client = stream.local_addr().unwrap();
        Self { stream, client, connect_ns, connected_ns, requests: 0 }
    }

    fn request(&mut self) -> Sample {
        let number = self.requests;
        self.requests += 1;
        let mut response = [0; RESPONSE_BYTES];
        let sent_ns = now_ns();
        self.stream.write_all(&[b'q'; REQUEST_BYTES]).unwrap();
        let first = self.stream.read(&mut response).unwrap();
        let first_byte_ns = now_ns();
        assert!(first > 0, "the server closed");
        self.stream.read_exact(&mut response[first..]).unwrap();
        Sample {
            id: None,
            client: self.client,
            request_offset: number * REQUEST_BYTES as u64,
            response_offset: number * RESPONSE_BYTES as u64,
            intended_ns: sent_ns,
            resolve_ns: None,
            connect_ns: (number == 0).then_some(self.connect_ns),
            connected_ns: (number == 0).then_some(self.connected_ns),
            secured_ns: None,
            upgraded_ns: None,
            sent_ns,
            first_byte_ns,
            last_byte_ns: now_ns(),
        }
    }
}

/// A TCP proxy on the node that serves `connections` connections one after the other.
pub(crate) fn relay(
    node: &Netns,
    port: u16,
    backend: SocketAddr,
    connections: usize,
) -> mpsc::Receiver<Relay> {
    let (done, relays) = mpsc::channel();
    node.run(move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        std::thread::spawn(move || {
            for _ in 0..connections {
                let (front, peer) = listener.accept().unwrap();
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_tos_v4(SAMPLE_TOS.into()).unwrap();
                socket.set_tcp_nodelay(true).unwrap();
                socket.connect_timeout(&backend.into(), LIMIT).unwrap();
                let back = TcpStream::from(socket);
                let upstream = back.local_addr().unwrap();
                pump(front, back);
                done.send(Relay { client: peer, upstream, backend }).unwrap();
            }
        });
    });
    relays
}

/// Copies both ways until the client closes.
fn pump(front: TcpStream, back: TcpStream) {
    front.set_nodelay(true).unwrap();
    let (mut from_back, mut to_front) = (back.try_clone().unwrap(), front.try_clone().unwrap());
    let backwards = std::thread::spawn(move || std::io::copy(&mut from_back, &mut to_front));
    let (mut from_front, mut to_back) = (front, back);
    std::io::copy(&mut from_front, &mut to_back).unwrap();
    to_back.shutdown(std::net::Shutdown::Write).unwrap();
    backwards.join().unwrap().unwrap();
}
