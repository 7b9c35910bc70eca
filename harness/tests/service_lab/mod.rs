// SPDX-License-Identifier: Apache-2.0
//! The smallest lab in which a Service can be reached: a client, a node, two pods behind it.
//!
//! ```text
//! client 10.9.200.1 ---- eth0 10.9.0.11 node ---- pod1 10.244.0.2
//!        10.9.200.2                        \----- pod2 10.244.0.3
//! ```
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::net::addresses::POD_PORT;
use harness::net::{NetError, Netns, Tool};
use harness::proxy::NodeView;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const NODE: &str = "node1";
pub(crate) const NODE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 11));
pub(crate) const CLIENTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 9, 200, 1)), IpAddr::V4(Ipv4Addr::new(10, 9, 200, 2))];
pub(crate) const PODS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2)), IpAddr::V4(Ipv4Addr::new(10, 244, 0, 3))];

/// Longest an answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Lab {
    pub(crate) client: Netns,
    pub(crate) node: Netns,
    pub(crate) pods: [Netns; 2],
    servers: Vec<Server>,
    agent: PathBuf,
    scratch: PathBuf,
}

/// What a pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Pod, by its own word.
    pub(crate) pod: IpAddr,
    /// Who the pod saw.
    pub(crate) seen: SocketAddr,
    /// Who the client was.
    pub(crate) client: SocketAddr,
}

impl Lab {
    /// Builds it; `None`, and the reason on standard error, where namespaces are refused.
    pub(crate) fn up() -> Option<Self> {
        let create = |name: &str| Netns::create(name);
        let made: Result<_, NetError> =
            (|| Ok((create("client")?, create("node1")?, [create("pod1")?, create("pod2")?])))();
        let (client, node, pods) = match made {
            Ok(made) => made,
            Err(reason) => {
                eprintln!("SKIP {reason}");
                return None;
            }
        };
        wire(&client, &node, &pods);
        let servers = pods.iter().zip(PODS).map(|(pod, ip)| Server::start(pod, ip)).collect();
        let scratch = std::env::temp_dir();
        Some(Self { client, node, pods, servers, agent: PathBuf::new(), scratch })
    }

    pub(crate) fn view(&self) -> NodeView<'_> {
        NodeView {
            netns: &self.node,
            name: NODE,
            address: NODE_ADDRESS,
            nic: "eth0",
            agent: &self.agent,
            scratch: &self.scratch,
        }
    }
}

fn wire(client: &Netns, node: &Netns, pods: &[Netns; 2]) {
    ip(client, &["link set lo up"]);
    ip(node, &["link set lo up"]);
    link(node, "eth0", client);
    ip(
        client,
        &[
            "addr add 10.9.200.1/16 dev eth0",
            "addr add 10.9.200.2/16 dev eth0",
            "link set eth0 up",
            "route add default via 10.9.0.11",
        ],
    );
    ip(node, &["addr add 10.9.0.11/16 dev eth0", "link set eth0 up"]);
    // As every node has. Without it a packet for a Service that is not translated has no route, and
    // is refused before the FORWARD hook, where kube-proxy rejects or drops it.
    ip(node, &["route add default via 10.9.200.1"]);
    for (index, (pod, address)) in pods.iter().zip(PODS).enumerate() {
        let device = format!("pod{}", index + 1);
        link(node, &device, pod);
        ip(
            node,
            &[
                &format!("addr add 10.244.0.1/32 dev {device}"),
                &format!("link set {device} up"),
                &format!("route add {address}/32 dev {device}"),
            ],
        );
        ip(
            pod,
            &[
                "link set lo up",
                &format!("addr add {address}/32 dev eth0"),
                "link set eth0 up",
                "route add 10.244.0.1/32 dev eth0 scope link",
                "route add default via 10.244.0.1",
            ],
        );
    }
    node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
}

/// A veth pair from `device` on the node to `eth0` elsewhere.
fn link(node: &Netns, device: &str, elsewhere: &Netns) {
    let thread = elsewhere.run(nix::unistd::gettid);
    ip(node, &[&format!("link add {device} type veth peer name eth0 netns {thread}")]);
}

pub(crate) fn ip(host: &Netns, commands: &[&str]) {
    for command in commands {
        Tool::new("ip").args(command.split_whitespace()).run_on(host).unwrap();
    }
}

pub(crate) fn nft(host: &Netns, text: &str) -> String {
    Tool::new("nft").args(["-f", "-"]).stdin(text).run_on(host).unwrap()
}

/// Answers each connection with its own address and that of the peer, then closes.
struct Server {
    stop: Arc<AtomicBool>,
    wake: Box<dyn Fn() + Send>,
}

impl Server {
    fn start(pod: &Netns, address: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let listener =
            pod.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, POD_PORT))).unwrap();
        // A socket keeps the namespace it was made in, so the wake-up call can be made from here
        // with a second handle on the listener: shutting it down ends the accept.
        let handle = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A client that has gone is the client's business.
                let _ = write!(stream, "{address} {peer}");
            }
        });
        let wake = move || {
            let _ = nix::sys::socket::shutdown(
                std::os::fd::AsRawFd::as_raw_fd(&handle),
                nix::sys::socket::Shutdown::Both,
            );
        };
        Self { stop, wake: Box::new(wake) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        (self.wake)();
    }
}

/// Connects from a host and reads what the pod says.
pub(crate) fn ask(host: &Netns, from: Option<IpAddr>, to: SocketAddr) -> io::Result<Answer> {
    host.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let client = stream.local_addr()?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (pod, seen) = text.split_once(' ').ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Answer { pod: pod.parse().unwrap(), seen: seen.parse().unwrap(), client })
    })
}
