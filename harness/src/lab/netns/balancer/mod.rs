// SPDX-License-Identifier: Apache-2.0
//! The load balancer outside the cluster: a host that spreads the client's connections over the nodes'
//! NICs, at the Service's NodePort, as a cloud's does it.
//!
//! It is a proxy of the fourth layer: it accepts, connects and copies, so that the client's address
//! ends at it. Which nodes it has is the route's affair: those from which the pod that answers is where
//! the route says, on the same node or on another.
//!
//! Which of its two connections belong together it need not say: a request is found behind it from the
//! server's end.

mod embedded;
mod haproxy;
mod nginx;

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::path::Path;

use self::embedded::Embedded;
use self::haproxy::Haproxy;
use self::nginx::Nginx;
use super::{Hosts, Measured, NetnsError, road};
use crate::Unavailable;
use crate::net::Netns;
use crate::net::addresses::LOAD_BALANCER;
use crate::plan::{BalancerKind, Mode};

/// Port it listens at.
const PORT: u16 = 80;

/// A program that spreads connections over backends.
trait Running: std::fmt::Debug {
    /// Its name and version.
    fn name(&self) -> &str;

    /// Connections to each backend since the start.
    fn carried(&mut self) -> Result<Vec<(SocketAddrV4, u64)>, NetnsError>;

    /// Ends it.
    fn stop(self: Box<Self>) -> Result<(), NetnsError>;
}

/// The load balancer.
#[derive(Debug)]
pub struct Balancer {
    /// Nodes whose NICs it spreads connections over, indices.
    pub(super) nodes: Vec<usize>,
    // Before the namespace, so that it ends first.
    running: Option<Box<dyn Running>>,
    /// What the program had carried when last asked, by backend.
    carried: HashMap<SocketAddrV4, u64>,
    /// Its namespace, named `balancer`.
    pub netns: Netns,
}

impl Balancer {
    /// A host with nothing running on it yet.
    pub(super) fn new(netns: Netns, nodes: Vec<usize>) -> Self {
        Self { nodes, running: None, carried: HashMap::new(), netns }
    }

    /// Whether the machine has the program.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn check(kind: BalancerKind, scratch: &Netns) -> Result<(), Unavailable> {
        match kind {
            BalancerKind::Embedded => Ok(()),
            BalancerKind::Haproxy => super::haproxy::version(scratch).map(drop).map_err(|error| {
                Unavailable::new("program haproxy", error.to_string(), "apt-get install haproxy")
            }),
            BalancerKind::Nginx => nginx::check(scratch),
        }
    }

    /// Where clients connect to.
    pub fn address() -> SocketAddrV4 {
        SocketAddrV4::new(LOAD_BALANCER, PORT)
    }

    /// Shows that a connection passed through it since it was last asked, and to which backend.
    ///
    /// # Errors
    /// It carried none, or does not answer.
    pub(super) fn prove(&mut self) -> Result<String, NetnsError> {
        let Some(running) = &mut self.running else { return Err(NetnsError::BalancerIdle) };
        let mut passed_on = Vec::new();
        for (backend, now) in running.carried()? {
            let before = self.carried.insert(backend, now).unwrap_or(0);
            if now > before {
                passed_on.push(format!("{} to {backend}", now - before));
            }
        }
        if passed_on.is_empty() {
            return Err(NetnsError::BalancerIdle);
        }
        let (name, at) = (running.name(), Self::address());
        Ok(format!("{name} at {at} passed connections on: {}", passed_on.join(", ")))
    }

    /// Ends its program.
    ///
    /// # Errors
    /// It would not end.
    pub(super) fn stop(&mut self) -> Result<(), NetnsError> {
        self.running.take().map_or(Ok(()), |running| running.stop())
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
        (program, scratch): (&Path, &Path),
        mode: Mode,
        measured: &Measured,
    ) -> Result<(), NetnsError> {
        let backends = road::balanced_backends(self, mode, measured);
        let Some(balancer) = &mut self.balancer else { return Ok(()) };
        let host = &balancer.netns;
        balancer.running = Some(match kind {
            BalancerKind::Embedded => Box::new(Embedded::start(host, program, &backends)?),
            BalancerKind::Haproxy => Box::new(Haproxy::start(host, scratch, &backends)?),
            BalancerKind::Nginx => Box::new(Nginx::start(host, scratch, &backends)?),
        });
        Ok(())
    }
}
