// SPDX-License-Identifier: Apache-2.0
//! The ingress controller of our own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use workloads::protocol::{IngressCommand, IngressReply, IngressRule, IngressSpec};

use super::{Controller, Ingress, Tls, Versions};
use crate::lab::netns::NetnsError;
use crate::lab::netns::hosts::Pod;
use crate::net::{Agent, NetError, ToolError};
use crate::plan::IngressTls;

/// How long it may take to listen and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Embedded(Agent);

fn failed(error: ToolError) -> NetnsError {
    NetnsError::Ingress(error.to_string())
}

impl Embedded {
    /// Starts it and waits until it listens.
    pub(super) fn start(
        pod: &Pod,
        program: &Path,
        rules: Vec<IngressRule>,
        Versions { backends_http2, .. }: Versions,
        tls: Option<Tls<'_>>,
    ) -> Result<Self, NetnsError> {
        let at = |port| vec![SocketAddr::new(pod.address, port)];
        let mut spec = IngressSpec {
            listen: at(Ingress::PORT),
            tls: None,
            passthrough: Vec::new(),
            backend_tls: None,
            backend_http2: backends_http2,
            rules,
        };
        if let Some(Tls { kind, certificates }) = tls {
            match kind {
                IngressTls::Passthrough => spec.passthrough = at(Ingress::TLS_PORT),
                IngressTls::Edge | IngressTls::Reencrypt => {
                    spec.tls = Some(certificates.target(at(Ingress::TLS_PORT)));
                }
            }
            spec.backend_tls = (kind == IngressTls::Reencrypt).then(|| certificates.backend());
        }
        let mut agent = Agent::start(&pod.netns, program, &["agent", "ingress"]).map_err(failed)?;
        agent.tell(&spec).map_err(failed)?;
        match agent.hear(PATIENCE).map_err(failed)? {
            IngressReply::Ready => Ok(Self(agent)),
            IngressReply::Failed(reason) => Err(NetnsError::Ingress(reason)),
            other @ IngressReply::Carried(_) => {
                Err(NetnsError::Ingress(format!("it answered {other:?}")))
            }
        }
    }
}

impl Controller for Embedded {
    fn name(&self) -> &str {
        "the ingress controller"
    }

    fn answered(&mut self) -> Result<u64, NetnsError> {
        self.0.tell(&IngressCommand::Count).map_err(failed)?;
        match self.0.hear(PATIENCE).map_err(failed)? {
            IngressReply::Carried(all) => Ok(all.iter().map(|(_, count)| count).sum()),
            other => Err(NetnsError::Ingress(format!("it answered {other:?}"))),
        }
    }

    fn stop(self: Box<Self>) -> Result<(), NetnsError> {
        Ok(self.0.down().map_err(NetError::os("end", "the ingress controller"))?)
    }
}
