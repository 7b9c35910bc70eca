// SPDX-License-Identifier: Apache-2.0
//! A lab just big enough to see packets walk: a switch, a client, nodes, pods, and rules by hand.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use harness::capture::{Site, TapPoint};
use harness::net::{Netns, Tool};

pub(crate) const NODE_PORT: u16 = 30_080;
pub(crate) const POD_PORT: u16 = 8080;
pub(crate) const NODE1: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 11));

/// Namespaces and the taps to open on them: host's index, node, device, kind.
pub(crate) struct Lab {
    pub(crate) hosts: Vec<Netns>,
    points: Vec<(usize, Option<usize>, &'static str, Site)>,
}

pub(crate) const SWITCH: usize = 0;
pub(crate) const CLIENT: usize = 1;
pub(crate) const NODE: usize = 2;
pub(crate) const POD: usize = 3;
pub(crate) const NODE2: usize = 4;

impl Lab {
    /// Client and one node on a switch, a routed pod on the node. `None`, said aloud, where
    /// namespaces cannot be made.
    pub(crate) fn ptp() -> Option<Self> {
        let lab = Self::hosts(&["switch", "client", "node1", "pod1-1"])?;
        lab.switch(&[CLIENT, NODE]);
        lab.ip(CLIENT, "addr add 10.9.200.2/16 dev eth0");
        lab.ip(NODE, "addr add 10.9.0.11/16 dev eth0");
        lab.veth(NODE, "veth1", POD);
        lab.ip(NODE, "route add 10.244.0.5/32 dev veth1");
        lab.ip(NODE, "addr add 10.244.0.1/32 dev veth1");
        lab.ip(POD, "addr add 10.244.0.5/32 dev eth0");
        lab.ip(POD, "route add 10.244.0.1 dev eth0");
        lab.ip(POD, "route add default via 10.244.0.1 dev eth0");
        lab.nat("10.244.0.5");
        let points = vec![
            (CLIENT, None, "eth0", Site::ClientEth),
            (NODE, Some(0), "eth0", Site::Nic),
            (NODE, Some(0), "veth1", Site::PodVeth),
            (POD, Some(0), "eth0", Site::PodEth),
        ];
        Some(Self { points, ..lab })
    }

    /// The pod on a second node, behind a bridge and a VXLAN device, as flannel wires it.
    pub(crate) fn vxlan() -> Option<Self> {
        let lab = Self::hosts(&["switch", "client", "node1", "pod2-1", "node2"])?;
        lab.switch(&[CLIENT, NODE, NODE2]);
        lab.ip(CLIENT, "addr add 10.9.200.2/16 dev eth0");
        for (host, me, peer) in [(NODE, 0, 1), (NODE2, 1, 0)] {
            let (mine, other) = (11 + me, 11 + peer);
            lab.ip(host, &format!("addr add 10.9.0.{mine}/16 dev eth0"));
            let mac = |node| format!("02:00:00:00:00:{node:02x}");
            lab.ip(
                host,
                &format!(
                    "link add flannel.1 address {} type vxlan id 1 local 10.9.0.{mine} dev eth0 \
                     dstport 8472 nolearning",
                    mac(me)
                ),
            );
            lab.ip(host, "link set flannel.1 mtu 1450 up");
            lab.ip(host, &format!("addr add 10.244.{me}.0/32 dev flannel.1"));
            lab.ip(
                host,
                &format!(
                    "neigh add 10.244.{peer}.0 lladdr {} dev flannel.1 nud permanent",
                    mac(peer)
                ),
            );
            let fdb = format!("fdb append {} dev flannel.1 dst 10.9.0.{other}", mac(peer));
            lab.tool(host, "bridge", &fdb);
            lab.ip(
                host,
                &format!("route add 10.244.{peer}.0/24 via 10.244.{peer}.0 dev flannel.1 onlink"),
            );
        }
        lab.ip(NODE2, "link add cni0 type bridge");
        lab.ip(NODE2, "addr add 10.244.1.1/24 dev cni0");
        lab.ip(NODE2, "link set cni0 mtu 1450 up");
        lab.veth(NODE2, "veth1", POD);
        lab.ip(NODE2, "link set veth1 master cni0");
        lab.ip(POD, "link set eth0 mtu 1450");
        lab.ip(POD, "addr add 10.244.1.5/24 dev eth0");
        lab.ip(POD, "route add default via 10.244.1.1 dev eth0");
        lab.nat("10.244.1.5");
        let points = vec![
            (CLIENT, None, "eth0", Site::ClientEth),
            (NODE, Some(0), "eth0", Site::Nic),
            (NODE, Some(0), "flannel.1", Site::Vxlan),
            (NODE2, Some(1), "eth0", Site::Nic),
            (NODE2, Some(1), "flannel.1", Site::Vxlan),
            (NODE2, Some(1), "cni0", Site::Bridge),
            (NODE2, Some(1), "veth1", Site::PodVeth),
            (POD, Some(1), "eth0", Site::PodEth),
        ];
        Some(Self { points, ..lab })
    }

