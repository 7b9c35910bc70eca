// SPDX-License-Identifier: Apache-2.0
//! Rules that lead Services to the proxy process, as kube-proxy's userspace mode wrote them
//! (`iptablesInit`, `openPortal` in `pkg/proxy/userspace/proxier.go`, 1.25).

use std::net::{IpAddr, SocketAddr};

use super::super::iptables::restore::Restore;
use super::ports::{Port, Ports};
use crate::net::Cidr;

/// Bytes of text that a Service port takes, with room.
const PORT_RULES: usize = 320;

/// The whole ruleset: traffic from elsewhere is redirected to the process at the address of the
/// interface it came in by, the node's own is sent to the node's address.
pub(super) fn whole(ports: &Ports, node_address: IpAddr) -> (String, u64) {
    let mut restore = Restore::with_capacity(256, 1024 + ports.ports.len() * PORT_RULES);
    for chain in [
        "KUBE-PORTALS-CONTAINER",
        "KUBE-PORTALS-HOST",
        "KUBE-NODEPORT-CONTAINER",
        "KUBE-NODEPORT-HOST",
    ] {
        restore.nat.chain(chain);
    }
    restore.filter.chain("KUBE-NODEPORT-NON-LOCAL");
    jumps(&mut restore);
    for port in &ports.ports {
        write(&mut restore, port, node_address);
    }
    restore.whole()
}

/// The rules of the table's last Service.
pub(super) fn addition(ports: &Ports, node_address: IpAddr) -> String {
    let mut restore = Restore::with_capacity(0, 2048);
    for port in &ports.ports[ports.last..] {
        write(&mut restore, port, node_address);
    }
    restore.delta().0
}

fn jumps(restore: &mut Restore) {
    // Each is put before the ones above it: first the addresses of Services, then NodePorts, which
    // match any address of the node.
    let last = "handle service NodePorts; NOTE: this must be the last rule in the chain";
    let first = "handle ClusterIPs; NOTE: this must be before the NodePort rules";
    for (hook, portals, node_ports) in [
        ("PREROUTING", "KUBE-PORTALS-CONTAINER", "KUBE-NODEPORT-CONTAINER"),
        ("OUTPUT", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-HOST"),
    ] {
        restore.nat.jump(hook, "-m addrtype --dst-type LOCAL", last, node_ports);
        restore.nat.jump(hook, "", first, portals);
    }
    let flows = "Ensure that non-local NodePort traffic can flow";
    restore.filter.jump("INPUT", "", flows, "KUBE-NODEPORT-NON-LOCAL");
}

fn write(restore: &mut Restore, port: &Port, node_address: IpAddr) {
    let (name, to) = (&port.name, port.portal.listen_port);
    let here = SocketAddr::new(node_address, to);
    let nat = &mut restore.nat;
    for address in &port.addresses {
        let (ip, at) = (address.ip(), address.port());
        let ip = Cidr::host(ip);
        let of = format!("-m comment --comment {name} -p tcp -m tcp --dport {at} -d {ip}");
        nat.rule(format_args!("-A KUBE-PORTALS-CONTAINER {of} -j REDIRECT --to-ports {to}"));
        nat.rule(format_args!("-A KUBE-PORTALS-HOST {of} -j DNAT --to-destination {here}"));
    }
    let Some(at) = port.node_port else { return };
    let of = format!("-m comment --comment {name} -p tcp -m tcp --dport {at}");
    nat.rule(format_args!("-A KUBE-NODEPORT-CONTAINER {of} -j REDIRECT --to-ports {to}"));
    nat.rule(format_args!("-A KUBE-NODEPORT-HOST {of} -j DNAT --to-destination {here}"));
    restore.filter.rule(format_args!(
        "-A KUBE-NODEPORT-NON-LOCAL -m comment --comment {name} -p tcp -m tcp --dport {to} \
         -m conntrack --ctstate NEW -j ACCEPT"
    ));
}
