// SPDX-License-Identifier: Apache-2.0
//! What can be measured with addresses of IPv6, and what cannot yet.

use crate::Unavailable;
use crate::net::Netns;
use crate::plan::{Case, CniKind, IpFamily, Profile};

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
    if case.cni == CniKind::Vxlan && profile.lab.mtu < MTU_MIN + VXLAN_BYTES {
        let least = MTU_MIN + VXLAN_BYTES;
        let need = format!("lab.mtu of {least} bytes or more for IPv6 inside VXLAN");
        return refused(need, &profile.lab.mtu.to_string(), "a larger lab.mtu, or --ip ipv4");
    }
    Ok(())
}
