// SPDX-License-Identifier: Apache-2.0
//! The load balancer of our own: the relaying process, with the nodes in turn.

use std::net::SocketAddr;
use std::path::Path;

use super::{PORT, Running};
use crate::lab::netns::NetnsError;
use crate::net::addresses::family;
use crate::net::{NetError, Netns};
use crate::relay::{Portal, Process};

#[derive(Debug)]
pub(super) struct Embedded(Process);

impl Embedded {
    pub(super) fn start(
        host: &Netns,
        program: &Path,
        backends: &[SocketAddr],
        proxy_protocol: bool,
    ) -> Result<Self, NetnsError> {
        let portal = Portal {
            listen_port: PORT,
            family: family(backends[0].ip()),
            endpoints: backends.to_vec(),
            affinity_seconds: None,
            one_by_one: false,
            proxy_protocol,
        };
        Ok(Self(Process::start(host, program, vec![portal])?))
    }
}

impl Running for Embedded {
    fn name(&self) -> &str {
        "the load balancer"
    }

    fn carried(&mut self) -> Result<Vec<(SocketAddr, u64)>, NetnsError> {
        Ok(self.0.carried(PORT)?)
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.0.down().map_err(NetError::os("end", "the load balancer"))?)
    }
}
