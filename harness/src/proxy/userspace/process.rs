// SPDX-License-Identifier: Apache-2.0
//! The proxy process as the harness sees it.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::super::{NodeView, ProxyError, Relay};
use super::ports::Port;
use super::spec::{Command, Reply, Spec};
use crate::net::{Agent, ToolError};
use crate::plan::Mode;

/// Opening 10,000 ports takes a tenth of a second; a loaded machine may need a hundred times that.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy process. Ends when dropped.
#[derive(Debug)]
pub(super) struct Process {
    agent: Agent,
}

fn failed(op: &'static str) -> impl Fn(ToolError) -> ProxyError {
    move |source| ProxyError::Tool { op, mode: Mode::Userspace, source }
}

fn spec(ports: &[Port]) -> Spec {
    Spec { services: ports.iter().map(|port| port.portal.clone()).collect() }
}

impl Process {
    /// Starts it and waits until it listens.
    pub(super) fn start(node: &NodeView<'_>, ports: &[Port]) -> Result<Self, ProxyError> {
        let agent = Agent::start(node.netns, node.agent, &["agent", "proxy"])
            .map_err(failed("start the process behind"))?;
        let mut process = Self { agent };
        process.agent.tell(&spec(ports)).map_err(failed("install"))?;
        process.expect_listening()?;
        Ok(process)
    }

    /// Opens more ports and waits until they are.
    pub(super) fn open(&mut self, ports: &[Port]) -> Result<(), ProxyError> {
        self.agent.tell(&Command::Open(spec(ports))).map_err(failed("add to"))?;
        self.expect_listening()
    }

    fn expect_listening(&mut self) -> Result<(), ProxyError> {
        match self.hear()? {
            Reply::Listening(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Relays since the last call, oldest first.
    pub(super) fn take_relays(&mut self) -> Result<Vec<Relay>, ProxyError> {
        self.agent.tell(&Command::TakeRelays {}).map_err(failed("follow"))?;
        match self.hear()? {
            Reply::Relays { relays, not_kept: 0 } => Ok(relays),
            Reply::Relays { not_kept, .. } => Err(unsupported(format!(
                "{not_kept} sampled connections were not remembered; sample fewer (sample_every)"
            ))),
            other => Err(unexpected(&other)),
        }
    }

    /// Connections to each endpoint of a port since the start.
    pub(super) fn carried(
        &mut self,
        listen_port: u16,
    ) -> Result<Vec<(SocketAddrV4, u64)>, ProxyError> {
        self.agent.tell(&Command::Count { listen_port }).map_err(failed("read back"))?;
        match self.hear()? {
            Reply::Carried(carried) => Ok(carried),
            other => Err(unexpected(&other)),
        }
    }

    fn hear(&mut self) -> Result<Reply, ProxyError> {
        self.agent.hear(PATIENCE).map_err(failed("hear the process behind"))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.agent.pid()
    }

    /// Ends it.
    pub(super) fn down(self) -> std::io::Result<()> {
        self.agent.down()
    }
}

fn unsupported(what: String) -> ProxyError {
    ProxyError::Unsupported { mode: Mode::Userspace, what }
}

fn unexpected(reply: &Reply) -> ProxyError {
    match reply {
        Reply::Failed(message) => unsupported(message.clone()),
        other => unsupported(format!("the process answered {other:?}")),
    }
}
