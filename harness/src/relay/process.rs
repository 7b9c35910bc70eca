// SPDX-License-Identifier: Apache-2.0
//! The process as the harness sees it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Relay;
use super::spec::{Command, Portal, Reply, Spec};
use crate::net::{Agent, Netns, ToolError};

/// Opening 10,000 ports takes a tenth of a second; a loaded machine may need a hundred times that.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process does not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// It cannot be started or talked to.
    #[error("failed to {op} the relaying process: {source}")]
    Tool {
        /// `start the process behind`, `install`, `add to`, `follow`, `read back`, `hear the process behind`.
        op: &'static str,
        /// What went wrong.
        source: ToolError,
    },
    /// It says why it cannot.
    #[error("the relaying process gave up: {0}")]
    Refused(String),
}

/// A running process. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    agent: Agent,
}

fn failed(op: &'static str) -> impl Fn(ToolError) -> RelayError {
    move |source| RelayError::Tool { op, source }
}

impl Process {
    /// Starts `program agent proxy` on a host and waits until it listens.
    pub(crate) fn start(
        host: &Netns,
        program: &Path,
        portals: Vec<Portal>,
    ) -> Result<Self, RelayError> {
        let agent = Agent::start(host, program, &["agent", "proxy"])
            .map_err(failed("start the process behind"))?;
        let mut process = Self { agent };
        process.agent.tell(&Spec { portals }).map_err(failed("install"))?;
        process.expect_listening()?;
        Ok(process)
    }

    /// Opens more ports and waits until they are.
    pub(crate) fn open(&mut self, portals: Vec<Portal>) -> Result<(), RelayError> {
        self.agent.tell(&Command::Open(Spec { portals })).map_err(failed("add to"))?;
        self.expect_listening()
    }

    fn expect_listening(&mut self) -> Result<(), RelayError> {
        match self.hear()? {
            Reply::Listening(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Relays since the last call, oldest first.
    pub(crate) fn take_relays(&mut self) -> Result<Vec<Relay>, RelayError> {
        self.agent.tell(&Command::TakeRelays {}).map_err(failed("follow"))?;
        match self.hear()? {
            Reply::Relays { relays, not_kept: 0 } => Ok(relays),
            Reply::Relays { not_kept, .. } => Err(RelayError::Refused(format!(
                "{not_kept} sampled connections were not remembered; sample fewer (sample_every)"
            ))),
            other => Err(unexpected(&other)),
        }
    }

    /// Connections to each endpoint of a port since the start.
    pub(crate) fn carried(
        &mut self,
        listen_port: u16,
    ) -> Result<Vec<(SocketAddr, u64)>, RelayError> {
        self.agent.tell(&Command::Count { listen_port }).map_err(failed("read back"))?;
        match self.hear()? {
            Reply::Carried(carried) => Ok(carried),
            other => Err(unexpected(&other)),
        }
    }

    fn hear(&mut self) -> Result<Reply, RelayError> {
        self.agent.hear(PATIENCE).map_err(failed("hear the process behind"))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.agent.pid()
    }

    /// Ends it.
    pub(crate) fn down(self) -> std::io::Result<()> {
        self.agent.down()
    }
}

fn unexpected(reply: &Reply) -> RelayError {
    match reply {
        Reply::Failed(message) => RelayError::Refused(message.clone()),
        other => RelayError::Refused(format!("the process answered {other:?}")),
    }
}
