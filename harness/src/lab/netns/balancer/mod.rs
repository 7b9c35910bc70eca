// SPDX-License-Identifier: Apache-2.0
//! The load balancer outside the cluster: a host that spreads the client's connections over the nodes'
//! NICs, at the Service's NodePort, as a cloud's does it.
//!
//! It is a proxy of the fourth layer: it accepts, connects and copies, so that the client's address
//! ends at it. Which nodes it has is the route's affair: those from which the pod that answers is where
//! the route says, on the same node or on another.
//!
//! Or it is a router or ip_vs, which hand packets on as they are to the Service's LoadBalancer address, and which the
//! answers do not pass.
//!
//! Which of its two connections belong together it need not say: a request is found behind it from the
//! server's end.

mod embedded;
mod envoy;
mod haproxy;
mod ipvs;
mod nginx;
mod router;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use self::embedded::Embedded;
use self::envoy::Envoy;
use self::haproxy::Haproxy;
use self::ipvs::Ipvs;
use self::nginx::Nginx;
use self::router::Router;
use super::settings::Role;
use super::{Hosts, Measured, NetnsError, followed, road};
use crate::Unavailable;
use crate::net::Netns;
use crate::net::addresses::{family, load_balancer, load_balancer_followed};
use crate::plan::{BalancerKind, Case, IpFamily, IpvsScheduler, Profile};

/// Port it listens at.
const PORT: u16 = 80;
/// How long it may take to count a connection that has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const GLANCE: Duration = Duration::from_millis(10);

/// A program that spreads connections over backends.
trait Running: std::fmt::Debug {
    /// Its name and version.
    fn name(&self) -> &str;

    /// Connections to each backend since the start.
    fn carried(&mut self) -> Result<Vec<(SocketAddr, u64)>, NetnsError>;

    /// Ends it.
    fn stop(self: Box<Self>) -> Result<(), NetnsError>;
}

/// By what it passes on.
#[derive(Debug)]
enum Means {
    Program(Box<dyn Running>),
    Router(Router),
    Ipvs(Ipvs),
}

/// The load balancer.
#[derive(Debug)]
pub struct Balancer {
    /// Nodes whose NICs it spreads connections over, indices.
    pub(super) nodes: Vec<usize>,
    /// Whether it hands packets on as they are, and answers do not pass it.
    routes: bool,
    // Before the namespace, so that it ends first.
    means: Option<Means>,
    /// What the program had carried when last asked, by backend.
    carried: HashMap<SocketAddr, u64>,
    /// Its namespace, named `balancer`.
    pub netns: Netns,
}

impl Balancer {
    /// A host with nothing running on it yet.
    pub(super) fn new(netns: Netns, nodes: Vec<usize>, routes: bool) -> Self {
        Self { nodes, routes, means: None, carried: HashMap::new(), netns }
    }

    /// Whether it hands packets on as they are, and answers do not pass it.
    pub(super) fn routes(&self) -> bool {
        self.routes
    }

    /// What it is to the path.
    pub(super) fn role(&self) -> Role {
        if self.routes { Role::Router } else { Role::Balancer }
    }

    /// Whether there can be one for a case that has a road by it.
    ///
    /// # Errors
    /// What is missing.
    pub(in crate::lab) fn can_carry(
        profile: &Profile,
        case: &Case,
        scratch: &Netns,
    ) -> Result<(), Unavailable> {
        let kind = profile.lab.balancer;
        Self::check(kind, scratch)?;
        let external = profile.service.external_policy;
        let entries = road::balanced(case, profile.lab.nodes, external).len();
        if kind.routes() && entries > 1 {
            return Err(Unavailable::new(
                "a single node that packets are led to",
                format!("{entries} nodes with a part in the route"),
                "lab.balancer = \"embedded\", or external_policy = \"cluster\"",
            ));
        }
        Ok(())
    }

    /// Whether the machine has the program.
    fn check(kind: BalancerKind, scratch: &Netns) -> Result<(), Unavailable> {
        match kind {
            BalancerKind::Embedded | BalancerKind::Router => Ok(()),
            BalancerKind::Haproxy => {
                followed::check(scratch)?;
                super::haproxy::version(scratch).map(drop).map_err(|error| {
                    let remedy = "apt-get install haproxy";
                    Unavailable::new("program haproxy", error.to_string(), remedy)
                })
            }
            BalancerKind::Nginx => {
                followed::check(scratch)?;
                super::nginx::check_stream(scratch)
            }
            BalancerKind::Envoy => {
                followed::check(scratch)?;
                envoy::check(scratch)
            }
            BalancerKind::Ipvs => ipvs::has_servers(scratch, IpvsScheduler::Rr),
        }
    }

