// SPDX-License-Identifier: Apache-2.0
//! Which rules a connection meets: watched while it is made, told afterwards.

use std::net::SocketAddr;

use record::MatchedRule;

use super::{NodeView, Probe, ProxyError, ServiceTable};
use crate::net::NetError;
use crate::net::conntrack::{self, Tuple};
use crate::plan::Mode;

/// What one new connection met on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Rules and map entries that matched its first packet, in the order they did.
    pub rules: Vec<MatchedRule>,
    /// Rules tested for its first packet in all chains of all hooks on its way, those that did not
    /// match included. A look-up in a map or a set is part of the rule that makes it.
    pub walked: u64,
    /// Other objects of the kernel that decided: virtual servers, connection table entries, map
    /// entries, listening sockets.
    pub objects: Vec<String>,
    /// Endpoint that was chosen.
    pub endpoint: Option<SocketAddr>,
}

/// A node that is being watched. One connection, and only one, is made through the mode meanwhile.
pub trait Watch: std::fmt::Debug + Send {
    /// Stops watching and says what `probe`, the connection that was made, met.
    ///
    /// # Errors
    /// The kernel or its tool does not answer, or what was seen cannot be one connection.
    fn matched(
        self: Box<Self>,
        node: &NodeView<'_>,
        table: &ServiceTable,
        probe: &Probe,
    ) -> Result<Matched, ProxyError>;
}

/// What the node's connection tracking holds of the probe, in words; `None` where it tracks
/// nothing.
pub(super) fn conntrack_entry(
    mode: Mode,
    node: &NodeView<'_>,
    probe: &Probe,
) -> Result<Option<String>, ProxyError> {
    let tuple = Tuple::tcp(probe.client, probe.destination);
    let flow = conntrack::find(node.netns, tuple).map_err(net(mode))?;
    Ok(flow.map(|flow| {
        let state = flow.tcp_state.map_or(String::new(), |state| format!(", {state:?}"));
        format!("conntrack entry: tcp {}, answered by {}{state}", flow.original, flow.reply)
    }))
}

pub(super) fn net(mode: Mode) -> impl Fn(NetError) -> ProxyError {
    move |source| ProxyError::Net { mode, source }
}

pub(super) fn not_one(mode: Mode, node: &NodeView<'_>, what: String) -> ProxyError {
    ProxyError::NotOne { mode, host: node.name.to_owned(), what }
}
