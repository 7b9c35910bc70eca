// SPDX-License-Identifier: Apache-2.0
//! What can be measured with addresses of IPv6, and what cannot yet.

use crate::Unavailable;
use crate::net::Netns;
use crate::plan::{BalancerKind, Case, CniKind, IngressKind, IpFamily, Profile, Proxy, Road};

/// Smallest packet that a link has to carry, bytes (RFC 8200, section 5): with less a device has no IPv6.
const MTU_MIN: u32 = 1280;
/// What a tunnel takes of it: the header of IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14 bytes.
const VXLAN_BYTES: u32 = 70;

/// Whether a case's addresses can be had here, and all that it asks for with them.
///
/// # Errors
/// What there is none of.
pub(super) fn check(case: &Case, profile: &Profile, question: &Netns) -> Result<(), Unavailable> {
    if case.ip == IpFamily::Ipv4 {
        return Ok(());
    }
    let refused =
        |need: String, found: &str, remedy: &str| Err(Unavailable::new(need, found, remedy));
    if !question.run(|| std::path::Path::new("/proc/sys/net/ipv6").exists()) {
        let remedy = "a kernel with it, that was not started with ipv6.disable=1; or --ip ipv4";
        return refused("a kernel with CONFIG_IPV6".to_owned(), "one without", remedy);
    }
    let (lab, road) = (&profile.lab, case.route.road);
    if case.proxy != Proxy::Own {
        let need =
            format!("mode {} with addresses of IPv6", case.mode_label().trim_end_matches(".ipv6"));
        let remedy = "--ip ipv4, or rules of nic2pod's own";
        return refused(need, "a kube-proxy that is told of IPv4 alone", remedy);
    }
    if !case.cni.is_own() {
        let need = format!("pods of CNI {} with addresses of IPv6", case.cni_label());
        return refused(need, "a wiring of IPv4 alone", "--ip ipv4, or a CNI of nic2pod's own");
    }
    if case.cni == CniKind::Vxlan && lab.mtu < MTU_MIN + VXLAN_BYTES {
        let least = MTU_MIN + VXLAN_BYTES;
        let need = format!("lab.mtu of {least} bytes or more for IPv6 inside VXLAN");
        return refused(need, &lab.mtu.to_string(), "a larger lab.mtu, or --ip ipv4");
    }
    if lab.balancer == BalancerKind::Ipvs && road == Road::Loadbalancer {
        let need = "ip_vs before nodes with addresses of IPv6".to_owned();
        return refused(
            need,
            "a virtual server of IPv4 alone",
            "another lab.balancer, or --ip ipv4",
        );
    }
    if road.is_ingress() && lab.ingress != IngressKind::Embedded {
        let need = "a configuration of this ingress controller for IPv6".to_owned();
        return refused(need, "one for IPv4 alone", "lab.ingress = \"embedded\", or --ip ipv4");
    }
    Ok(())
}
