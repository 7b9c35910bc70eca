// SPDX-License-Identifier: Apache-2.0
//! The smallest lab a proxy mode can be tested in: a client, a node, and two pods on the node that
//! answer each connection with their name and the peer they see.
//!
//! ```text
//! client 10.8.0.10 eth0 --- eth0 10.9.0.11 node 10.244.0.1 veth1 --- eth0 10.244.0.2 pod1
//!                                               10.244.0.1 veth2 --- eth0 10.244.0.3 pod2
//! ```
//!
//! Tests speak of these addresses. A lab of IPv6 has others in their places, and asks and answers for them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use harness::net::{Netns, Tool};
use harness::plan::IpFamily;
use harness::proxy::{Probe, ServiceTable};
use socket2::{Domain, SockRef, Socket, Type};

/// Name of the node in endpoints.
pub(crate) const NODE: &str = "node1";
/// Address of the client.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 10));
/// Another address of the client.
pub(crate) const CLIENT_2: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 11));
/// Address of the node's NIC.
pub(crate) const NIC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 11));
/// Address of the node on its pods' links.
pub(crate) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 1));
/// Addresses of the pods.
pub(crate) const PODS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2)), IpAddr::V4(Ipv4Addr::new(10, 244, 0, 3))];
/// Ports a pod listens at.
pub(crate) const PORTS: [u16; 2] = [8080, 8081];
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The lab. Its namespaces go when it is dropped.
pub(crate) struct Lab {
    family: IpFamily,
    pub(crate) client: Netns,
    pub(crate) node: Netns,
    pub(crate) pods: [Netns; 2],
    servers: Vec<Socket>,
}

/// What a pod answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Source of the connection as the client bound it.
    pub(crate) client: SocketAddr,
    /// Where the pod listens.
    pub(crate) backend: SocketAddr,
    /// Peer of the connection as the pod saw it.
    pub(crate) peer: SocketAddr,
}

impl Lab {
    /// Builds it, or says why not.
    pub(crate) fn up() -> Option<Self> {
        Self::up_for(IpFamily::Ipv4)
    }

