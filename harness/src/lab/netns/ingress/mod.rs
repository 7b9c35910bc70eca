// SPDX-License-Identifier: Apache-2.0
//! The ingress controller: a reverse proxy in the entry node's first pod, at a Service of its own. It ends
//! TLS, chooses a Service by host and path, and asks it at its cluster address, or its endpoints past it, in the
//! clear or by TLS again. Or it passes TLS through to a Service that it chooses by the name asked for.
//!
//! All that it does to a request is in one stage, from its pod's `eth0`, in, to `eth0`, out. Its connections
//! to backends are its own: which of them a request took is told by the request's id, so that any
//! program can be followed that hands headers on.

mod embedded;
mod haproxy;
mod nginx;
mod rules;

use std::net::IpAddr;
use std::path::Path;

use workloads::protocol::Protocol;

use self::embedded::Embedded;
use self::haproxy::Haproxy;
use self::nginx::Nginx;
use super::hosts::Pod;
use super::{Hosts, Measured, NetnsError, followed, road};
use crate::Unavailable;
use crate::certificates::{Certificates, INGRESS_NAME};
use crate::net::Netns;
use crate::plan::{Case, IngressKind, IngressTls, Mode, Profile, Road};

/// Host that the measured Service is asked for as.
pub(super) const HOST: &str = INGRESS_NAME;

/// A program that passes requests on.
trait Controller: std::fmt::Debug {
    /// Its name and version.
    fn name(&self) -> &str;

    /// Requests that it answered since the start; where TLS is passed through, connections that it took.
    fn answered(&mut self) -> Result<u64, NetnsError>;

    /// Ends it.
    fn stop(self: Box<Self>) -> Result<(), NetnsError>;
}

/// TLS at a controller, for a case that has it.
#[derive(Clone, Copy, Debug)]
struct Tls<'a> {
    kind: IngressTls,
    certificates: &'a Certificates,
}

/// The versions of HTTP that a controller is told; with TLS clients negotiate theirs.
#[derive(Clone, Copy, Debug, Default)]
struct Versions {
    /// Whether clients speak HTTP/2 in the clear, with prior knowledge.
    clear_http2: bool,
    /// Whether pods are asked over it: calls of gRPC cannot be asked otherwise. All else is asked over HTTP/1.1, as
    /// controllers do it.
    backends_http2: bool,
}

/// The ingress controller.
#[derive(Debug)]
pub struct Ingress {
    running: Box<dyn Controller>,
    /// Requests that it had answered when last asked.
    answered: u64,
    rules: usize,
    /// What it counts, and what becomes of TLS, for the evidence.
    counted: &'static str,
}

impl Ingress {
    /// Port that its pod answers at in the clear.
    pub(super) const PORT: u16 = 8081;
    /// The same for TLS.
    pub(super) const TLS_PORT: u16 = 8444;

    /// Whether there can be one for a case, with its program.
    ///
    /// # Errors
    /// What is missing.
    pub(in crate::lab) fn can_carry(
        profile: &Profile,
        case: &Case,
        scratch: &Netns,
    ) -> Result<(), Unavailable> {
        let (lab, workload) = (&profile.lab, &profile.workload[&case.workload]);
        let passes_tls = workload.tls.is_some() && lab.ingress_tls == IngressTls::Passthrough;
        Self::check(lab.ingress, passes_tls, scratch)
    }

    /// Whether the machine has the program, and what of it passes TLS through where that is asked for.
    ///
    /// # Errors
    /// What is missing.
    fn check(kind: IngressKind, passes_tls: bool, scratch: &Netns) -> Result<(), Unavailable> {
        if kind != IngressKind::Embedded {
            followed::check(scratch)?;
        }
        let (program, version) = match kind {
            IngressKind::Embedded => return Ok(()),
            IngressKind::Nginx if passes_tls => return super::nginx::check_stream(scratch),
            IngressKind::Nginx => ("nginx", super::nginx::version(scratch)),
            IngressKind::Haproxy => ("haproxy", super::haproxy::version(scratch)),
        };
        version.map(drop).map_err(|error| {
            let install = format!("apt-get install {program}");
            Unavailable::new(format!("program {program}"), error.to_string(), install)
        })
    }

