// SPDX-License-Identifier: Apache-2.0
//! The seam between a run and a lab: a lab makes beds, a bed is one case ready to be measured.

use record::{Conntrack, Counts, Fidelity, Histogram, Leg, Probe, Proof, Walk};
use serde::{Deserialize, Serialize};
use workloads::protocol::PhaseReport;

use crate::kernel::KernelError;
use crate::plan::Case;
use crate::proxy::ProxyError;
use crate::{Cancel, Unavailable};

/// Why a case cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine lacks something: the case is skipped with the reason.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The hosts of the netns lab could not be made or proved.
    #[error(transparent)]
    Netns(#[from] super::netns::NetnsError),
    /// The kernel refused.
    #[error(transparent)]
    Net(#[from] crate::net::NetError),
    /// A tool or an agent failed.
    #[error(transparent)]
    Tool(#[from] crate::net::ToolError),
    /// The proxy mode could not be installed or proved.
    #[error(transparent)]
    Proxy(crate::proxy::ProxyError),
    /// The probes failed or contradict each other.
    #[error("{0}")]
    Capture(String),
    /// The run's certificates could not be made or used.
    #[error(transparent)]
    Certificates(#[from] crate::certificates::CertificateError),
    /// The path does not carry a request.
    #[error("failed to reach {target} from {client}: {found}")]
    Unreachable {
        /// Where from.
        client: String,
        /// Where to.
        target: String,
        /// What happened instead.
        found: String,
    },
    /// The kernel the case was to run on could not be booted, or its guest ended.
    #[error(transparent)]
    Kernel(KernelError),
    /// A cluster in Docker could not be made or used.
    #[cfg(feature = "kind")]
    #[error(transparent)]
    Kind(#[from] super::kind::ClusterError),
    /// A cluster's API server refused, or the cluster did not become what it was to become.
    #[cfg(feature = "kind")]
    #[error(transparent)]
    Kube(crate::kube::KubeError),
    /// What went wrong inside a guest, in its own words.
    #[error("{message}")]
    InGuest {
        /// One sentence.
        message: String,
        /// What the failing tool wrote to standard error.
        stderr: Option<String>,
    },
    /// The figures of an iteration are not what their names say.
    #[error("{0}")]
    Unsound(String),
    /// A stop was asked for.
    #[error("stopped on request")]
    Cancelled,
}

impl From<ProxyError> for LabError {
    /// What the machine lacks is a reason to skip, whoever found it out.
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error => Self::Proxy(error),
        }
    }
}

impl From<KernelError> for LabError {
    /// What the machine lacks is a reason to skip, whoever found it out.
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error => Self::Kernel(error),
        }
    }
}

#[cfg(feature = "kind")]
impl From<crate::kube::KubeError> for LabError {
    /// What the cluster lacks is a reason to skip.
    fn from(error: crate::kube::KubeError) -> Self {
        match error {
            crate::kube::KubeError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error => Self::Kube(error),
        }
    }
}

