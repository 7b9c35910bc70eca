// SPDX-License-Identifier: Apache-2.0
//! A connection of the harness's own by a case's road.

use std::net::SocketAddr;

use crate::lab::LabError;
use crate::lab::netns::beds::Ground;
use crate::lab::netns::greeting::{Greeting, Manner, greet, hold, knock};
use crate::lab::netns::measured::Measured;
use crate::lab::netns::road::Ask;
use crate::lab::netns::{Balancer, Hosts, ingress, road};
use crate::net::conntrack::{self, Flow, Tuple};
use crate::plan::{Case, IngressTls, Road};

/// A host of no rule.
const UNKNOWN_HOST: &str = "nobody.example";

/// Whether a connection to there has to begin with the PROXY protocol's preamble: a load balancer says it
/// itself.
pub(super) fn preamble(lab: &Hosts, destination: SocketAddr) -> bool {
    lab.proxied && destination != Balancer::address(lab.family())
}

/// Whether the ingress controller of a case is asked over HTTP/2 without TLS. Pods tell the versions apart.
pub(super) fn by_http2(ground: &Ground, case: &Case) -> bool {
    let workload = &ground.profile.workload[&case.workload];
    case.route.road.is_ingress() && ingress::speaks_http2(workload.protocol, workload.tls.is_some())
}

/// Makes a connection, and tells who accepted it. The ingress controller is asked for a host that it does not
/// know, and makes none of its own then.
pub(super) fn made(
    ground: &Ground,
    lab: &Hosts,
    case: &Case,
    measured: &Measured,
    ask: Ask,
    client: SocketAddr,
) -> Result<(SocketAddr, Greeting), LabError> {
    let Ask { from, destination, accepts, tls, .. } = ask;
    let certificates = ground.certificates_for(case)?.filter(|_| tls);
    let host = road::origin(lab, from);
    if let Some(accepts) = accepts {
        if certificates.is_some() && ground.profile.lab.ingress_tls == IngressTls::Passthrough {
            // It answers nobody itself.
            return Ok((accepts, hold(host, client, destination)?));
        }
        let (asked, name) = (UNKNOWN_HOST, ground.name(case.route.road));
        let http2 = by_http2(ground, case);
        let manner = Manner { asked, name, preamble: false, http2, certificates };
        return Ok((accepts, knock(host, client, destination, manner)?));
    }
    // Past the controller.
    let name = crate::certificates::NAME;
    let preamble = preamble(lab, destination);
    let manner = Manner { asked: ingress::HOST, name, preamble, http2: false, certificates };
    let greeting = greet(host, client, destination, manner)?;
    let answering = lab.pods().iter().find(|pod| pod.name == greeting.pod);
    let Some(pod) = answering else {
        return Err(LabError::Unreachable {
            client: client.to_string(),
            target: destination.to_string(),
            found: format!("an answer by `{}`, which is no pod of the lab", greeting.pod),
        });
    };
    Ok((SocketAddr::new(pod.address, measured.port), greeting))
}

/// Source of the n-th probe connection: ports that no load uses.
pub(super) fn source(lab: &Hosts, road: Road, nth: u16) -> SocketAddr {
    let address = road::sources(lab, road).addresses[0];
    SocketAddr::new(address, road::PROBE_PORT_FIRST + nth)
}

pub(super) fn flow(
    lab: &Hosts,
    client: SocketAddr,
    to: SocketAddr,
) -> Result<Option<Flow>, LabError> {
    Ok(conntrack::find(&lab.nodes()[0].netns, Tuple::tcp(client, to))?)
}
