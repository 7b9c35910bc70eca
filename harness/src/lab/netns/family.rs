// SPDX-License-Identifier: Apache-2.0
//! What can be measured with addresses of IPv6 or of both families, and what cannot yet.

use crate::Unavailable;
use crate::net::Netns;
use crate::plan::{Case, CniKind, IpFamily, Profile, Proxy};

/// Smallest packet that a link has to carry, bytes (RFC 8200, section 5): with less a device has no IPv6.
const MTU_MIN: u32 = 1280;
/// What a tunnel takes of it: the header of IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14 bytes.
const VXLAN_BYTES: u32 = 70;

/// Whether a case's addresses can be had here, and all that it asks for with them.
///
/// # Errors
/// What there is none of.
pub(super) fn check(case: &Case, profile: &Profile, question: &Netns) -> Result<(), Unavailable> {
    let refused =
        |need: String, found: &str, remedy: &str| Err(Unavailable::new(need, found, remedy));
    if case.ip.second().is_some() {
        if case.proxy == Proxy::KubeProxy {
            let need = "a kube-proxy for each family of a node with both".to_owned();
            return refused(need, "one process that has both", "--ip ipv4,ipv6, or --proxy own");
        }
        if case.cni == CniKind::Exec {
            let need = "plugins that give a pod an address of each family".to_owned();
            return refused(
                need,
                "a list that is told one range",
                "--ip ipv4,ipv6, or a CNI of ours",
            );
        }
    }
    if !case.ip.has(IpFamily::Ipv6) {
        return Ok(());
    }
    if !question.run(|| std::path::Path::new("/proc/sys/net/ipv6").exists()) {
        let remedy = "a kernel with it, that was not started with ipv6.disable=1; or --ip ipv4";
        return refused("a kernel with CONFIG_IPV6".to_owned(), "one without", remedy);
    }
    if case.cni == CniKind::Vxlan && profile.lab.mtu < MTU_MIN + VXLAN_BYTES {
        let least = MTU_MIN + VXLAN_BYTES;
        let need = format!("lab.mtu of {least} bytes or more for IPv6 inside VXLAN");
        return refused(need, &profile.lab.mtu.to_string(), "a larger lab.mtu, or --ip ipv4");
    }
    Ok(())
}