    /// Where clients connect to.
    pub fn address(family: IpFamily) -> SocketAddr {
        SocketAddr::new(load_balancer(family), PORT)
    }

    /// Shows that a connection passed through it since it was last asked, and to which backend.
    ///
    /// # Errors
    /// It carried none, or does not answer.
    pub(super) fn prove(&mut self, family: IpFamily) -> Result<String, NetnsError> {
        let running = match &mut self.means {
            None => return Err(NetnsError::BalancerIdle),
            Some(Means::Ipvs(ipvs)) => return ipvs.passed(&self.netns),
            Some(Means::Router(router)) => {
                let forwarded = router.forwarded(&self.netns)?;
                let at = load_balancer(family);
                return Ok(format!("the router {at} handed {forwarded} packets on"));
            }
            Some(Means::Program(running)) => running,
        };
        let mut passed_on = Vec::new();
        // nginx tells of a connection when it has seen its end.
        let deadline = Instant::now() + PATIENCE;
        while passed_on.is_empty() {
            for (backend, now) in running.carried()? {
                let before = self.carried.insert(backend, now).unwrap_or(0);
                if now > before {
                    passed_on.push(format!("{} to {backend}", now - before));
                }
            }
            if passed_on.is_empty() && Instant::now() > deadline {
                return Err(NetnsError::BalancerIdle);
            }
            if passed_on.is_empty() {
                std::thread::sleep(GLANCE);
            }
        }
        let (name, at) = (running.name(), Self::address(family));
        Ok(format!("{name} at {at} passed connections on: {}", passed_on.join(", ")))
    }

    /// Ends its program, or the virtual server.
    ///
    /// # Errors
    /// It would not end.
    pub(super) fn stop(&mut self) -> Result<(), NetnsError> {
        match self.means.take() {
            Some(Means::Program(running)) => running.stop(),
            Some(Means::Ipvs(ipvs)) => ipvs.stop(&self.netns),
            Some(Means::Router(_)) | None => Ok(()),
        }
    }
}

impl Hosts {
    /// Starts the load balancer, where there is one, in front of a case's nodes or pods.
    ///
    /// # Errors
    /// Its program cannot be started or does not listen.
    pub(super) fn start_balancer(
        &mut self,
        kind: BalancerKind,
        (agents, scratch): (&Path, &Path),
        case: &Case,
        measured: &Measured,
    ) -> Result<(), NetnsError> {
        let backends = road::balanced_backends(self, case.mode, measured);
        let service = road::beyond_balancer(self, case, measured);
        let entry = self.entries().first().map(|&node| self.nodes[node].address);
        let proxied = self.proxied;
        let Some(balancer) = &mut self.balancer else { return Ok(()) };
        let host = &balancer.netns;
        // What a program of others is given: a folder, and rules that have it followed.
        let followed = || -> Result<_, NetnsError> {
            followed::mark(host, &[PORT], load_balancer_followed(family(backends[0].ip())))
                .map_err(|error| NetnsError::Balancer(error.to_string()))?;
            followed::folder("balancer-", scratch)
        };
        balancer.means = Some(match kind {
            BalancerKind::Embedded => {
                Means::Program(Box::new(Embedded::start(host, agents, &backends, proxied)?))
            }
            BalancerKind::Haproxy => {
                Means::Program(Box::new(Haproxy::start(host, &followed()?, &backends, proxied)?))
            }
            BalancerKind::Nginx => {
                Means::Program(Box::new(Nginx::start(host, &followed()?, &backends, proxied)?))
            }
            BalancerKind::Envoy => {
                Means::Program(Box::new(Envoy::start(host, &followed()?, &backends, proxied)?))
            }
            BalancerKind::Router => Means::Router(Router::start(host)?),
            BalancerKind::Ipvs => {
                let entry = entry.ok_or(NetnsError::BalancerIdle)?;
                Means::Ipvs(Ipvs::start(host, service, entry)?)
            }
        });
        Ok(())
    }
}
