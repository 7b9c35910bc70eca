// SPDX-License-Identifier: Apache-2.0
//! The network configuration that a node's container runtime reads: the reference plugins make the
//! pods' interfaces, everything between nodes is made through netlink (CNI specification 0.4.0,
//! "Network Configuration Lists").

use serde_json::{Value, json};

use crate::net::Cidr;
use crate::plan::CniKind;

/// Where container runtimes look for it; the first by name is taken.
pub(super) const DIRECTORY: &str = "etc/cni/net.d";
/// Its name, in front of others'.
pub(super) const FILE: &str = "05-nic2pod.conflist";
/// What a VXLAN packet has around the pods' (RFC 7348, section 5), bytes.
const VXLAN_OVERHEAD: u32 = 50;
/// Addresses of pods: behind the gateway's, and before those that pods get besides.
const POD_FIRST: u128 = 2;
const POD_LAST: u128 = 31;

/// The configuration of a node with this pod range; `None` for a CNI that is not made of the reference
/// plugins.
pub(super) fn conflist(cni: CniKind, pod_cidr: Cidr, mtu: u32) -> Option<Value> {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{
            "subnet": pod_cidr.to_string(),
            "rangeStart": pod_cidr.nth(POD_FIRST).to_string(),
            "rangeEnd": pod_cidr.nth(POD_LAST).to_string(),
            "gateway": pod_cidr.nth(1).to_string(),
        }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let plugin = match cni {
        CniKind::Vxlan => bridge(ipam, mtu - VXLAN_OVERHEAD),
        CniKind::Bridge => bridge(ipam, mtu),
        CniKind::Ptp => json!({ "type": "ptp", "ipMasq": false, "mtu": mtu, "ipam": ipam }),
        CniKind::Ipvlan
        | CniKind::Macvlan
        | CniKind::Exec
        | CniKind::Kindnet
        | CniKind::Flannel
        | CniKind::Calico
        | CniKind::Cilium => return None,
    };
    Some(json!({ "cniVersion": "0.4.0", "name": "nic2pod", "plugins": [plugin] }))
}

fn bridge(ipam: Value, mtu: u32) -> Value {
    json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "mtu": mtu,
        "ipam": ipam,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn of(cni: CniKind) -> Value {
        let pods = Cidr { address: IpAddr::from([10, 244, 1, 0]), prefix: 24 };
        conflist(cni, pods, 1500).unwrap()["plugins"][0].clone()
    }

    #[test]
    fn pods_have_addresses_between_the_gateways_and_those_they_get_besides() {
        let range = of(CniKind::Ptp)["ipam"]["ranges"][0][0].clone();
        assert_eq!(range["rangeStart"], "10.244.1.2");
        assert_eq!(range["rangeEnd"], "10.244.1.31");
        assert_eq!(range["gateway"], "10.244.1.1");
    }

    #[test]
    fn a_tunnel_leaves_room_for_itself_and_bridges_send_back() {
        assert_eq!(of(CniKind::Vxlan)["mtu"], 1450);
        assert_eq!(of(CniKind::Bridge)["mtu"], 1500);
        for cni in [CniKind::Vxlan, CniKind::Bridge] {
            assert_eq!(of(cni)["bridge"], "cni0");
            assert_eq!(of(cni)["hairpinMode"], true);
        }
        assert_eq!(of(CniKind::Ptp)["type"], "ptp");
    }
}