    /// Shows that it answered requests since it was last asked.
    ///
    /// # Errors
    /// It answered none, or not this question.
    pub(super) fn prove(&mut self) -> Result<String, NetnsError> {
        let now = self.running.answered()?;
        let before = std::mem::replace(&mut self.answered, now);
        if now <= before {
            return Err(NetnsError::Ingress("it answered no request".to_owned()));
        }
        let (name, rules, answered) = (self.running.name(), self.rules, now - before);
        Ok(format!("{name}, with {rules} rules, counts {answered} {}", self.counted))
    }

    /// Ends its program.
    ///
    /// # Errors
    /// It would not end.
    pub(super) fn stop(self) -> Result<(), NetnsError> {
        self.running.stop()
    }
}

impl Hosts {
    /// Starts the ingress controller of a case, with a rule for each of its Services.
    ///
    /// # Errors
    /// Its program cannot be started or does not listen.
    pub(super) fn start_ingress(
        &mut self,
        kind: IngressKind,
        (program, scratch): (&Path, &Path),
        case: &Case,
        measured: &Measured,
        (protocol, tls): (Protocol, Option<(IngressTls, &Certificates)>),
    ) -> Result<(), NetnsError> {
        let tls = tls.map(|(kind, certificates)| Tls { kind, certificates });
        let versions = Versions {
            clear_http2: speaks_http2(protocol, tls.is_some()),
            backends_http2: protocol == Protocol::Grpc,
        };
        // Without Services there are only endpoints.
        let past = case.mode == Mode::None || case.route.road == Road::IngressEndpoints;
        let rules = rules::render(&rules::objects(&measured.table), &measured.table, past);
        let count = rules.len();
        let pod = &self.pods[road::CLIENT_POD];
        let running: Box<dyn Controller> = match kind {
            IngressKind::Embedded => Box::new(Embedded::start(pod, program, rules, versions, tls)?),
            IngressKind::Nginx => {
                Box::new(Nginx::start(pod, scratch, mark(pod)?, &rules, versions, tls)?)
            }
            IngressKind::Haproxy => {
                Box::new(Haproxy::start(pod, scratch, mark(pod)?, &rules, versions, tls)?)
            }
        };
        let counted = match tls.map(|tls| tls.kind) {
            None => "answered",
            Some(IngressTls::Edge) => "answered; TLS ends there",
            Some(IngressTls::Reencrypt) => {
                "answered; TLS ends there, and pods are asked by TLS again"
            }
            Some(IngressTls::Passthrough) => "connections; TLS is passed through",
        };
        self.ingress = Some(Ingress { running, answered: 0, rules: count, counted });
        Ok(())
    }
}

/// Whether clients of a protocol speak HTTP/2 with prior knowledge: in TLS it is negotiated.
pub(super) fn speaks_http2(protocol: Protocol, tls: bool) -> bool {
    protocol.is_http2() && !tls
}

/// Has the pod's followed connections marked; returns the address that the controller makes them from.
fn mark(pod: &Pod) -> Result<IpAddr, NetnsError> {
    let &source = pod.extra_addresses.first().ok_or_else(|| {
        NetnsError::Ingress(format!(
            "{} has one address, and needs another for the connections that are followed: raise \
             lab.pod_extra_addresses (plugins of others give none; --ingress embedded needs none)",
            pod.name
        ))
    })?;
    followed::mark(&pod.netns, &[Ingress::PORT, Ingress::TLS_PORT], source)
        .map_err(|error| NetnsError::Ingress(error.to_string()))?;
    Ok(source)
}
