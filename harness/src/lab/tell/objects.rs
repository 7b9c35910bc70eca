// SPDX-License-Identifier: Apache-2.0
//! The kernel's objects at a place.

use crate::capture::packet::Message;
use crate::capture::{Segment, Site, TapInfo};
use crate::net::addresses::VXLAN_PORT;

/// What a packet passes at a probe, and what it is there.
pub(super) fn of(probe: &TapInfo, segment: &Segment) -> Vec<String> {
    let mut objects = Vec::new();
    if let Some(hook) = hook(probe.site) {
        objects.push(hook.to_owned());
    }
    if segment.encapsulated {
        objects.push(format!("inside VXLAN: UDP port {VXLAN_PORT}, network 1"));
    }
    let Segment { seq, ack, payload_bytes, names, .. } = segment;
    objects.push(match (names, probe.site) {
        (Some(Message { id, .. }), _) => format!("udp, {payload_bytes} bytes: DNS message {id}"),
        (None, Site::Readable) => {
            format!("tcp bytes {seq} to {}", seq.wrapping_add(*payload_bytes))
        }
        (None, _) => format!("tcp seq {seq} ack {ack}, {payload_bytes} bytes of data"),
    });
    objects
}

/// Hooks and functions by their names in the kernel.
fn hook(site: Site) -> Option<&'static str> {
    Some(match site {
        Site::PreConntrack => "NF_INET_PRE_ROUTING, before nf_conntrack_in (priority -200)",
        Site::Conntracked => "NF_INET_PRE_ROUTING, behind nf_conntrack_in (priority -200)",
        Site::Translated => "NF_INET_PRE_ROUTING, behind destination NAT (priority -100)",
        Site::LocalIn => "NF_INET_LOCAL_IN, first",
        Site::Forward => "NF_INET_FORWARD, first",
        Site::LocalOut => "NF_INET_LOCAL_OUT, first",
        Site::Postrouting => "NF_INET_POST_ROUTING, first",
        Site::Masqueraded => "NF_INET_POST_ROUTING, behind source NAT (priority 100)",
        Site::Readable => "tracepoint sock:sk_data_ready",
        _ => return None,
    })
}