    /// The same with addresses of a family.
    pub(crate) fn up_for(family: IpFamily) -> Option<Self> {
        let real = |ip| real(family, ip);
        // A host, a range, and how `ip` is to be called.
        let (one, run): (_, fn(&Netns, &str)) = match family {
            IpFamily::Ipv4 => (32, run),
            IpFamily::Ipv6 => (128, |host, command| match command.contains("address add") {
                true => run(host, &format!("-6 {command} nodad")),
                false => run(host, &format!("-6 {command}")),
            }),
        };
        let range = |a, b, bits: u8| match family {
            IpFamily::Ipv4 => format!("{a}.{b}.0.0/{bits}"),
            IpFamily::Ipv6 => format!("{}/{}", real(IpAddr::from([a, b, 0, 0])), bits + 32),
        };
        let client = match Netns::create("client") {
            Ok(client) => client,
            Err(error) => {
                eprintln!("SKIP {error}");
                return None;
            }
        };
        let create = |name: &str| Netns::create(name).expect("the first one could be made");
        let (node, pods) = (create("node1"), [create("pod1"), create("pod2")]);
        if family == IpFamily::Ipv6 && !client.run(|| Path::new("/proc/sys/net/ipv6").exists()) {
            eprintln!("SKIP the kernel has no IPv6");
            return None;
        }
        run(&client, "link set lo up");
        run(&node, "link set lo up");
        wire(&node, "eth0", &client);
        let [nic, asker, gateway] = [NIC, CLIENT, GATEWAY].map(real);
        run(&node, &format!("address add {nic}/{} dev eth0", one - 8));
        run(&client, &format!("address add {asker}/{one} dev eth0"));
        run(&client, &format!("address add {}/{one} dev eth0", real(CLIENT_2)));
        run(&client, &format!("route add {nic}/{one} dev eth0 src {asker}"));
        for range in [range(10, 96, 16), range(10, 112, 16), range(10, 244, 16)] {
            run(&client, &format!("route add {range} via {nic} src {asker}"));
        }
        run(&node, &format!("route add {} dev eth0", range(10, 8, 16)));
        // A node has a default route; without one a packet to an address that is not translated
        // would be answered before it meets the rules that refuse it. It leads elsewhere than back
        // to the client, or the kernel would send a redirect and, by its rate limit of one such
        // message for a destination, not the refusal (`inet_peer_xrlim_allow`).
        self::run(&node, "link add uplink0 type veth peer name uplink1");
        run(&node, "link set uplink0 up");
        run(&node, "link set uplink1 up");
        run(&node, "route add default dev uplink0");
        let mut lab = Self { family, client, node, pods, servers: Vec::new() };
        for (index, pod) in lab.pods.iter().enumerate() {
            let veth = format!("veth{}", index + 1);
            run(pod, "link set lo up");
            wire(&lab.node, &veth, pod);
            let address = real(PODS[index]);
            run(&lab.node, &format!("address add {gateway}/{one} dev {veth}"));
            run(&lab.node, &format!("route add {address}/{one} dev {veth}"));
            run(pod, &format!("address add {address}/{one} dev eth0"));
            run(pod, &format!("route add {gateway}/{one} dev eth0"));
            run(pod, &format!("route add default via {gateway}"));
            for port in PORTS {
                let address = SocketAddr::new(address, port);
                lab.servers.push(pod.run(move || serve(address)));
            }
        }
        lab.node.run(move || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root of the namespace");
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").expect("the same");
            if family == IpFamily::Ipv6 {
                std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("the same");
            }
        });
        Some(lab)
    }

    /// Asks `destination` from the client's address `source`.
    pub(crate) fn ask_from(
        &self,
        source: IpAddr,
        destination: SocketAddr,
    ) -> std::io::Result<Answer> {
        self.ask_from_port(SocketAddr::new(source, 0), destination)
    }

    /// Asks `destination` from the client's address and port `source`.
    pub(crate) fn ask_from_port(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> std::io::Result<Answer> {
        self.asked(&self.client, Some(source), destination)
    }

    /// Asks `destination` from the client.
    pub(crate) fn ask(&self, destination: SocketAddr) -> std::io::Result<Answer> {
        self.ask_from(CLIENT, destination)
    }

    /// Asks `destination` from a pod.
    pub(crate) fn ask_from_pod(
        &self,
        pod: usize,
        destination: SocketAddr,
    ) -> std::io::Result<Answer> {
        self.asked(&self.pods[pod], None, destination)
    }

    fn asked(
        &self,
        host: &Netns,
        source: Option<SocketAddr>,
        destination: SocketAddr,
    ) -> std::io::Result<Answer> {
        let (source, destination) = (source.map(|at| self.real_at(at)), self.real_at(destination));
        let Answer { client, backend, peer } = host.run(move || ask(source, destination))?;
        let [client, backend, peer] = [client, backend, peer].map(told);
        Ok(Answer { client, backend, peer })
    }

    /// The address that stands in an address's place here.
    pub(crate) fn real(&self, ip: IpAddr) -> IpAddr {
        real(self.family, ip)
    }

    fn real_at(&self, at: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.real(at.ip()), at.port())
    }

    /// A table with the addresses that stand in its addresses' places here.
    pub(crate) fn real_table(&self, table: &ServiceTable) -> ServiceTable {
        let mut table = table.clone();
        for service in &mut table.services {
            service.cluster_ip = self.real(service.cluster_ip);
            service.load_balancer_ips.iter_mut().for_each(|ip| *ip = self.real(*ip));
            for endpoint in service.ports.iter_mut().flat_map(|port| &mut port.endpoints) {
                endpoint.address = self.real_at(endpoint.address);
            }
        }
        table
    }

    /// The same of a claim.
    pub(crate) fn real_probe(&self, probe: &Probe) -> Probe {
        let Probe { client, destination, backend, .. } = probe.clone();
        let [client, destination, backend] =
            [client, destination, backend].map(|at| self.real_at(at));
        Probe { client, destination, backend, ..probe.clone() }
    }

    /// What nft calls its family.
    pub(crate) fn word(&self) -> &'static str {
        match self.family {
            IpFamily::Ipv4 => "ip",
            IpFamily::Ipv6 => "ip6",
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in &self.servers {
            // Wakes the thread that accepts (`inet_shutdown` of a listening socket).
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

/// What stands in an address's place: of 10.244.0.2, fd00:10:244::2.
fn real(family: IpFamily, ip: IpAddr) -> IpAddr {
    match (family, ip) {
        (IpFamily::Ipv6, IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            let digits = |number: u8| u16::from_str_radix(&number.to_string(), 16).expect("digits");
            Ipv6Addr::new(0xfd00, digits(a), digits(b), 0, 0, 0, c.into(), d.into()).into()
        }
        _ => ip,
    }
}

/// The address in whose place another stands.
fn told(at: SocketAddr) -> SocketAddr {
    let IpAddr::V6(ip) = at.ip() else { return at };
    let [_, a, b, .., c, d] = ip.segments();
    let number = |digits: u16| format!("{digits:x}").parse().expect("a number below 256");
    let octet = |number: u16| u8::try_from(number).expect("one of the lab's");
    SocketAddr::new(IpAddr::from([number(a), number(b), octet(c), octet(d)]), at.port())
}

/// Runs `ip` on a host; the test's own topology is no place for partial success.
pub(crate) fn run(host: &Netns, command: &str) {
    let args: Vec<&str> = command.split(' ').collect();
    if let Err(error) = Tool::new("ip").args(args).run_on(host) {
        panic!("{error}");
    }
}

/// A veth pair from `device` on the node to `eth0` on a host.
fn wire(node: &Netns, device: &str, host: &Netns) {
    use std::os::fd::AsFd;
    // Any path that leads to the namespace does: the descriptor is inherited by nobody, so the
    // path goes through this process.
    let path = format!("/proc/{}/fd/{}", std::process::id(), host.as_fd().as_raw_fd());
    run(node, &format!("link add {device} type veth peer name eth0 netns {path}"));
    run(node, &format!("link set {device} up"));
    run(host, "link set eth0 up");
}

fn serve(address: SocketAddr) -> Socket {
    let listener = TcpListener::bind(address).expect("the pod has the address");
    let handle = SockRef::from(&listener).try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            // A client that is gone has its answer already or wants none.
            let _ = writeln!(stream, "{address} {peer}");
        }
    });
    handle
}

fn ask(source: Option<SocketAddr>, destination: SocketAddr) -> std::io::Result<Answer> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
    if let Some(source) = source {
        // The last connection from there may not be acknowledged to its end yet.
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect_timeout(&destination.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [backend, peer] = words[..] else { return Err(ErrorKind::UnexpectedEof.into()) };
    let client = stream.local_addr()?;
    let parse = |text: &str| text.parse().expect("pods answer with addresses");
    Ok(Answer { client, backend: parse(backend), peer: parse(peer) })
}
