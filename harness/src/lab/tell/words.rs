// SPDX-License-Identifier: Apache-2.0
//! What happens at a place, in a sentence for somebody who sees it for the first time.

use record::Leg;

use crate::capture::Site;
use crate::capture::packet::Direction;

/// Of a call of client or server.
pub(super) fn call(name: &str) -> &'static str {
    match name {
        "resolving" => {
            "The client has but a name, and asks the cluster's server of names for the address."
        }
        "query sent" => "The client asks the server of names, by UDP.",
        "answer read" => "The client has the answer and looks at it.",
        "connect called" => "The client asks its kernel for a TCP connection.",
        "connected" => "The client's kernel has the answer: the connection is open.",
        "accepted" => "The server holds the connection.",
        "handshake read" => "The server holds the next word of the TLS handshake.",
        "handshake answered" => "The server has its answer to that and writes it to its socket.",
        "handshake over" => {
            "The server knows the keys and that the client has them: it can decrypt."
        }
        "secured" => {
            "The client has checked the server's certificate, or knows the session again: it can encrypt."
        }
        "upgraded" => "The client has the server's word that it speaks WebSocket from here on.",
        "request written" => "The client writes the request to its socket.",
        "request read" => "The server has woken up and holds the request's bytes.",
        "response written" => "The server has its answer and writes it to its socket.",
        "first byte read" => "The client has woken up and holds the first byte of the answer.",
        "last byte read" => "The answer is complete.",
        _ => "",
    }
}

/// Of a packet at a probe.
pub(super) fn passage(site: Site, direction: Direction, leg: Leg, encapsulated: bool) -> String {
    let outward = direction == Direction::Out;
    let there = leg == Leg::Request;
    let words = match site {
        Site::ClientEth if outward => "The client's kernel hands the packet to its network card.",
        Site::ClientEth => "The packet is back at the client's network card.",
        Site::BalancerEth if outward => {
            "The load balancer passes it on: a proxy by the connection that it has on the other side, a router \
             as it is."
        }
        Site::BalancerEth => "The packet reaches the load balancer.",
        Site::IngressEth if outward && there => {
            "The ingress controller asks the backend, on a connection of its own."
        }
        Site::IngressEth if outward => "The ingress controller answers the client.",
        Site::IngressEth if there => "The packet reaches the pod of the ingress controller.",
        Site::IngressEth => "The backend's answer reaches the ingress controller.",
        Site::Nic if encapsulated && outward => {
            "The node sends it to the other node inside a UDP packet (VXLAN)."
        }
        Site::Nic if encapsulated => "It comes from the other node inside a UDP packet (VXLAN).",
        Site::Nic if outward => "The node puts the packet on the wire.",
        Site::Nic => "The packet reaches the node's network card.",
        Site::Bridge if outward => "The node hands the packet to the bridge its pods hang on.",
        Site::Bridge => "The bridge hands the packet up to the node.",
        Site::Vxlan if outward => "The tunnel device wraps the packet for the other node.",
        Site::Vxlan => "The tunnel device has unwrapped the packet.",
        Site::Ipvlan | Site::Macvlan if outward => {
            "The node's own slave of its network card hands the packet to the pod's."
        }
        Site::Ipvlan => "The pod's answer is for the node: it comes in by the node's own slave.",
        Site::Macvlan => "The pod's packet comes in by the node's own slave of its network card.",
        Site::PodVeth if outward => "The packet leaves by the cable that ends in the pod.",
        Site::PodVeth => "The packet comes out of the pod's cable on the node.",
        Site::PodEth if outward => "The pod's kernel hands the answer to its network card.",
        Site::PodEth => "The packet is in the pod.",
        Site::PreConntrack => "The node looks at the packet before it knows where to send it.",
        Site::Conntracked => "The node has looked up which connection the packet belongs to.",
        Site::Translated if there => {
            "Destination NAT is behind it: what was for a Service is for the chosen pod now."
        }
        Site::Translated => {
            "If the source had been replaced, the answer is for the real client again."
        }
        Site::LocalIn => "The packet is for the node itself: it goes up, not on.",
        Site::Forward => "The routing table knows the way: the packet is to be passed on.",
        Site::LocalOut => "The node itself sends the packet on.",
        Site::Postrouting => "The filter rules let it pass; it is about to leave.",
        Site::Masqueraded if there => {
            "If the answer has to come back by this node, the source is the node's now."
        }
        Site::Masqueraded => {
            "If the client asked a Service, the answer comes from the Service's address now."
        }
        Site::Readable => "The bytes are in the server's socket; whoever waits is woken.",
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_which_way_the_packet_passes_it() {
        let told = |site, direction| passage(site, direction, Leg::Request, false);
        for site in [Site::ClientEth, Site::Nic, Site::Bridge, Site::Vxlan, Site::PodVeth] {
            assert_ne!(told(site, Direction::In), told(site, Direction::Out), "{site:?}");
        }
        assert!(told(Site::Vxlan, Direction::Out).contains("wraps"));
    }

    #[test]
    fn every_call_a_walk_has_is_explained() {
        for name in [
            "resolving",
            "query sent",
            "answer read",
            "connect called",
            "connected",
            "accepted",
            "handshake read",
            "handshake answered",
            "handshake over",
            "secured",
            "upgraded",
            "request written",
            "request read",
            "response written",
            "first byte read",
            "last byte read",
        ] {
            assert!(!call(name).is_empty(), "{name}");
        }
    }
}