    pub(crate) fn points(&self) -> Vec<TapPoint<'_>> {
        self.points
            .iter()
            .map(|&(host, node, device, kind)| TapPoint {
                netns: &self.hosts[host],
                node,
                device,
                kind,
            })
            .collect()
    }

    fn hosts(names: &[&str]) -> Option<Self> {
        let mut hosts = Vec::new();
        for &name in names {
            match Netns::create(name) {
                Ok(host) => hosts.push(host),
                Err(error) => {
                    eprintln!("SKIP {error}");
                    return None;
                }
            }
        }
        let lab = Self { hosts, points: Vec::new() };
        for index in 0..lab.hosts.len() {
            lab.ip(index, "link set lo up");
            lab.sysctl(index, "net/ipv4/ip_forward", "1");
            lab.sysctl(index, "net/ipv4/tcp_reflect_tos", "1");
        }
        Some(lab)
    }

    fn switch(&self, members: &[usize]) {
        self.ip(SWITCH, "link add br0 type bridge");
        self.ip(SWITCH, "link set br0 up");
        for member in members {
            let port = format!("port{member}");
            self.veth(SWITCH, &port, *member);
            self.ip(SWITCH, &format!("link set {port} master br0"));
        }
    }

    /// A cable from `device` on one host to `eth0` on another.
    fn veth(&self, host: usize, device: &str, peer: usize) {
        let netns = self.hosts[peer].as_fd().as_raw_fd();
        let netns = format!("/proc/{}/fd/{netns}", std::process::id());
        self.ip(host, &format!("link add {device} type veth peer name eth0 netns {netns}"));
        self.ip(host, &format!("link set {device} up"));
        self.ip(peer, "link set eth0 up");
    }

    /// NodePort to pod and masquerade, as kube-proxy's nftables mode has them.
    fn nat(&self, pod: &str) {
        let rules = format!(
            "table ip t {{
               chain pre {{ type nat hook prerouting priority dstnat;
                 ip daddr {NODE1} tcp dport {NODE_PORT} meta mark set 0x4000 dnat to {pod}:{POD_PORT}; }}
               chain post {{ type nat hook postrouting priority srcnat;
                 meta mark 0x4000 masquerade fully-random; }}
             }}"
        );
        Tool::new("nft").args(["-f", "-"]).stdin(rules).run_on(&self.hosts[NODE]).unwrap();
    }

    pub(crate) fn ip(&self, host: usize, line: &str) {
        self.tool(host, "ip", line);
    }

    pub(crate) fn tool(&self, host: usize, program: &str, line: &str) {
        Tool::new(program).args(line.split_whitespace()).run_on(&self.hosts[host]).unwrap();
    }

    fn sysctl(&self, host: usize, name: &str, value: &'static str) {
        let path = format!("/proc/sys/{name}");
        self.hosts[host].run(move || std::fs::write(path, value)).unwrap();
    }
}
