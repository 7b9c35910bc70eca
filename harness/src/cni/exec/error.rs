// SPDX-License-Identifier: Apache-2.0
//! Failures of plugins, each one sentence.

use std::net::IpAddr;
use std::process::ExitStatus;

use crate::net::ToolError;

/// A plugin failed, or did other than it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It says so, in the protocol's words.
    #[error(
        "plugin {plugin} failed at {verb} of {pod}: code {code}: {msg}{}",
        in_brackets(details)
    )]
    Refused {
        /// Its type.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// For which pod.
        pod: String,
        /// Up to 99 the protocol's own (CNI specification 1.0.0, section 5, "Error"), from 100 on the
        /// plugin's.
        code: u64,
        /// Short.
        msg: String,
        /// Longer; may be empty.
        details: String,
    },
    /// It ended without the protocol's words.
    #[error(
        "plugin {plugin} failed at {verb} of {pod}: {status}, and no CNI error on standard output ({reason}){}",
        in_brackets(stderr)
    )]
    Broken {
        /// Its type.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// For which pod.
        pod: String,
        /// How it ended.
        status: ExitStatus,
        /// What is wrong with what it wrote.
        reason: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// What it answered is no result.
    #[error("plugin {plugin} answered {verb} of {pod} with no CNI result: {reason}")]
    Answer {
        /// Its type.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// For which pod.
        pod: String,
        /// What is wrong.
        reason: String,
    },
    /// It could not be run to its end.
    #[error("failed to have plugin {plugin} do {verb} of {pod}: {source}")]
    Tool {
        /// Its type.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// For which pod.
        pod: String,
        /// What happened to the program.
        source: Box<ToolError>,
    },
    /// The pod has another address than the lab planned for it.
    #[error(
        "cni {cni} gave {pod} {found}, and not the planned {wanted}: its IPAM has to take the address of \
         CNI_ARGS (IP=...) or of the capability `ips`, from {{{{pod_cidr}}}}, as host-local and static do"
    )]
    Address {
        /// Name of the list.
        cni: String,
        /// Pod.
        pod: String,
        /// Planned.
        wanted: IpAddr,
        /// What the result has.
        found: String,
    },
    /// There is no folder for the plugins' state.
    #[error("failed to create a folder for the plugins' state: {0}")]
    State(std::io::Error),
}

fn in_brackets(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}