impl LabError {
    /// What the failing tool wrote to standard error, when a tool failed; of a guest, the last lines
    /// of its console.
    pub fn stderr(&self) -> Option<String> {
        use crate::net::{NetError, ToolError};
        let tool = match self {
            Self::Kernel(KernelError::Guest { console, .. }) => {
                return Some(console.clone()).filter(|text| !text.is_empty());
            }
            Self::InGuest { stderr, .. } => return stderr.clone(),
            Self::Tool(tool) | Self::Net(NetError::Tool(tool)) => tool,
            Self::Proxy(ProxyError::KubeProxy { log, .. }) => {
                return Some(log.clone()).filter(|text| !text.is_empty());
            }
            Self::Proxy(ProxyError::Tool { source, .. }) => source,
            Self::Proxy(ProxyError::Net { source: NetError::Tool(tool), .. }) => tool,
            _ => return None,
        };
        match tool {
            ToolError::Failed { stderr, .. }
            | ToolError::Silent { stderr, .. }
            | ToolError::Ended { stderr, .. } => {
                Some(stderr.clone()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }
}

/// A place where cases can be measured.
pub trait Lab {
    /// Its name, the first part of case ids.
    fn name(&self) -> &'static str;

    /// Builds a case's hosts, wires them, installs the proxy mode and proves both.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] where the machine lacks something, anything else where it should
    /// have worked.
    fn up(&self, case: &Case, cancel: &Cancel) -> Result<Box<dyn Bed>, LabError>;
}

/// One case, ready to be measured.
pub trait Bed {
    /// What is known before the first request.
    fn ready(&self) -> &Ready;

    /// Loads without measuring.
    ///
    /// # Errors
    /// The load generator or the path fails.
    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), LabError>;

    /// Runs one iteration.
    ///
    /// # Errors
    /// The load generator, the path or a probe fails.
    fn iterate(&mut self, cancel: &Cancel) -> Result<Iteration, LabError>;

    /// Takes everything down.
    fn down(self: Box<Self>) -> Down;
}

/// What is known of a bed before the first request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// How the mode was proved.
    pub proof: Proof,
    /// What times on the bed's kernel may be used for, where that differs from the run's.
    pub fidelity: Option<Fidelity>,
    /// Texts that were applied, for the record: file name and content.
    #[serde(with = "super::bytes::named")]
    pub files: Vec<(String, Vec<u8>)>,
    /// Rules and elements programmed on the entry node.
    pub rules: u64,
    /// What a reader of the figures has to know.
    pub notes: Vec<String>,
    /// Tuples that new connections may spend.
    pub tuple_budget: u64,
    /// Hosts, wiring and targets, milliseconds.
    pub lab_up_ms: f64,
    /// Rendering and programming the mode on every node, milliseconds.
    pub install_ms: f64,
    /// Proving CNI and mode, milliseconds.
    pub prove_ms: f64,
}

/// What one iteration gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Iteration {
    /// The load generator's figures.
    pub load: PhaseReport,
    /// The same load without any probe, right before or behind; `None` where there are no probes.
    pub unprobed: Option<PhaseReport>,
    /// What the probes saw; `None` under engine `client`.
    pub walks: Option<Walks>,
    /// Conntrack on the entry node after the iteration.
    pub conntrack: Option<Conntrack>,
}

/// Requests followed through the taps in one iteration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Walks {
    /// Stages in path order.
    pub stages: Vec<StageTimes>,
    /// End-to-end time minus its stages, `(value_ns, count)`.
    pub residual: Vec<(i64, u64)>,
    /// SYN at the node's NIC to SYN at the pod, new connections only.
    pub first_packet: Histogram,
    /// How long messages were on their way, to their last bytes.
    pub legs: LegWalks,
    /// Requests that were to be followed.
    pub sampled: u64,
    /// Requests whose every stage was found.
    pub joined: u64,
    /// Why others were not, by kind.
    pub unjoined: Vec<(String, u64)>,
    /// Queries for names; `None` where none are resolved.
    pub queries: Option<QueryWalks>,
    /// The probes themselves.
    pub probe: Probe,
    /// Exact figures of one request; `None` where the engine does not count.
    pub counts: Option<Counts>,
    /// Walks of the slowest followed requests, slowest first: at most `run.trace_slowest`.
    pub slowest: Vec<Walk>,
    /// A pcapng of the iteration, when asked for.
    #[serde(with = "super::bytes::optional")]
    pub pcap: Option<Vec<u8>>,
}

/// From the write of a message's first byte to the read of its last one at the other end, of the requests
/// that were followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LegWalks {
    /// Requests, nanoseconds.
    pub request: Histogram,
    /// Responses, nanoseconds.
    pub response: Histogram,
}

/// Queries followed through the taps in one iteration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryWalks {
    /// Stages of one query and its answer, in path order.
    pub stages: Vec<StageTimes>,
    /// A query's time minus its stages, `(value_ns, count)`.
    pub residual: Vec<(i64, u64)>,
    /// Queries that were to be followed.
    pub sampled: u64,
    /// Queries whose every stage was found.
    pub joined: u64,
    /// Why others were not, by kind.
    pub unjoined: Vec<(String, u64)>,
}

/// One stage's times in one iteration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageTimes {
    /// Name.
    pub name: String,
    /// Leg.
    pub leg: Leg,
    /// Times, nanoseconds.
    pub times: Histogram,
}

/// How taking down went.
pub struct Down {
    /// Until every process had ended and nothing held a namespace any more, milliseconds.
    pub ms: f64,
    /// Programming one Service more on the entry node before that, milliseconds; `None` unless
    /// `run.add_one` asks for it.
    pub add_one_ms: Option<f64>,
    /// What could not be taken down.
    pub errors: Vec<String>,
    /// Waits for the kernel to dismantle what was let go and returns what went wrong. Called once
    /// all beds of a group are down: the kernel does them together.
    pub settle: Box<dyn FnOnce() -> Vec<String>>,
}
